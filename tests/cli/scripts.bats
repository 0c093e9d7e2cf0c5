#!/usr/bin/env bats
# pipelines/: the scripts that users call.
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=$(cd "${PG_BUILD:-build}" && pwd)
    T=$BATS_TEST_TMPDIR
}

# A small random model and four pictures with captions; nothing of it needs a font.
small() {
    "$B/data/init" --image 16 --patch 8 --vit-width 8 --vit-depth 1 --vit-mlp 8 --vit-heads 2 --width 8 --depth 1 --mlp 8 --heads 2 \
        --head-dim 4 --vocab "$1" "$T/m/model.npz"
}

pictures() {
    mkdir -p "$T/pictures"
    local i
    for i in 1 2 3 4; do
        cp tests/golden/image/"$(ls tests/golden/image | grep -m1 '\.png$')" "$T/pictures/$i.png"
        echo "{\"image\":\"$i.png\",\"suffix\":\"a thing\"}"
    done >"$T/pictures/train.jsonl"
}

@test "finetune.sh, then caption.sh: text, and a report" {
    mkdir "$T/m"
    cp data/nano/tokenizer.model "$T/m/"
    small 1024
    pictures
    PG_BIN=$B run pipelines/finetune.sh "$T/m" "$T/pictures/train.jsonl" "$T/tuned" --steps 2 --batch 2
    [ "$status" -eq 0 ]
    echo "$output"
    [[ $output == *"done: step 2"* ]]
    [ -f "$T/tuned/model.npz" ]
    PG_BIN=$B run pipelines/caption.sh "$T/tuned" "$T/pictures"
    [ "$status" -eq 0 ]
    echo "$output"
    [ "$(grep -cE '^[1-4][.]png' <<<"$output")" -eq 4 ]
    PG_BIN=$B run pipelines/caption.sh "$T/tuned" "$T/pictures" "$T/report.html"
    [ "$status" -eq 0 ]
    grep -q '<html' "$T/report.html"
}

@test "finetune.sh, caption.sh: usage is status 2, a failing stage fails the whole" {
    for args in 'a b' '-x' '--steps 3'; do
        # shellcheck disable=SC2086 # several words
        run pipelines/finetune.sh $args
        [ "$status" -eq 2 ]
    done
    run pipelines/caption.sh a
    [ "$status" -eq 2 ]
    PG_BIN=$B run pipelines/finetune.sh "$T/none" "$T/none.jsonl" "$T/tuned"
    [ "$status" -ne 0 ]
    [ ! -e "$T/tuned" ]
    PG_BIN=$B run pipelines/caption.sh "$T/none" "$T" "$T/report.html"
    [ "$status" -ne 0 ]
    [ ! -e "$T/report.html" ]
}

@test "demo.sh: ten captions before and after, a report with both and the loss" {
    [ -f /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ] || skip 'no fonts-noto-color-emoji'
    [ -d /usr/share/unicode/cldr/common/annotations ] || skip 'no unicode-cldr-core'
    mkdir "$T/build"
    ln -s "$B"/pg-* "$B/data" "$T/build/"
    run pipelines/demo.sh "$T/build"
    [ "$status" -eq 0 ]
    [ "$(grep -cE '^[0-9]{6}-u[0-9a-f]+\s' <<<"$output")" -eq 10 ]
    [[ ${lines[-2]} == "report: $T/build/demo/report.html" ]]
    [[ ${lines[-1]} == *"pipelines/serve.sh $T/build/demo/tuned" ]]
    # Tuned on the long form, held-out pictures are described in it.
    after=$("$B/pg-render" -f captions "$T/build/demo/after.pgs" | grep -c ' background$')
    before=$("$B/pg-render" -f captions "$T/build/demo/before.pgs" | grep -c ' background$' || true)
    echo "long form: $before before, $after after"
    [ "$before" -le 10 ]
    [ "$after" -ge 80 ]
    [ "$(grep -o '<img' "$T/build/demo/report.html" | wc -l)" -ge 100 ]
    grep -q '<svg' "$T/build/demo/report.html"
}

@test "packages.sh: PG_NO_INSTALL=1 lists what is missing, installs nothing and fails" {
    mkdir "$T/bin"
    printf '#!/bin/sh\nexit 1\n' >"$T/bin/dpkg-query"
    printf '#!/bin/sh\ntouch "%s/called"\n' "$T" >"$T/bin/apt-get"
    chmod +x "$T/bin"/*
    PATH=$T/bin:$PATH PG_NO_INSTALL=1 run pipelines/packages.sh build demo
    [ "$status" -eq 1 ]
    [[ $output == *"libpng-dev "*"reads PNG"* ]]
    [[ $output == *"apt-get install"*"fonts-noto-color-emoji"* ]]
    [ ! -e "$T/called" ]
}

@test "packages.sh: installs what is missing after saying so, once; nothing where nothing is" {
    mkdir "$T/bin"
    printf '#!/bin/sh\nexit 1\n' >"$T/bin/dpkg-query"
    printf '#!/bin/sh\necho "$@" >>"%s/called"\n' "$T" >"$T/bin/apt-get"
    printf '#!/bin/sh\n[ "$1" = -u ] && echo 0\n' >"$T/bin/id"
    chmod +x "$T/bin"/*
    PATH=$T/bin:$PATH run env -u PG_NO_INSTALL pipelines/packages.sh demo
    [ "$status" -eq 0 ]
    grep -q 'install .*unicode-cldr-core' "$T/called"
    rm "$T/called"
    printf '#!/bin/sh\necho "install ok installed"\n' >"$T/bin/dpkg-query"
    PATH=$T/bin:$PATH run env -u PG_NO_INSTALL pipelines/packages.sh build demo check nano
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    [ ! -e "$T/called" ]
}

@test "packages.txt: every line has a group, a name and a reason" {
    run grep -vE '^#|^(build|demo|nano|check) +[a-z0-9.+-]+ +[^ ].*$' pipelines/packages.txt
    [ "$status" -eq 1 ]
}
