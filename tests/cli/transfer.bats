#!/usr/bin/env bats
# pipelines/transfer.sh and its recipes.
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=$(cd "${PG_BUILD:-build}" && pwd)
    T=$BATS_TEST_TMPDIR
}

@test "every recipe names its source, and the tools take its options" {
    n=0
    for r in pipelines/recipes/*; do
        [[ $r != *.md ]] || continue
        grep -q '^# .*transfers/.*\.py.*google-research/big_vision' "$r"
        for tool in pg-tokenize pg-train pg-infer; do
            run pipelines/transfer.sh "$(basename "$r")" $tool
            [ "$status" -eq 0 ]
            [ -n "$output" ]
            declare -a out=()
            [ $tool != pg-train ] || out=(-o "$T/out")
            # No such model 1, no stream 3; an option that is not one: 2.
            run bash -c "'$B/$tool' -m '$T/none' ${out[*]} $output </dev/null"
            [[ $status == [13] ]] || { echo "$r: $tool: $status $output"; false; }
            n=$((n + 1))
        done
    done
    [ $n -ge 110 ]
}

@test "every configuration of the reference has a recipe, or a reason why not" {
    # big_vision 0127fb6, transfers/*.py but common.py
    for c in activitynet_cap activitynet_qa ai2d aokvqa_da aokvqa_mc chartqa coco35l cococap docvqa forkme gqa infovqa msrvtt_cap msrvtt_qa msvd_qa nlvr2 \
        ocrvqa okvqa pope refcoco_seg rsvqa_hr rsvqa_lr scicap science_qa screen2words stvqa tallyqa textcaps textvqa vatex_cap vertexai_l4 vizwizvqa vqav2 widgetcap; do
        grep -q "^# .*transfers/$c\.py" pipelines/recipes/* || grep -qE "^\| .*\b$c\b.* \|" pipelines/recipes/README.md || { echo "$c"; false; }
    done
}

@test "a recipe runs; options of one's own come last" {
    mkdir "$T/p"
    for i in 1 2 3 4; do
        cp tests/golden/image/png-rgb8.png "$T/p/$i.png"
        echo "{\"image\":\"$i.png\",\"suffix\":\"A thing\"}"
    done >"$T/p/train.jsonl"
    PG_BIN=$B run pipelines/transfer.sh cococap data/nano "$T/p/train.jsonl" "$T/tuned" --epochs 1 --batch 2 --train attention
    [ "$status" -eq 0 ] || { echo "$output"; false; }
    [ -f "$T/tuned/model.npz" ]
    # The recipe's --epochs gives way to --steps, which excludes it.
    PG_BIN=$B run pipelines/transfer.sh cococap data/nano "$T/p/train.jsonl" "$T/steps" --steps 3 --batch 2 --train attention
    [ "$status" -eq 0 ] || { echo "$output"; false; }
    [[ $output == *'done: step 3 '* ]]
    PG_BIN=$B run pipelines/transfer.sh no-such data/nano "$T/p/train.jsonl" "$T/tuned"
    [ "$status" -eq 2 ]
    [[ $output == *cococap* ]]
}
