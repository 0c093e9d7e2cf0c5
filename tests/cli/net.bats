#!/usr/bin/env bats
# pg-fetch and the network: Kaggle, Google storage, the hub and the web as they should be, against tests/net/servers.py.
# shellcheck disable=SC1091,SC2154,SC2030,SC2031 # variables come from net.sh; each test is a subshell
bats_require_minimum_version 1.5.0

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    . tests/net/net.sh
    net_setup_file
}

teardown_file() { kill "$SERVERS"; }

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    . tests/net/net.sh
    net_setup
}

teardown() { net_teardown; }

@test "kaggle: a folder is one precision, with credentials at Kaggle and none at the storage; a second run asks for no bytes" {
    export KAGGLE_USERNAME=alice KAGGLE_KEY=secret
    get -v "$M"
    whole paligemma-3b-pt-224.f16.npz "$F16"
    [ "$(cat "$T/out")" = "$T/o/paligemma-3b-pt-224.f16.npz" ]
    [ "$(find "$T/o" -type f | wc -l)" -eq 1 ]
    grep -q 'checked: md5' "$T/err"
    grep -q 'gs://big_vision/paligemma_tokenizer.model' "$T/err"
    requests download | grep -q '"role": "kaggle".*"auth": true'
    requests kaggle-models-data | grep -q '"auth": false'
    absent -r secret "$T/err" "$T/out"
    faults
    get "$M"
    [ "$rc" -eq 0 ]
    [ -z "$(requests download)" ]
}

@test "kaggle: a version and a file, ./ and case; every credential; pages; --all; --dry-run" {
    export KAGGLE_API_TOKEN=kaggle_good
    get "$M/1/./paligemma-3b-pt-224.b16.npz"
    whole paligemma-3b-pt-224.b16.npz "${F16/f16/b16}"
    rm -r "$T/o"
    echo kaggle_good >"$T/token"
    KAGGLE_API_TOKEN=$T/token get "$M"
    [ "$rc" -eq 0 ]
    rm -r "$T/o"
    unset KAGGLE_API_TOKEN
    mkdir "$HOME/.kaggle"
    echo '{"username":"alice","key":"secret"}' >"$HOME/.kaggle/kaggle.json"
    chmod 644 "$HOME/.kaggle/kaggle.json"
    get "$M"
    [ "$rc" -eq 0 ]
    grep -q "warning: .*kaggle.json' can be read by other users.*chmod 600" "$T/err"
    rm -r "$T/o"
    chmod 600 "$HOME/.kaggle/kaggle.json"
    get "$M"
    absent warning "$T/err"
    echo '{"username":"alice"}' >"$HOME/.kaggle/kaggle.json"
    get "$M/x.npz"
    fails "kaggle.json' is not JSON with 'username' and 'key'"
    rm -r "$HOME/.kaggle" "$T/o"
    get --dry-run --all "$M"
    [ "$(wc -l <"$T/out")" -eq 3 ]
    grep -qx "300000	paligemma-3b-pt-224.f16.npz" "$T/out"
    get --dry-run "$M"
    [ "$(cat "$T/out")" = "300000	paligemma-3b-pt-224.f16.npz" ]
    [ ! -e "$T/o" ]
    faults
    get kaggle://public/model/jax/many
    [ "$rc" -eq 0 ]
    [ "$(wc -l <"$T/out")" -eq 61 ]
    [ "$(cat "$T/o/70.txt")" = 70 ]
    [ "$(requests '/files' | wc -l)" -eq 3 ]
}

@test "kaggle: what to do about missing or refused credentials and a licence" {
    get "$M"
    fails 'KAGGLE_API_TOKEN' paligemma-3b-pt-224.f16.npz
    fails 'https://www.kaggle.com/models/google/paligemma'
    KAGGLE_API_TOKEN=wr0ng get "$M"
    fails 'refuses the credentials from KAGGLE_API_TOKEN'
    absent wr0ng "$T/err"
    KAGGLE_USERNAME=bob KAGGLE_KEY=secret get "$M"
    fails 'accept it at https://www.kaggle.com/models/google/paligemma'
    KAGGLE_API_TOKEN=kaggle_good get "$M/1/none.npz"
    fails 'no such model, version or file'
    get kaggle://google/none/jax/x
    fails 'private, or does not exist'
    get kaggle://google/paligemma
    [ "$rc" -eq 2 ]
    no_leftovers
}

@test "kaggle: 200 that means 403; an expired address is renewed once; routes that are gone are asked in the newer form" {
    export KAGGLE_API_TOKEN=kaggle_good
    faults '{"role":"kaggle","match":"download","do":"status","status":200,"body":"{\"code\":403,\"message\":\"User has not consented\"}"}'
    get "$M"
    fails 'licence is not accepted' paligemma-3b-pt-224.f16.npz
    no_leftovers
    faults '{"role":"storage","match":"kaggle-models-data","do":"status","status":403,"body":"<Error><Code>ExpiredToken</Code></Error>","ctype":"application/xml"}'
    get "$M"
    whole paligemma-3b-pt-224.f16.npz "$F16"
    [ "$(requests 1/download | wc -l)" -eq 2 ]
    rm -r "$T/o"
    faults '{"role":"storage","match":"kaggle-models-data","do":"status","status":403,"times":9}'
    get "$M"
    fails 'the storage that the server points to answers 403'
    [ "$(requests 1/download | wc -l)" -eq 2 ]
    cp "$BIG" "$ROOT/web/d/paligemma-3b-pt-224.f16.npz.zip"
    faults '{"role":"kaggle","match":"1/download","do":"redirect","to":"http://127.0.0.1:{web}/d/paligemma-3b-pt-224.f16.npz.zip"}'
    get "$M"
    fails 'inside a zip archive' paligemma-3b-pt-224.f16.npz
    faults '{"role":"kaggle","match":"/v1/models/","do":"status","status":404,"body":"<html>gone</html>","ctype":"text/html","times":9}'
    get "$M"
    whole paligemma-3b-pt-224.f16.npz "$F16"
    [ "$(requests ModelApiService | wc -l)" -eq 3 ]
}

@test "storage: a bucket, its pages, an object, a prefix; nothing sent that anybody could not send" {
    echo 3 >"$ROOT/page"
    sleep 0.5
    get -v gs://longcap100/
    [ "$rc" -eq 0 ]
    [ "$(wc -l <"$T/out")" -eq 10 ]
    for i in 1 5 8; do cmp "$T/o/$i.jpeg" "$ROOT/storage/longcap100/$i.jpeg"; done
    [ "$(requests maxResults | wc -l)" -eq 4 ]
    [ "$(grep -c 'checked: md5, crc32c' "$T/err")" -eq 10 ]
    requests generation= | grep -q alt=media
    get gs://odd/sub/x.txt
    whole x.txt "$ROOT/storage/odd/sub/x.txt"
    for s in gs://odd/sub gs://odd/sub/; do
        rm -r "$T/o"
        get "$s"
        whole x.txt "$ROOT/storage/odd/sub/x.txt"
    done
    get gs://odd/nothing
    fails 'no such object or folder'
}

@test "storage: names with blanks, signs and letters of any language; names that would lead elsewhere are left out and said" {
    get gs://odd/
    [ "$rc" -eq 1 ]
    [ "$(cat "$T/o/a b#c%d?é.txt")" = foo ]
    [ "$(cat "$T/o/sub/x.txt")" = bar ]
    [ "$(find "$T/o" -type f | wc -l)" -eq 2 ]
    [ ! -e "$T/up.txt" ]
    [ "$(grep -c 'is left out: its name' "$T/err")" -eq 4 ]
    get 'gs://odd/a b#c%d?é.txt'
    whole 'a b#c%d?é.txt' "$ROOT/storage/odd/a b#c%d?é.txt"
}

@test "storage: a listing that is refused: files known by name and the pictures they name; else a message" {
    faults '{"role":"storage","match":"maxResults","do":"status","status":401,"body":"{\"error\":{\"code\":401,\"message\":\"Anonymous caller does not have storage.objects.list access\"}}","times":9}'
    get gs://longcap100/
    [ "$rc" -eq 0 ]
    grep -q 'may not be listed; asking for the files that are known by name' "$T/err"
    [ "$(wc -l <"$T/out")" -eq 10 ]
    cmp "$T/o/8.jpeg" "$ROOT/storage/longcap100/8.jpeg"
    get gs://odd/
    fails 'name one object'
    fails 'Anonymous caller does not have storage.objects.list access'
    get gs://odd/sub/x.txt
    whole x.txt "$ROOT/storage/odd/sub/x.txt"
    faults
    get gs://nobucket/x.bin
    fails 'GOOGLE_OAUTH_ACCESS_TOKEN'
}

@test "storage: pages without items go on; a repeated token ends" {
    faults '{"role":"storage","match":"maxResults","do":"status","status":200,"body":"{\"nextPageToken\":\"0\"}"}'
    get gs://longcap100/
    [ "$(wc -l <"$T/out")" -eq 10 ]
    faults '{"role":"storage","match":"maxResults","do":"status","status":200,"body":"{\"nextPageToken\":\"0\"}","times":5}'
    get gs://longcap100/
    fails 'repeats a page token'
}

@test "storage: an object replaced between listing and download is fetched as it is now" {
    faults '{"role":"storage","match":"generation=","do":"status","status":404,"body":"No such object","ctype":"text/plain"}'
    get gs://odd/sub/
    whole x.txt "$ROOT/storage/odd/sub/x.txt"
    requests 'o/sub%2Fx.txt?alt=media"' | grep -q .
}

@test "hub: what a model needs at one commit, sha256 and git's sha1 checked, no token at the CDN" {
    export HF_TOKEN=hf_good
    get -v hf://google/pg
    [ "$rc" -eq 0 ]
    (cd "$T/o" && ls) >"$T/ls"
    [ "$(tr '\n' ' ' <"$T/ls")" = 'config.json model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json preprocessor_config.json tokenizer.model ' ] || { cat "$T/ls"; false; }
    while read -r f; do cmp "$T/o/$f" "$ROOT/hub/google/pg/$f"; done <"$T/ls"
    [ "$(grep -c 'checked: sha256' "$T/err")" -eq 3 ]
    [ "$(grep -c 'checked: git sha1' "$T/err")" -eq 3 ]
    [ -z "$(requests '/resolve/main/')" ]
    requests '"role": "hub"' | grep resolve | grep -q '"auth": true'
    get --all hf://google/pg@float16
    [ "$(wc -l <"$T/out")" -eq 12 ]
    cmp "$T/o/x/model.safetensors" "$ROOT/hub/google/pg/x/model.safetensors"
}

@test "hub: files, revisions on either side, gated repositories and what is missing" {
    for s in hf://google/pg/config.json hf://google/pg@main/config.json hf://google/pg/config.json@refs%2Fpr%2F1; do
        rm -rf "$T/o"
        get "$s"
        whole config.json "$ROOT/hub/google/pg/config.json"
    done
    get hf://google/pg@none/config.json
    fails 'no such revision'
    get hf://google/pg/none.json
    fails 'no such file'
    get hf://google/none
    fails 'not public'
    get hf://gated/pg
    fails 'HF_TOKEN' model.safetensors
    fails 'https://huggingface.co/gated/pg'
    HF_TOKEN=hf_nolicence get hf://gated/pg
    fails 'accept it at https://huggingface.co/gated/pg'
    mkdir -p "$HOME/.cache/huggingface"
    echo hf_good >"$HOME/.cache/huggingface/token"
    chmod 600 "$HOME/.cache/huggingface/token"
    get hf://gated/pg
    whole model.safetensors "$ROOT/hub/gated/pg/model.safetensors"
    rm -r "$T/o"
    HF_HUB_DISABLE_IMPLICIT_TOKEN=1 get hf://gated/pg
    fails 'HF_TOKEN'
    HF_TOKEN=$(printf 'a\tb') get hf://gated/pg
    fails 'a blank or control character'
}

@test "hub: data sets are fetched whole; their JSON lines stream; refusals name their page" {
    s=$ROOT/hub/datasets/o/set
    get --dry-run hf://datasets/o/set
    [ "$rc" -eq 0 ]
    [ "$(cut -f 2 "$T/out" | tr '\n' ' ')" = 'captions.json features.npz img/1.jpg img/2.png shard-0.tar train.jsonl ' ] || { cat "$T/out"; false; }
    [ "$(sed -n 's/\tfeatures.npz//p' "$T/out")" -eq 100 ]
    HF_TOKEN=hf_good get -v hf://datasets/o/set
    [ "$rc" -eq 0 ]
    diff -r "$s" "$T/o"
    [ "$(grep -c 'checked: sha256' "$T/err")" -eq 4 ]
    [ "$(grep -c 'checked: git sha1' "$T/err")" -eq 2 ]
    requests '"role": "hub"' | absent '/api/models/'
    # what was fetched is a source as it lies there
    stream "$T/o/train.jsonl"
    cp "$T/lines" "$T/local"
    [ "$(wc -l <"$T/local")" -eq 2 ]
    stream "$T/o/shard-0.tar"
    grep -q '"id":"1"' "$T/lines" || { cat "$T/lines"; false; }
    stream --images "$T/o/img" "$T/o/captions.json"
    grep -q 'a pixel' "$T/lines"
    for source in hf://datasets/o/set/train.jsonl hf://datasets/o/set@main/train.jsonl hf://datasets/o/set/train.jsonl@float16; do
        stream "$source"
        [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
        [ "$(jq -r '.id + " " + .suffix' "$T/lines")" = "$(jq -r '.id + " " + .suffix' "$T/local")" ]
    done
    get hf://datasets/o/none
    fails 'not public'
    rm -r "$T/o"
    get hf://datasets/gated/set/train.jsonl
    fails 'https://huggingface.co/datasets/gated/set'
    get hf://datasets/gated
    [ "$rc" -eq 2 ]
    grep -q 'want hf://datasets/owner/repository' "$T/err"
}

@test "the hub's cache has data sets of its own" {
    c=$HOME/.cache/huggingface/hub/datasets--o--set sha=0123456789abcdef0123456789abcdef01234567
    mkdir -p "$c/snapshots/$sha" "$c/refs"
    printf %s $sha >"$c/refs/main"
    cp "$ROOT/hub/datasets/o/set/train.jsonl" "$c/snapshots/$sha/"
    HF_HUB_OFFLINE=1 get hf://datasets/o/set
    whole train.jsonl "$ROOT/hub/datasets/o/set/train.jsonl"
    [ -z "$(requests '"role": "hub"')" ]
}

@test "the hub's and kagglehub's caches are used where they have the file, and verified; HF_HUB_OFFLINE asks nobody" {
    c=$HOME/.cache/huggingface/hub/models--google--pg sha=0123456789abcdef0123456789abcdef01234567
    mkdir -p "$c/blobs" "$c/snapshots/$sha" "$c/refs"
    printf %s $sha >"$c/refs/main"
    for f in model-00001-of-00002.safetensors tokenizer.model; do
        sum=$(sha256sum <"$ROOT/hub/google/pg/$f" | cut -d' ' -f1)
        cp "$ROOT/hub/google/pg/$f" "$c/blobs/$sum"
        ln -s "../../blobs/$sum" "$c/snapshots/$sha/$f"
    done
    get -v hf://google/pg
    [ "$rc" -eq 0 ]
    [ "$(grep -c 'was in the cache' "$T/err")" -eq 2 ]
    [ "$(requests /cdn/ | wc -l)" -eq 1 ]
    cmp "$T/o/tokenizer.model" "$ROOT/hub/google/pg/tokenizer.model"
    rm -r "$T/o"
    faults
    HF_HUB_OFFLINE=1 get hf://google/pg/tokenizer.model
    whole tokenizer.model "$ROOT/hub/google/pg/tokenizer.model"
    HF_HUB_OFFLINE=1 get hf://google/pg --all
    [ "$(wc -l <"$T/out")" -eq 2 ]
    HF_HUB_OFFLINE=1 get hf://google/pg/config.json
    fails 'HF_HUB_OFFLINE'
    HF_HUB_OFFLINE=1 get --dry-run hf://google/pg/tokenizer.model
    [ "$(cat "$T/out")" = "100000	tokenizer.model" ]
    for f in train.jsonl cow.jpg; do cp "$ROOT/hub/google/pg/$f" "$c/snapshots/$sha/$f"; done
    for how in --no-cache --quiet; do
        HF_HUB_OFFLINE=1 stream "$how" hf://google/pg/train.jsonl
        [[ $(cat "$T/lines") == *'"suffix":"a cow","image":{"bytes":'"$(wc -c <"$ROOT/hub/google/pg/cow.jpg")"'}'* ]] || { cat "$T/err" "$T/lines"; false; }
    done
    rm "$c/snapshots/$sha/cow.jpg"
    HF_HUB_OFFLINE=1 stream hf://google/pg/train.jsonl
    [ "$rc" -eq 4 ]
    [[ $(cat "$T/lines") == *'"error":'*HF_HUB_OFFLINE* ]]
    cp "$c/blobs/$sum" "$T/blob"
    echo broken >>"$c/blobs/$sum"
    rm -r "$T/o"
    HF_HUB_OFFLINE=1 get hf://google/pg/tokenizer.model
    fails 'HF_HUB_OFFLINE' tokenizer.model
    cp "$T/blob" "$c/blobs/$sum"
    [ -z "$(requests '"role": "hub"')" ]
    rm -rf "$T/o"
    echo broken >>"$c/blobs/$sum"
    get hf://google/pg/tokenizer.model
    whole tokenizer.model "$ROOT/hub/google/pg/tokenizer.model"
    k=$HOME/.cache/kagglehub/models/google/paligemma/jax/paligemma-3b-pt-224
    mkdir -p "$k/1" "$k/.complete/1"
    cp "$F16" "$k/1/"
    KAGGLE_API_TOKEN=kaggle_good get -v "$M"
    absent 'was in the cache' "$T/err" # no marker: a broken download
    rm -r "$T/o"
    : >"$k/.complete/1/paligemma-3b-pt-224.f16.npz.complete"
    get -v "$M"
    grep -q 'was in the cache' "$T/err"
    whole paligemma-3b-pt-224.f16.npz "$F16"
}

@test "names and validators that are not UTF-8" {
    cp "$BIG" "$T/$(printf 'caf\351.bin')"
    get "$T/$(printf 'caf\351.bin')"
    whole "$(printf 'caf\351.bin')" "$BIG"
    faults '{"role":"web","do":"latin1"}'
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    printf '{"image":"%s/d/p%%20q.png"}\n' "$W" >"$T/l.jsonl"
    faults '{"role":"web","do":"latin1"}'
    stream "$T/l.jsonl"
    [ "$rc" -eq 0 ]
    stream "$T/l.jsonl"
    [ "$rc" -eq 0 ]
}

@test "a file that is there is compared with the listing's checksum, too; two sources are not one file" {
    get hf://google/pg
    [ "$rc" -eq 0 ]
    head -c 100000 /dev/urandom >"$T/o/model-00001-of-00002.safetensors" # of an older commit: as long
    faults
    get hf://google/pg
    cmp "$T/o/model-00001-of-00002.safetensors" "$ROOT/hub/google/pg/model-00001-of-00002.safetensors"
    grep -q 'is another file than the source has now' "$T/err"
    [ "$(requests /cdn/ | wc -l)" -eq 1 ]

    mkdir -p "$ROOT/web/e"
    echo other >"$ROOT/web/e/big.bin"
    get "$W/d/big.bin" "$W/e/big.bin" "$W/d/big.bin"
    fails "cannot fetch '$W/e/big.bin': another source of this run is '$T/o/big.bin' already"
    cmp "$T/o/big.bin" "$BIG"
    [ "$(wc -l <"$T/out")" -eq 2 ]
    get "$W/d/big.bin?id=1" "$W/d/big.bin?id=2"
    fails 'another source of this run'
    get "$ROOT/web/e/big.bin"
    fails "'$T/o/big.bin' is there, differs, and did not come from it"
    cmp "$T/o/big.bin" "$BIG"
    rm "$T/o/big.bin"
    get "$ROOT/web/e/big.bin" "file://$BIG"
    fails 'another source of this run'
    cmp "$T/o/big.bin" "$ROOT/web/e/big.bin"
}

@test "somebody's own file of the same name is not replaced; what came from the source is" {
    mkdir -p "$T/o"
    touch "$T/o/a"
    python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.a", b"x")' "$T/o/a" 2>/dev/null || skip 'a file system without extended attributes'
    echo '{"mine": 1}' >"$T/o/config.json"
    get hf://google/pg
    fails "'$T/o/config.json' is there, differs, and did not come from it"
    [ "$(cat "$T/o/config.json")" = '{"mine": 1}' ]
    cmp "$T/o/tokenizer.model" "$ROOT/hub/google/pg/tokenizer.model" # the others are fetched
    absent -q /config.json "$T/out"
    mv "$T/o/config.json" "$T/o/mine.json"
    get hf://google/pg
    [ "$rc" -eq 0 ]
    echo '{"an older": "commit"}' >"$T/o/config.json"
    get hf://google/pg
    [ "$rc" -eq 0 ]
    cmp "$T/o/config.json" "$ROOT/hub/google/pg/config.json"
    rm "$T/o/config.json"
    echo '{"mine": 1}' >"$T/o/config.json"
    get hf://google/pg/config.json # of a single file nothing is known beforehand
    [ "$rc" -eq 0 ]
    grep -q "'$T/o/config.json' was there; whether it is" "$T/err"
    rm "$T/o/config.json"
    rm "$T/o/tokenizer.model"
    mkdir "$T/o/tokenizer.model"
    get hf://google/pg
    fails "'$T/o/tokenizer.model' is there"
}

@test "what killed runs leave beside a file goes with the next run" {
    half
    : >"$T/o/big.bin.part.json.new" # killed while the sidecar was written again
    : >"$T/o/big.bin.part.lock"
    faults
    get "$W/d/big.bin"
    whole big.bin "$BIG"
    [ "$(ranges)" = '"range": "bytes=150000-" ' ] || { ranges; false; }
    echo '{}' >"$T/o/big.bin.part.json" # killed between the rename and cleaning up
    : >"$T/o/big.bin.part.lock"
    get "$W/d/big.bin"
    whole big.bin "$BIG"
}

@test "the web: a file, an empty one, checksums given, what is no file; file:// and paths" {
    get "$W/d/big.bin" "$W/empty.bin" "$W/d/p%20q.png"
    whole big.bin "$BIG"
    whole empty.bin "$ROOT/web/empty.bin"
    whole 'p q.png' "$ROOT/web/d/p q.png"
    rm -r "$T/o"
    get --sha256 "$(sha256sum <"$BIG" | cut -d' ' -f1)" "$W/d/big.bin?key=verysecret"
    whole big.bin "$BIG"
    echo other >"$T/o/big.bin"
    get --md5 "$(md5sum <"$BIG" | cut -d' ' -f1)" "$W/d/big.bin"
    whole big.bin "$BIG"
    rm -r "$T/o"
    get --sha256 "$(printf '%064d' 0)" "$W/d/big.bin"
    fails 'its sha256 is' big.bin
    no_leftovers
    get "$W/none.bin"
    fails '404'
    get "$W/d/"
    [ "$rc" -eq 2 ]
    get "http://user:verysecret@127.0.0.1:$WEB/d/big.bin"
    [ "$rc" -eq 2 ]
    absent verysecret "$T/err"
    get "ftp://127.0.0.1/x"
    [ "$rc" -eq 2 ]
    grep -q "'ftp://' is no scheme that is known" "$T/err"
    get "http://127.0.0.1:$WEB/d/big file.bin"
    [ "$rc" -eq 2 ]
    grep -q "a blank in the URL: write it as %20" "$T/err"
    cp "$BIG" "$T/a b"
    get "file://$T/a%20b"
    whole 'a b' "$BIG"
    get "file://$BIG" "$ROOT/web/empty.bin"
    whole big.bin "$BIG"
    get "$T/nothing"
    fails "'$T/nothing'"
    get --dry-run "$W/d/big.bin"
    [ "$(cat "$T/out")" = "300000	big.bin" ]
}
