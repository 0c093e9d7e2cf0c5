"""The official clients against servers.py, so that what pg-fetch is tested against is known to be faithful.
Usage: interop.py ROOT OUT; the endpoints are in the environment."""
import os
import sys


def same(path, *original):
    with open(path, "rb") as a, open(os.path.join(root, *original), "rb") as b:
        if a.read() != b.read():
            sys.exit("%s differs" % path)


def hub():
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RevisionNotFoundError

    for error, call in ((GatedRepoError, lambda: hf_hub_download("gated/pg", "model.safetensors", token=False)),
                        (EntryNotFoundError, lambda: hf_hub_download("google/pg", "none.json")),
                        (RevisionNotFoundError, lambda: HfApi().model_info("google/pg", revision="none"))):
        try:
            call()
        except error:
            continue
        sys.exit("no %s" % error.__name__)
    folder = snapshot_download("google/pg", token="hf_good")
    for name in ("config.json", "tokenizer.model", "model-00001-of-00002.safetensors", "x/model.safetensors"):
        same(os.path.join(folder, name), "hub/google/pg", name)
    same(hf_hub_download("gated/pg", "model.safetensors", token="hf_good"), "hub/gated/pg/model.safetensors")


def kaggle():
    import kagglehub

    name = "paligemma-3b-pt-224.f16.npz"
    path = kagglehub.model_download("google/paligemma/jax/paligemma-3b-pt-224", name)
    same(path, "kaggle/google/paligemma/jax/paligemma-3b-pt-224/1", name)


def storage():
    from google.cloud import storage as gcs

    client = gcs.Client.create_anonymous_client()
    bucket = client.bucket("longcap100")
    names = sorted(b.name for b in client.list_blobs(bucket))
    if names != sorted(os.listdir(os.path.join(root, "storage/longcap100"))):
        sys.exit("the listing differs: %s" % names)
    for name in names:
        path = os.path.join(out, name)
        bucket.blob(name).download_to_filename(path)  # checks md5 or crc32c itself
        same(path, "storage/longcap100", name)
    blob = client.bucket("odd").blob("a b#c%d?\u00e9.txt")
    if blob.download_as_bytes() != b"foo":
        sys.exit("the odd name differs")


root, out = sys.argv[1:]
for client in (hub, kaggle, storage):
    client()
    print(client.__name__, "ok")
