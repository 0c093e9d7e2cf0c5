"""What transformers and PEFT make of our files, and we of theirs. Prints a line for each check; ends with `N passed, N failed`.

Log-probabilities of the golden texts are compared, which hang on every weight: the tower, its head, both kinds of mask, the embedding.
The limit of 2e-4 on their sum over a text is a tenth of what the smallest mistake of tests/golden/model/README.md moves; two correct
float32 programs differ by less than 2e-5 here.
"""
import os
import shutil
import subprocess
import sys
import tempfile

import msgpack
import msgpack_numpy
import numpy as np
import torch
import transformers
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

BUILD = sys.argv[1]
GOLDEN = "tests/golden/model/"
LIMIT = 2e-4
tmp = tempfile.mkdtemp(prefix="pg-interop-")
transformers.logging.set_verbosity_error()
passed = failed = 0


def check(what, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(("ok      " if good else "FAILED  ") + what, detail)


def run(command, data=None):
    """A shell line with our programs on the path; its output. 4: some records carry errors."""
    env = dict(os.environ, PATH=os.path.abspath(BUILD) + os.pathsep + os.environ["PATH"])
    done = subprocess.run(["bash", "-c", command], input=data, stdout=subprocess.PIPE, env=env)
    assert done.returncode in (0, 4), f"{command}: status {done.returncode}"
    return done.stdout


def records(data):
    return [r for r in msgpack.Unpacker(data if hasattr(data, "read") else __import__("io").BytesIO(data), object_hook=decode, strict_map_key=False)][1:-1]


def decode(o):
    return msgpack_numpy.decode(o) if b"nd" in o or "nd" in o else o


def at(name):
    return os.path.join(tmp, name)


def load(folder, **kw):
    m, info = PaliGemmaForConditionalGeneration.from_pretrained(folder, output_loading_info=True, dtype=torch.float32, attn_implementation="eager", **kw)
    return m.eval(), {k: v for k, v in info.items() if v}


def their_scores(model, family):
    """Log-probability of each golden text's suffix, over the rows that are tokens; None where there is none."""
    z = np.load(GOLDEN + family + "_in.npz")
    config = model.config
    vocab, n = config.image_token_index, config.text_config.num_image_tokens
    out = []
    for r in range(4):
        k = int(z["mask_input"][r].sum())
        text, ar, loss = (torch.tensor(z[x][r : r + 1, :k]).long() for x in ("text", "mask_ar", "mask_loss"))
        if not loss.sum():
            out.append(None)
            continue
        ids = torch.cat([torch.full((1, n), vocab), text], 1)
        types = torch.cat([torch.zeros((1, n)), ar], 1).long()
        pixels = torch.tensor(z["image"][r : r + 1]).permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids), token_type_ids=types, labels=ids.clone()).logits
        logp = torch.log_softmax(logits[0, n - 1 : -1, :vocab].double(), -1)
        out.append(float((logp.gather(1, text[0, :, None])[:, 0] * loss[0]).sum()))
    return out


def our_scores(model, family, options=""):
    stream = run(f"{BUILD}/tests/train/aux_trainset make {family}")
    return [r.get("logprob") for r in records(run(f"pg-infer -q -m {model} {options} --score-only", stream))]


def compare(what, ours, theirs):
    gap = max((abs(a - b) for a, b in zip(ours, theirs) if a is not None and b is not None), default=1e9)
    same = [a is None for a in ours] == [b is None for b in theirs]
    check(what, same and gap < LIMIT, f"largest difference {gap:.1e}")


def both_ways(family):
    run(f"pg-convert {GOLDEN}{family}.npz {at(family)}")
    model, info = load(at(family))
    check(f"{family}: from_pretrained finds every tensor and no other", not info, str(info) if info else "")
    compare(f"{family}: our npz as their model", our_scores(f"{GOLDEN}{family}.npz", family), their_scores(model, family))

    torch.manual_seed(1)
    config = PaliGemmaConfig.from_pretrained(at(family))
    theirs = PaliGemmaForConditionalGeneration._from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():  # initial norms and biases are 0 and 1: a swap would not show
        for p in theirs.parameters():
            p.add_(torch.randn_like(p) * 0.05)
    theirs.save_pretrained(at(family + "-saved"), max_shard_size="100KB")
    compare(f"{family}: their shards as our model", our_scores(at(family + "-saved"), family), their_scores(theirs, family))
    run(f"pg-convert {at(family + '-saved')} {at(family + '-saved.npz')} && pg-convert {at(family + '-saved.npz')} {at(family + '-again')}")
    again, info = load(at(family + "-again"))
    same = all(torch.equal(a, b) for a, b in zip(theirs.state_dict().values(), again.state_dict().values()))
    check(f"{family}: their model through our npz and back, bit by bit", same and not info)
    for dtype in ("bf16", "f16"):
        run(f"pg-convert {GOLDEN}{family}.npz {at(family + dtype)} --dtype {dtype}")
        m = PaliGemmaForConditionalGeneration.from_pretrained(at(family + dtype), dtype="auto")
        want = {"bf16": torch.bfloat16, "f16": torch.float16}[dtype]
        check(f"{family}: --dtype {dtype}", all(p.dtype == want for p in m.parameters()))


def adapters(family):
    import peft

    ours, theirs = at(family + "-adapter"), at(family + "-peft")
    stream = run(f"{BUILD}/tests/train/aux_trainset make {family}")
    targets = "language_model|vision_tower.*(q|v)_proj"
    run(f"pg-train -q -m {at(family)} -o {ours} --train lora --rank 3 --alpha 7 --targets '{targets}' --optimizer adamw --lr 0.02 --steps 6 --batch 4", stream)
    base, _ = load(at(family))
    plain = their_scores(base, family)
    model = peft.PeftModel.from_pretrained(base, ours).eval()
    scores = their_scores(model, family)
    compare(f"{family}: our adapter in PEFT", our_scores(at(family), family, f"--adapter {ours}"), scores)
    check(f"{family}: and it does something", max(abs(a - b) for a, b in zip(plain, scores) if a is not None) > 0.1)

    torch.manual_seed(2)
    base, _ = load(at(family))
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "o_proj", "down_proj", "fc1"], use_rslora=True, init_lora_weights=False)
    model = peft.get_peft_model(base, config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                p.mul_(0.3)
    model.save_pretrained(theirs)
    scores = their_scores(model, family)
    compare(f"{family}: PEFT's adapter in pg-infer", our_scores(at(family), family, f"--adapter {theirs}"), scores)
    run(f"pg-convert --merge {GOLDEN}{family}.npz {theirs} {at(family + '-merged.npz')}")
    compare(f"{family}: PEFT's adapter merged by pg-convert", our_scores(at(family + "-merged.npz"), family), scores)


def processor():
    from PIL import Image
    from transformers import PaliGemmaProcessor

    os.makedirs(at("words"))
    shutil.copy(GOLDEN + "pg1.npz", at("words/model.npz"))
    shutil.copy("tests/golden/text/small-a.model", at("words/tokenizer.model"))
    run(f"pg-convert {at('words')} {at('words-hf')}")
    p = PaliGemmaProcessor.from_pretrained(at("words-hf"))
    for picture in ("png-rgb8-211x97.png", "jpg-420-517x389.jpg"):
        path = "tests/golden/image/" + picture
        ours = records(run(f"pg-fetch {path} | pg-resize -s 56 --filter bicubic --no-orient"))[0]["pixels"]
        theirs = p.image_processor(Image.open(path).convert("RGB"), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        gap = np.abs(np.asarray(ours) - theirs).max()
        check(f"pixels of {picture}, bicubic", gap < 1e-6, f"largest difference {gap:.1e}")
    for prompt in ("caption en", "detect a cat ; a dog", "what is 12+7?"):
        mine = records(run(f"pg-fetch tests/golden/image/png-rgb8.png | pg-tokenize -m {at('words')} -p '{prompt}'"))[0]["tokens"]
        ids = p(images=Image.new("RGB", (56, 56)), text="<image>" + prompt, return_tensors="np")["input_ids"][0]
        image = int(p.tokenizer.convert_tokens_to_ids("<image>"))
        # (small-a has more pieces than pg1 has rows, so the number of <image> is another one than with real files)
        check(f"tokens of '{prompt}'", (ids == image).sum() == 16 and list(ids[ids != image]) == list(mine))


def big_vision():
    """BIG_VISION names a checkout of big_vision; its own loader needs jax and flax."""
    sys.path.insert(0, os.environ["BIG_VISION"])
    from big_vision import utils

    run(f"pg-convert {GOLDEN}pg1-hf {at('bv.npz')} --dtype bf16")
    tree = utils.load_params(at("bv.npz"))
    flat = {k: v for k, v in utils.tree_flatten_with_names(tree)[0]}
    want = np.load(GOLDEN + "pg1.bf16.npz")
    good = {"params/" + k for k in flat} == set(want.files)
    for k, v in flat.items():
        good = good and np.asarray(v).tobytes() == want["params/" + k].tobytes()
    check("big_vision's load_params reads our npz: names and values", good)


try:
    for f in ("pg1", "pg2"):
        both_ways(f)
        adapters(f)
    processor()
    if "BIG_VISION" in os.environ:
        big_vision()
finally:
    shutil.rmtree(tmp)
print(f"{passed} passed, {failed} failed")
sys.exit(bool(failed))
