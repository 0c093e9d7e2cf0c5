#!/usr/bin/env bats
# pipelines/: the scripts that users call.
# shellcheck disable=SC2154 # bats sets stderr
bats_require_minimum_version 1.5.0
load small
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=$(cd "${PG_BUILD:-build}" && pwd)
    T=$BATS_TEST_TMPDIR
}

# killed_by NAME: in $T/bin a pg-train that is killed once the file that variable NAME names is there.
killed_by() {
    mkdir "$T/bin"
    ln -s "$B"/pg-* "$T/bin/"
    rm "$T/bin/pg-train"
    cat >"$T/bin/pg-train" <<S
#!/bin/sh
[ -n "\$$1" ] || exec "$B/pg-train" "\$@"
exec 3<&0 # sh gives a background job no stdin of its own
"$B/pg-train" "\$@" <&3 &
for i in \$(seq 1000); do [ -e "\$$1" ] && break; sleep 0.01; done
kill -9 \$!; exit 137
S
    chmod +x "$T/bin/pg-train"
}

@test "finetune.sh, then caption.sh: text, and a report" {
    small
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

@test "finetune.sh, caption.sh: an example's own prefix counts, PREFIX more" {
    pictures
    sed 's/}/,"prefix":"caption es"}/' "$T/pictures/train.jsonl" >"$T/pictures/es.jsonl"
    export PG_BIN=$B
    pipelines/caption.sh data/nano "$T/pictures/train.jsonl" >"$T/en"
    pipelines/caption.sh data/nano "$T/pictures/es.jsonl" >"$T/es"
    PREFIX='caption es' pipelines/caption.sh data/nano "$T/pictures/train.jsonl" >"$T/told"
    cmp "$T/es" "$T/told"
    ! cmp -s "$T/en" "$T/es" || false
    pipelines/finetune.sh data/nano "$T/pictures/es.jsonl" "$T/own" --steps 1 --batch 2 >"$T/log"
    PREFIX='caption es' pipelines/finetune.sh data/nano "$T/pictures/train.jsonl" "$T/tuned" --steps 1 --batch 2 >"$T/log"
    cmp "$T/own/model.npz" "$T/tuned/model.npz"
}

@test "finetune.sh DIR: a picture with an error ends the job, which says how to go on, and SKIP_ERRORS=1 goes on" {
    mkdir "$T/m"
    small
    pictures
    echo 'no picture' >"$T/pictures/2.png"
    export PG_BIN=$B MODEL_SOURCE=$T/m/model.npz TOKENIZER_SOURCE=data/nano/tokenizer.model TRAIN_SOURCE=$T/pictures/train.jsonl STEPS=1 BATCH=2
    export VAL_SOURCE=$TRAIN_SOURCE
    run pipelines/finetune.sh "$T/job"
    [ "$status" -eq 4 ]
    [[ $output == *"with SKIP_ERRORS=1" ]]
    [ ! -e "$T/job/train.pgs" ]
    SKIP_ERRORS=1 run pipelines/finetune.sh "$T/job"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"report: $T/job/report.html" ]]
}

@test "finetune.sh with a model alone is a usage error, and leaves the model's folder as it is" {
    small
    ls -A "$T/m" >"$T/before"
    run pipelines/finetune.sh "$T/m" --steps 3
    [ "$status" -eq 2 ]
    [[ $output == *"'$T/m' is a model, not a folder for the whole job"* ]]
    ls -A "$T/m" | cmp - "$T/before"
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

@test "finetune.sh DIR: training that was killed goes on behind its last save, to the same weights; with other options it is refused" {
    mkdir "$T/m"
    small
    pictures
    killed_by KILL
    export PG_BIN=$T/bin MODEL_SOURCE=$T/m/model.npz TOKENIZER_SOURCE=data/nano/tokenizer.model TRAIN_SOURCE=$T/pictures/train.jsonl
    export VAL_SOURCE=$TRAIN_SOURCE STEPS=3000 BATCH=2 LENGTH=8
    KILL=$T/job/tuned.state SAVE_EVERY=20 run pipelines/finetune.sh "$T/job" --lr 0.1
    echo "$output"
    [ "$status" -ne 0 ]
    [ -e "$T/job/tuned.state" ]
    [ ! -e "$T/job/events.pgs" ]
    [ ! -e "$T/job/report.html" ]
    run pipelines/finetune.sh "$T/job" --lr 0.2
    [ "$status" -eq 1 ]
    [[ $output == *"remove tuned.made-of, tuned.state, events.pgs"*"--lr 0.2"* ]]
    run env -u STEPS -u BATCH pipelines/finetune.sh "$T/job"
    [ "$status" -eq 1 ]
    [[ $output == *"then"*"--lr 0.1"* ]]
    SAVE_EVERY=1000 run pipelines/finetune.sh "$T/job" --lr 0.1
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"held-out examples: done before"*"resuming after step "*" of 3000"*"step: 3000/3000 "*"report: $T/job/report.html" ]]
    [ ! -e "$T/job/tuned.state" ]
    SAVE_EVERY=0 pipelines/finetune.sh "$T/whole" --lr 0.1
    cmp "$T/job/tuned/model.npz" "$T/whole/tuned/model.npz"
    # The curve of both attempts together begins with the first step.
    "$B/pg-render" -q -o "$T/loss.svg" "$T/job"/events-*.pgs "$T/job/events.pgs"
    [ "$("$B/pg-render" -f text "$T/job/events-00.pgs" 2>/dev/null | grep -c '^step:  1/3000 ')" -eq 1 ]
}

@test "finetune.sh MODEL TRAIN OUT: training that was killed goes on, to the same weights; with other options it is refused" {
    small
    pictures
    killed_by KILL
    export PG_BIN=$T/bin LENGTH=8
    set -- "$T/m" "$T/pictures/train.jsonl"
    KILL=$T/job.state SAVE_EVERY=20 run pipelines/finetune.sh "$@" "$T/job/" --steps 3000 --batch 2
    [ "$status" -ne 0 ]
    [ -e "$T/job.state" ]
    [ ! -e "$T/job/model.npz" ]
    run pipelines/finetune.sh "$@" "$T/job" --steps 3000 --batch 2 --lr 0.2
    echo "$output"
    [ "$status" -ne 0 ]
    [[ $output == *'lr 0.2'* ]]
    SAVE_EVERY=1000 run pipelines/finetune.sh "$@" "$T/job" --steps 3000 --batch 2
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"resuming after step "*" of 3000"*"done: step 3000"* ]]
    [ ! -e "$T/job.state" ]
    SAVE_EVERY=0 pipelines/finetune.sh "$@" "$T/whole" --steps 3000 --batch 2 >"$T/log"
    ! grep -q '^save:' "$T/log" || false
    cmp "$T/job/model.npz" "$T/whole/model.npz"
    # Done without an example that has an error: nothing is left to go on from.
    echo 'no picture' >"$T/pictures/2.png"
    run pipelines/finetune.sh "$@" "$T/part" --steps 20 --batch 2
    [ "$status" -eq 4 ]
    [ -f "$T/part/model.npz" ] && [ ! -e "$T/part.state" ]
}

@test "every script: --help on standard output, from its head; what is no option is status 2 with the usage" {
    local s name
    for s in pipelines/*.sh pipelines/slurm/*.sh data/*.sh; do
        case $s in */made.sh | */usage.sh | */together.sh) continue ;; esac
        name=${s##*/}
        for h in -h --help 'a b c --help'; do
            # shellcheck disable=SC2086 # several words
            run --separate-stderr "$s" $h
            [ "$status" -eq 0 ] || { echo "$s $h: $stderr"; false; }
            [[ ${lines[0]} == 'usage: '*"$name"* ]]
            [ "${#lines[@]}" -ge 2 ]
            [ -z "$stderr" ]
        done
        run --separate-stderr "$s" --no-such
        [ "$status" -eq 2 ] || { echo "$s: $status"; false; }
        [ -z "$output" ]
        [[ $stderr == "$name: unknown option '--no-such'"$'\nusage: '*"$name"*$'\n'"Try '$name --help'." ]] || { echo "$stderr"; false; }
    done
    # A copy, as Slurm makes one.
    mkdir "$T/spool"
    cp pipelines/slurm/train.sh "$T/spool/script"
    run -2 "$T/spool/script"
    [[ $output == *'Usage: sbatch [sbatch options] train.sh MODEL TRAIN OUT'* ]]
    run -2 pipelines/caption.sh data/nano "$T" "$T/x.html" -q
    [[ $output == "caption.sh: unknown option '-q'"* ]]
    run -2 pipelines/transfer.sh other m t o
    [[ $output == "transfer.sh: no recipe 'other'; there are "*cococap* ]]
    run -0 pipelines/transfer.sh
    [[ $output == *cococap* ]]
    run -0 make -f pipelines/sweep.mk help
    [[ $output == 'An experiment over '* ]]
    echo mine >"$T/cow.txt"
    run -2 pipelines/caption.sh data/nano "$T/cow.jpg" "$T/cow.txt"
    [[ $output == "caption.sh: REPORT '$T/cow.txt' does not end in .html"* ]]
    [ "$(cat "$T/cow.txt")" = mine ]
    # To a full disk it fails.
    run bash -c 'pipelines/caption.sh --help >/dev/full'
    [ "$status" -ne 0 ]
}

@test "PREFIX in the environment that is a folder is refused: it is where programs are installed, not a prompt" {
    for s in 'finetune.sh m t o' 'caption.sh m s' 'serve.sh m' 'evaluate.sh m d i' 'preprocess.sh m o s' 'caption-shards.sh m o s' 'slurm/submit.sh captions 1 m s o'; do
        # shellcheck disable=SC2086 # several words
        PREFIX=$T run -2 pipelines/$s
        [[ $output == *"PREFIX, the prompt, is the folder '$T' in the environment: unset PREFIX" ]] || { echo "$s: $output"; false; }
    done
}

@test "demo.sh: names in four languages, ten captions before and after, a report with both and the loss" {
    [ -f /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ] || skip 'no fonts-noto-color-emoji'
    [ -d /usr/share/unicode/cldr/common/annotations ] || skip 'no unicode-cldr-core'
    mkdir "$T/build"
    ln -s "$B"/pg-* "$B/data" "$T/build/"
    run pipelines/demo.sh "$T/build"
    [ "$status" -eq 0 ]
    [ "$(awk -F'\t' '/^[0-9][0-9][0-9][0-9][0-9][0-9]-u/ { n += NF == 5 } END { print n }' <<<"$output")" -eq 4 ]
    [ "$(grep -c '^      after: ' <<<"$output")" -eq 10 ]
    [[ ${lines[-2]} == "report: $T/build/demo/report.html" ]]
    [[ ${lines[-1]} == *"pipelines/serve.sh $T/build/demo/tuned" ]]
    # Tuned on the long form, held-out pictures are described in it, and most descriptions are right to the letter.
    "$B/pg-render" -f jsonl "$T/build/demo/after.pgs" | sed -nE 's/.*"suffix":"([^"]*)".*/\1/p' >"$T/reference"
    "$B/pg-render" -f captions "$T/build/demo/after.pgs" | cut -f2 >"$T/after"
    "$B/pg-render" -f captions "$T/build/demo/en.pgs" | cut -f2 >"$T/before"
    right() { paste "$1" "$T/reference" | awk -F'\t' '$1 == $2' | wc -l; }
    echo "right: $(right "$T/before") before, $(right "$T/after") after"
    [ "$(wc -l <"$T/reference")" -eq 100 ]
    [ "$(right "$T/before")" -le 10 ]
    [ "$(right "$T/after")" -ge 50 ]
    # Nothing that is tuned on is validated on.
    things() { grep -o '"image":"[^"]*' "$T/build/demo/$1/examples.jsonl" | sed 's/.*-//' | sort -u; }
    [ -z "$(comm -12 <(things train) <(things val))" ]
    [ "$(grep -o '<img' "$T/build/demo/report.html" | wc -l)" -ge 100 ]
    grep -q '<svg' "$T/build/demo/report.html"
    # The report's commands, pasted from it anywhere, do the same again.
    rm -r "$T/build/demo/"{tuned,*.pgs}
    sed -n '/<h2>The commands/,/<\/section>/{s/^<pre>//;s/<\/pre>//;/^</d;p}' "$T/build/demo/report.html" |
        sed 's/&quot;/"/g; s/&#39;/'\''/g; s/&lt;/</g; s/&gt;/>/g; s/&amp;/\&/g' >"$T/commands"
    cat "$T/commands"
    (cd / && bash -euo pipefail "$T/commands")
    "$B/pg-render" -f captions "$T/build/demo/after.pgs" | cut -f2 | cmp - "$T/after"
    "$B/pg-render" -f captions "$T/build/demo/before.pgs" | cut -f2 | cmp - "$T/before"
}

@test "demo.sh run twice: the same captions and the same weights" {
    [ -f /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ] || skip 'no fonts-noto-color-emoji'
    [ -d /usr/share/unicode/cldr/common/annotations ] || skip 'no unicode-cldr-core'
    for i in 1 2; do
        mkdir "$T/$i"
        ln -s "$B"/pg-* "$B/data" "$T/$i/"
        DEMO_STEPS=16 DEMO_PICTURES=20 pipelines/demo.sh "$T/$i" >"$T/$i.log"
        "$B/pg-render" -f captions "$T/$i/demo/after.pgs" >"$T/$i.captions"
    done
    [ "$(wc -l <"$T/1.captions")" -eq 20 ]
    cmp "$T/1.captions" "$T/2.captions"
    cmp "$T/1/demo/tuned/model.npz" "$T/2/demo/tuned/model.npz"
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
    printf '#!/bin/sh\nfor p; do echo "$p install ok installed"; done\n' >"$T/bin/dpkg-query"
    PATH=$T/bin:$PATH run env -u PG_NO_INSTALL pipelines/packages.sh build demo check nano
    [ "$status" -eq 0 ]
    [ -z "$output" ]
    [ ! -e "$T/called" ]
}

@test "packages.txt: every line has a group, a name and a reason" {
    run grep -vE '^#|^(build|demo|nano|sets|deb|check|arm64) +[a-z0-9.+-]+ +[^ ].*$' pipelines/packages.txt
    [ "$status" -eq 1 ]
}

@test "evaluate.sh: Karpathy's split and COCO's file; scores, results, report; goes on where it stopped" {
    command -v jq >/dev/null || skip 'no jq'
    mkdir "$T/val2014"
    small
    for i in 1 2 3; do cp tests/golden/image/png-rgb8.png "$T/val2014/$i.png"; done
    cat >"$T/karpathy.json" <<'J'
{"dataset": "coco", "images": [
 {"filepath": "val2014", "filename": "1.png", "split": "test", "cocoid": 101, "sentences": [{"raw": "A thing."}, {"raw": "One thing"}]},
 {"filepath": "val2014", "filename": "2.png", "split": "test", "cocoid": 102, "sentences": [{"raw": "Another thing"}]},
 {"filepath": "val2014", "filename": "3.png", "split": "train", "cocoid": 103, "sentences": [{"raw": "Not this"}]}]}
J
    cat >"$T/coco.json" <<'J'
{"images": [{"id": 101, "file_name": "1.png"}, {"id": 102, "file_name": "2.png"}, {"id": 104, "file_name": "none.png"}],
 "annotations": [{"image_id": 102, "caption": "Another thing"}, {"image_id": 101, "caption": "A thing."}, {"image_id": 101, "caption": "One thing"}]}
J
    PG_BIN=$B run pipelines/evaluate.sh "$T/m" "$T/karpathy.json" "$T" "$T/out"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"N         2"*"CIDEr"*"report: $T/out/report.html" ]]
    grep -q '"id":"101","references":\["A thing.","One thing"\]' "$T/out/examples.jsonl"
    [ "$(jq -c 'map(.image_id)' "$T/out/results.json")" = '[101,102]' ]
    rm "$T/out/scores.txt"
    PG_BIN=$B run pipelines/evaluate.sh "$T/m" "$T/karpathy.json" "$T" "$T/out"
    [[ $output == *"captions: done before"* ]]
    [ -s "$T/out/scores.txt" ]
    cp -r "$T/m" "$T/other"
    for how in "PG_BIN=$B pipelines/evaluate.sh $T/other" "PG_BIN=$B BEAM=1 pipelines/evaluate.sh $T/m"; do
        run bash -c "$how '$T/karpathy.json' '$T' '$T/out'"
        [ "$status" -eq 1 ]
        [[ $output == *"'$T/out' was made with something else; name another OUT, or remove it"* ]]
    done
    PG_BIN=$B run pipelines/evaluate.sh "$T/m" "$T/coco.json" "$T/val2014" "$T/out2"
    [ "$status" -eq 0 ]
    diff <(jq -S 'del(.intervals)' "$T/out/scores.json") <(jq -S 'del(.intervals)' "$T/out2/scores.json")
    # The results are COCO's shape: they score the same against its file.
    "$B/pg-score" -q -f json --references "$T/coco.json" "$T/out/results.json" | jq -S . | diff - <(jq -S 'del(.intervals)' "$T/out/scores.json")
    # JSON lines: names relative to the folder, and pictures from elsewhere.
    printf '{"image":"%s","id":"%s","references":["A thing."]}\n' 1.png 101 "file://$T/val2014/2.png" 102 "$T/val2014/3.png" 103 >"$T/list.jsonl"
    PG_BIN=$B run pipelines/evaluate.sh "$T/m" "$T/list.jsonl" "$T/val2014" "$T/out4"
    [ "$status" -eq 0 ] || { echo "$output"; false; }
    [[ $output == *"N         3"* ]]
    SPLIT=none PG_BIN=$B run pipelines/evaluate.sh "$T/m" "$T/karpathy.json" "$T" "$T/out3"
    [ "$status" -eq 1 ]
    [[ $output == *"no pictures in split 'none'"* ]]
    run pipelines/evaluate.sh a b
    [ "$status" -eq 2 ]
}

@test "sweep.mk: a run for each learning rate and seed, made once; one report, one table" {
    small
    pictures
    "$B/pg-fetch" "$T/pictures/train.jsonl" | "$B/pg-resize" -s 16 | "$B/pg-tokenize" -q -m "$T/m" >"$T/x.pgs"
    sweep() { make --no-print-directory -f pipelines/sweep.mk -j2 PG_BIN="$B" MODEL="$T/m" TRAIN="$T/x.pgs" VAL="$T/x.pgs" OUT="$T/sweep" STEPS=2 BATCH=2 LENGTH=4 "$@"; }
    run sweep LRS="0.1 1e-3" SEEDS="0 1"
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(grep -c '^training lr' <<<"$output")" -eq 4 ]
    [ "$(wc -l <"$T/sweep/scores.tsv")" -eq 5 ]
    for run in lr0.1-seed0 lr0.1-seed1 lr1e-3-seed0 lr1e-3-seed1; do
        grep -qa "$run" "$T/sweep/report.html"
        [ -d "$T/sweep/tuned/$run" ]
    done
    # Nothing is made twice; a further rate adds its runs; a run that was lost is made again; other settings make all anew.
    run sweep LRS="0.1 1e-3" SEEDS="0 1"
    [[ $output != *training* ]]
    run sweep LRS="0.1 1e-3 1" SEEDS="0 1"
    [ "$(grep -c '^training lr1-seed' <<<"$output")" -eq 2 ]
    [ "$(grep -c '^training' <<<"$output")" -eq 2 ]
    rm "$T/sweep/events/lr0.1-seed1.pgs"
    run sweep LRS="0.1 1e-3" SEEDS="0 1"
    [ "$(grep '^training' <<<"$output")" = "training lr0.1-seed1" ]
    [ "$(wc -l <"$T/sweep/scores.tsv")" -eq 5 ]
    run sweep LRS=0.1 SEEDS=0 ARGS="--optimizer adamw"
    [ "$(grep -c '^training' <<<"$output")" -eq 1 ]
    # What is no stream is told how to become one, before anything runs.
    for f in "$T/pictures/train.jsonl" "$T/pictures"; do
        run sweep TRAIN="$f"
        [ "$status" -eq 2 ]
        [[ $output == *"'$f' is no stream of examples: pg-fetch '$f' | pg-resize -m '$T/m' | pg-tokenize -m '$T/m' > examples.pgs makes one"* ]]
        [[ $output != *training* ]]
    done
    run sweep VAL="$T/none.pgs"
    [ "$status" -eq 2 ]
    [[ $output == *"'$T/none.pgs' does not exist"* ]]
    # From another folder, with the model that lies beside the script.
    top=$PWD
    cd "$T"
    "$B/pg-fetch" pictures/train.jsonl | "$B/pg-resize" -s 64 | "$B/pg-tokenize" -q -m m >y.pgs
    run make --no-print-directory -f "$top/pipelines/sweep.mk" PG_BIN="$B" TRAIN=y.pgs VAL=y.pgs STEPS=1 BATCH=1 LRS=0.1 SEEDS=0 LENGTH=4
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *'report: sweep/report.html' ]]
    [ "$(wc -l <sweep/scores.tsv)" -eq 2 ]
}

@test "finetune.sh DIR: a model and tokenizer that lie here are linked, not copied, whatever form they have" {
    mkdir "$T/hf" "$T/tok"
    small
    pictures
    "$B/pg-convert" "$T/m/model.npz" "$T/hf/model.safetensors"
    find "$T/hf" -type f ! -name model.safetensors ! -name config.json -delete
    cp data/nano/tokenizer.model "$T/tok/other.model"
    export PG_BIN=$B TRAIN_SOURCE=$T/pictures/train.jsonl VAL_SOURCE=$T/pictures/train.jsonl STEPS=1 BATCH=2
    n=0
    cd "$T"
    while read -r model tokenizer want; do
        n=$((n + 1))
        MODEL_SOURCE=$model TOKENIZER_SOURCE=${tokenizer#-} run "$OLDPWD/pipelines/finetune.sh" "$T/job$n"
        [ "$status" -eq 0 ] || { echo "$model $tokenizer: $output"; false; }
        [ -f "$T/job$n/report.html" ]
        [ "$(cd "$T/job$n/model" && echo *)" = "$want" ] || { ls "$T/job$n/model"; false; }
        [ -z "$(find "$T/job$n/model" ! -type l ! -type d)" ]
        [ "$(wc -l <"$T/job$n/model.files")" -eq "$(wc -w <<<"$want")" ]
    done <<'models'
m - model.npz tokenizer.model
m/model.npz - model.npz tokenizer.model
m/model.npz tok/other.model model.npz other.model
m tok model.npz other.model
hf m config.json model.safetensors tokenizer.model
hf/model.safetensors tok config.json model.safetensors other.model
models
    # What they are is recorded: another content under the same name is another model.
    touch -d '2001-01-01' m/model.npz
    MODEL_SOURCE=m run -1 "$OLDPWD/pipelines/finetune.sh" "$T/job1"
    [[ $output == *"'$T/job1' was made with something else"* ]] || { echo "$output"; false; }
}

@test "finetune.sh DIR: after an attempt that failed, what is not there yet may be something else, what is there not" {
    small
    pictures
    cp -r "$T/m" "$T/other"
    export PG_BIN=$B TRAIN_SOURCE=$T/pictures/train.jsonl VAL_SOURCE=$T/pictures/train.jsonl STEPS=1 BATCH=2
    refused() { [[ $status -eq 1 && $output == *"'$T/job' was made with something else"* ]] || { echo "$output"; false; }; }
    MODEL_SOURCE=$T/none run -1 pipelines/finetune.sh "$T/job"
    [[ $output == *"finetune.sh: '$T/none' does not exist" ]]
    # What is no model, wrong options and variables: told before anything is fetched or made.
    MODEL_SOURCE=$T/pictures run -1 pipelines/finetune.sh "$T/job0"
    [[ $output == *"folder '$T/pictures' holds no weights"* ]] || { echo "$output"; false; }
    MODEL_SOURCE=$T/m run -2 pipelines/finetune.sh "$T/job0" --no-such
    [[ $output == *'--no-such'* && ! -e $T/job0/model ]] || { echo "$output"; false; }
    SAVE_EVERY=x run -2 pipelines/finetune.sh "$T/job0"
    [[ $output == *"SAVE_EVERY 'x' is no number of steps"* ]] || { echo "$output"; false; }
    # Not to be had, as for want of credentials.
    MODEL_SOURCE=file://$T/none TOKENIZER_SOURCE=file://$T/none.model run pipelines/finetune.sh "$T/job"
    [ "$status" -ne 0 ]
    export MODEL_SOURCE=$T/m
    TRAIN_SOURCE=$T/none.jsonl LENGTH=16 run -1 pipelines/finetune.sh "$T/job" --lr 0.5
    [[ $output != *'something else'* ]]
    MODEL_SOURCE=$T/other run pipelines/finetune.sh "$T/job"
    refused
    VAL_SOURCE=$T/none.jsonl run -1 pipelines/finetune.sh "$T/job"
    [ -e "$T/job/train.pgs" ]
    TRAIN_SOURCE=$T/pictures run pipelines/finetune.sh "$T/job"
    refused
    LENGTH=16 run pipelines/finetune.sh "$T/job"
    refused
    run -2 pipelines/finetune.sh "$T/job" --no-such
    run -0 pipelines/finetune.sh "$T/job" --lr 0.01
    run pipelines/finetune.sh "$T/job" --lr 0.02
    refused
    VAL_SOURCE=$T/pictures run pipelines/finetune.sh "$T/job" --lr 0.01
    refused
    run -0 pipelines/finetune.sh "$T/job" --lr 0.01
}

@test "finetune.sh MODEL TRAIN OUT: an OUT that is done is not trained over" {
    mkdir "$T/m" "$T/empty"
    PG_BIN=$B run -2 pipelines/finetune.sh "$T/m" "$T/empty" "$T/empty/"
    [[ $output == *"OUT '$T/empty' is TRAIN"* ]]
    small
    pictures
    export PG_BIN=$B
    for out in empty file.npz file.safetensors 'adapter --train lora'; do
        set -- pipelines/finetune.sh "$T/m" "$T/pictures/train.jsonl" "$T/${out%% *}" --steps 1 --batch 2
        [[ $out != *' '* ]] || set -- "$@" --train lora
        run -0 "$@"
        find "$4" -type f -exec cksum {} + >"$T/before"
        run -1 "$@"
        [ "$output" = "finetune.sh: '$4' is there already, and is not written over: to train again remove it, or name another OUT" ]
        find "$4" -type f -exec cksum {} + | cmp - "$T/before"
        rm -r "$4"
        run -0 "$@"
    done
}

@test "evaluate.sh: bad lines and pictures are errors and the status is 4, also in a second call; each warning is given once" {
    command -v jq >/dev/null || skip 'no jq'
    mkdir "$T/lists"
    small
    pictures
    sed 's/suffix":"a thing"/references":["a thing"]/' "$T/pictures/train.jsonl" | sed '2a oops' >"$T/pictures/bad.jsonl"
    cp "$T/pictures/bad.jsonl" "$T/lists/"
    for where in pictures lists; do
        list=$T/$where/bad.jsonl
        PG_BIN=$B run --separate-stderr pipelines/evaluate.sh "$T/m" "$list" "$T/pictures" "$T/$where.out"
        [ "$status" -eq 4 ] || { echo "status $status: $stderr"; false; }
        [[ $output == *"N         4"* ]]
        [[ $stderr == *"$list"* ]] || { echo "$stderr"; false; }
        [[ $stderr == *":3: '[' or '{' expected near 'oops'"* ]]
        [ "$(grep -c "4 of 4 captions hold no word\|all pictures have the same references" <<<"$stderr")" -eq 2 ] || { echo "$stderr"; false; }
        [ "$(grep -c 'is not scored: carries an error' <<<"$stderr")" -eq 1 ]
        PG_BIN=$B run pipelines/evaluate.sh "$T/m" "$list" "$T/pictures" "$T/$where.out"
        [ "$status" -eq 4 ]
        [[ $output == *"report: done before"* ]]
    done
    diff <(jq -S . "$T/pictures.out/results.json") <(jq -S . "$T/lists.out/results.json")
    # A picture of COCO's file that is not there; once it is, and its captions are made again, no error is left.
    echo '{"images": [{"id": 1, "file_name": "1.png"}, {"id": 2, "file_name": "new.png"}],
        "annotations": [{"image_id": 1, "caption": "One"}, {"image_id": 2, "caption": "Two"}]}' >"$T/coco.json"
    PG_BIN=$B run -4 pipelines/evaluate.sh "$T/m" "$T/coco.json" "$T/pictures" "$T/coco"
    cp "$T/pictures/1.png" "$T/pictures/new.png"
    rm "$T"/coco/captions.pgs "$T"/coco/scores.* "$T/coco/report.html"
    PG_BIN=$B run -0 pipelines/evaluate.sh "$T/m" "$T/coco.json" "$T/pictures" "$T/coco"
}

@test "evaluate.sh: what is no data set is refused with its name and the reason, and OUT is as if nothing had been" {
    command -v jq >/dev/null || skip 'no jq'
    mkdir "$T/folder"
    small
    pictures
    printf '{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "capt' >"$T/cut.json"
    printf '{"images": [{"id": 1, "file_name": "1.png"}], "annotations": [{"image_id": 1, "caption": "One"}]} oops' >"$T/behind.json"
    echo '[1, 2]' >"$T/list.json"
    echo '{"a": 1}' >"$T/object.json"
    echo '{"images": [{"id": 1, "file_name": "1.png"}]}' >"$T/bare.json"
    echo '{"images": [{"split": "test", "sentences": 3}]}' >"$T/odd.json"
    : >"$T/empty.json"
    while read -r name why; do
        PG_BIN=$B run --separate-stderr pipelines/evaluate.sh "$T/m" "$T/$name" "$T/pictures" "$T/out"
        [ "$status" -eq 1 ] || { echo "$name: status $status: $stderr"; false; }
        [[ $stderr == "evaluate.sh: "*"'$T/$name'"*"$why"* ]] || { echo "$name: $stderr"; false; }
        [ "${#stderr_lines[@]}" -eq 1 ]
        [ ! -e "$T/out" ] || { ls "$T/out"; false; }
    done <<'L'
folder is a folder; wanted is
m/model.npz parse error: Invalid numeric literal
cut.json parse error: Unfinished
behind.json parse error: Invalid
list.json it is no object, its JSON is of the type array; wanted is
object.json it has no list "images"; wanted is
bare.json it has neither "annotations" nor images with "sentences" and "split"; wanted is
odd.json Cannot iterate over number
empty.json has no pictures in split 'test'
L
    # Where nothing can be scored neither; what else is in OUT stays.
    mkdir "$T/out"
    echo mine >"$T/out/notes"
    echo oops >"$T/none.jsonl"
    PG_BIN=$B run -1 pipelines/evaluate.sh "$T/m" "$T/none.jsonl" "$T/pictures" "$T/out"
    [ "$(ls -A "$T/out")" = notes ]
    PG_BIN=$B run -0 pipelines/evaluate.sh "$T/m" "$T/pictures/train.jsonl" "$T/pictures" "$T/out"
}
