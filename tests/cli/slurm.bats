#!/usr/bin/env bats
# pipelines/slurm. With Debian's slurm-wlm and munge installed, and as root, a Slurm of its own runs the jobs; see tests/slurm/run.sh.
bats_require_minimum_version 1.5.0
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=$(cd "${PG_BUILD:-build}" && pwd)
    T=$BATS_TEST_TMPDIR
}

@test "submit.sh: usage, and what is missing as ranges" {
    for args in '' 'captions 4 m s' 'other 4 m s o' 'captions none m s o' 'captions 0 m s o'; do
        # shellcheck disable=SC2086 # several words
        run -2 pipelines/slurm/submit.sh $args
    done
    mkdir "$T/bin" "$T/out"
    printf '#!/bin/sh\nprintf "%%s\\n" "$@"\n' >"$T/bin/sbatch"
    chmod +x "$T/bin/sbatch"
    for i in 0 2 3 7; do touch "$T/out/part-00000$i-of-000010.jsonl"; done
    touch "$T/out/.part-000005-of-000010.jsonl.77" "$T/out/part-000001-of-000010.pgs"
    PATH=$T/bin:$PATH RUNNING=3 run -0 pipelines/slurm/submit.sh captions 10 m s "$T/out" --time 10
    [ "${lines[0]}" = 'parts to make: 1,4-6,8-9' ]
    [[ $output == *--array=1,4-6,8-9%3* ]]
    [[ $output == *$'\n--time\n10\n'* ]]
    # The same for other pictures, another model, another prompt is refused; examples in the same folder are a job of their own.
    refused() { # refused NAME=VALUE MODEL SOURCE
        PATH=$T/bin:$PATH run -1 env "$1" pipelines/slurm/submit.sh captions 10 "$2" "$3" "$T/out"
        [[ $output == *"submit.sh: '$T/out' was made with something else; name another OUT, or remove it"* ]] || { echo "$*: $output"; false; }
    }
    refused PREFIX=x m s
    refused LENGTH=8 m s
    refused SIZE=8 m s
    refused PREFIX= other s
    refused PREFIX= m other
    PATH=$T/bin:$PATH LENGTH=8 run -0 pipelines/slurm/submit.sh examples 2 m s "$T/out"
    mkdir "$T/s"
    touch "$T/s/1.png" "$T/s/2.png"
    PATH=$T/bin:$PATH run -0 pipelines/slurm/submit.sh captions 2 m "$T/s" "$T/out2"
    touch -d yesterday "$T/s/1.png"
    PATH=$T/bin:$PATH run -0 pipelines/slurm/submit.sh captions 2 m "$T/s" "$T/out2"
    touch "$T/s/3.png"
    PATH=$T/bin:$PATH run -1 pipelines/slurm/submit.sh captions 2 m "$T/s" "$T/out2"
    [[ $output == *"then  source"*"now   source"* ]]
    for i in 1 4 5 6 8 9; do touch "$T/out/part-00000$i-of-000010.jsonl"; done
    PATH=$T/bin:$PATH run -0 pipelines/slurm/submit.sh captions 10 m s "$T/out"
    [[ $output == "all 10 parts are in "* ]]
}

@test "part.sh, without Slurm: the parts together are the whole; a failing tool leaves no part" {
    mkdir "$T/pictures" "$T/out"
    cp tests/golden/image/png-{rgb8,gray8,pal8,rgba16,ga8}.png tests/golden/image/bad/bad-text.jpg "$T/pictures/"
    export PG_BIN=$B LENGTH=4
    for i in 0 1 2; do
        SLURM_ARRAY_TASK_ID=$i run -0 pipelines/slurm/part.sh captions 3 data/nano "$T/pictures" "$T/out"
    done
    [ "$(cat "$T"/out/part-* | jq -r .id | sort | paste -sd' ')" = "$(cd "$T/pictures" && ls | LC_ALL=C sort | paste -sd' ')" ]
    [ "$(cat "$T"/out/part-* | jq -r 'select(.error != null).id')" = bad-text.jpg ]
    SLURM_ARRAY_TASK_ID=1 run -0 pipelines/slurm/part.sh captions 3 data/nano "$T/pictures" "$T/out"
    [[ $output == *'done before' ]]
    SLURM_ARRAY_TASK_ID=0 run -0 pipelines/slurm/part.sh examples 1 data/nano "$T/pictures" "$T/out"
    "$B/pg-info" "$T/out/part-000000-of-000001.pgs" | grep -q '^records *6'
    SLURM_ARRAY_TASK_ID=0 run -1 pipelines/slurm/part.sh captions 2 data/nano "$T/none" "$T/out"
    [[ $output == *"part-000000-of-000002.jsonl' is not made"* ]]
    [ -z "$(find "$T/out" -name '*of-000002*')" ]
}

@test "an array with a killed task, its rerun, and training, under Slurm" {
    run tests/slurm/run.sh "$B"
    [ "$status" -ne 77 ] || skip "${output#skipped: }"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *'rerun: part 2 alone'* ]]
    [[ $output == *'the bits of a run that was not'* ]]
}
