#!/usr/bin/env bats
# README.md's commands, run as they are printed, from top to bottom, in a folder that has what they name. What is left out, and why, is in
# `skips`; anything else that stands in a block of commands is run.
# shellcheck disable=SC2030,SC2031,SC2154
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=$(cd "${PG_BUILD:-build}" && pwd)
    R=$PWD
    T=$BATS_TEST_TMPDIR
}

# Lines that are not run here.
skips() {
    case $1 in
    'make demo'* | 'make check'*) ;;                        # the whole; demo.sh has a test of its own
    'export KAGGLE_API_TOKEN'* | 'pipelines/finetune.sh  '*) ;; # the download of PaliGemma; finetune.sh has a test of its own
    'make && sudo '* | 'sudo make '* | 'make deb '*) ;;      # install.bats, packaging/check-install.sh
    'mpirun '*) ;;                                          # mpi.bats
    'pipelines/slurm/'* | 'sbatch '*) ;;                    # slurm.bats
    *'shard-{'* | *'--skip 1200 ...'*) ;;                   # shards.bats, preprocess.bats, caption-shards.bats
    *kaggle://*) ;;
    'pipelines/serve.sh '*) ;;                              # runs until it is stopped; serve.bats
    'make -f pipelines/sweep.mk'*) ;;                       # six trainings; scripts.bats
    *) return 1 ;;
    esac
}

# A folder as the README's reader has it: MODEL, pictures with captions, COCO's files, what make demo leaves.
folder() {
    local i names=(png-rgb8 png-pal8 jpg-420 jpg-444 jpg-gray png-ga8)
    mkdir -p "$T/here/photos" "$T/here/build/demo/val" "$T/here/coco/val2014"
    cd "$T/here" || return
    ln -s "$R/data" data
    ln -s "$R/pipelines" pipelines
    ln -s "$R/data/nano" MODEL
    for i in "${!names[@]}"; do
        cp "$R/tests/golden/image/${names[i]}".* photos/
    done
    rm -f photos/*.npy photos/*.txt
    cp photos/* build/demo/val/
    cp photos/png-rgb8.png coco/val2014/
    (cd photos && for i in *; do printf '{"image": "photos/%s", "suffix": "a thing called %s"}\n' "$i" "${i%%.*}"; done) >train.jsonl
    "$B/pg-fetch" train.jsonl | "$B/pg-resize" -m MODEL | "$B/pg-tokenize" -q -m MODEL >val.pgs
    printf '{"images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}], "annotations": [%s, %s]}\n' \
        '{"image_id": 1, "caption": "a cat"}' '{"image_id": 2, "caption": "a dog on a chair"}' >captions_val2014.json
    echo '[{"image_id": 1, "caption": "a cat"}, {"image_id": 2, "caption": "a red chair"}]' >results.json
    printf '{"images": [{"filepath": "val2014", "filename": "png-rgb8.png", "split": "test", "cocoid": 7, "sentences": [{"raw": "a thing"}]}]}\n' >dataset_coco.json
}

@test "the README's commands work as printed" {
    folder
    PATH=$B:$PATH
    n=0 skipped=0
    while IFS= read -r line; do
        line=${line#    }
        if skips "$line"; then
            skipped=$((skipped + 1))
            continue
        fi
        case $line in *evaluate.sh*) command -v jq >/dev/null || continue ;; esac
        # The tools lie elsewhere than in the reader's build/.
        # shellcheck disable=SC2016
        [ "$line" != 'PATH=$PWD/build:$PATH' ] || continue
        run --separate-stderr bash -o pipefail -c "$line" </dev/null
        [ "$status" -eq 0 ] || { echo "$line: $status $output $stderr"; false; }
        # A stream would not have gone to the reader's terminal.
        [[ $output != *pg-stream* ]] || { echo "$line: a stream on standard output"; false; }
        n=$((n + 1))
    done < <(sed -n '/^    [^ ]/p' "$R/README.md" | grep -vE '^    {' )
    echo "$n run, $skipped left out"
    [ "$n" -ge 15 ]
    [ "$skipped" -eq 20 ]
    [ -s loss.svg ] && [ -s report.html ] && [ -f TUNED/model.npz ] && [ -f MERGED/model.safetensors ] && [ -f hf/config.json ]
}

@test "pg-resize takes the size from the model" {
    folder
    cmp <("$B/pg-fetch" photos | "$B/pg-resize" -m MODEL | "$B/pg-render" -f jsonl --with-tensors) \
        <("$B/pg-fetch" photos | "$B/pg-resize" -s 64 | "$B/pg-render" -f jsonl --with-tensors)
    run "$B/pg-resize" -m MODEL -s 64 </dev/null
    [ "$status" -eq 2 ]
    run "$B/pg-resize" -m photos </dev/null
    [ "$status" -eq 1 ]
    [[ $output == *photos* ]]
}
