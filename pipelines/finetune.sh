#!/usr/bin/env bash
# The notebook's job. Without MODEL TRAIN OUT all of it: fetch PaliGemma, its tokenizer and the pictures of longcap100, fine-tune the
# language model's attention weights, caption held-out pictures before and after, write a report. What a folder has already is not done again;
# a folder that was made with other options is refused. With MODEL TRAIN OUT training alone, of which nothing is kept but OUT.
# Either way training that was stopped goes on from what it saved last, to the same bits, when it is called again as before; DIR's report
# shows the losses from there, `pg-render -o loss.svg DIR/events-*.pgs DIR/events.pgs` all of them. To begin anew, remove DIR, or OUT.state.
# Usage: finetune.sh [DIR [pg-train options]]              DIR: where everything goes (finetune)
#        finetune.sh MODEL TRAIN OUT [pg-train options]    fine-tune MODEL on TRAIN.jsonl (or a folder with sidecar texts), write OUT
# Environment: PREFIX (caption en; with TRAIN the examples' own, else that), LENGTH (128), SIZE (the model's), PG_BIN,
# SAVE_EVERY (16: so many steps are lost at most where training is stopped; 0: all), MPIRUN ('mpirun -n 4': trains on so many processes;
# nothing: on one); for the whole job also MODEL_SOURCE, TOKENIZER_SOURCE, TRAIN_SOURCE, VAL_SOURCE, STEPS (64), BATCH (8),
# SKIP_ERRORS (1: go on without pictures that cannot be had or read; else the job ends there, as another try may have them); credentials as
# in pg-fetch(1).
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
prompt_in_prefix
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../build MPIRUN=${MPIRUN:-}

examples() { # examples SOURCE MODEL [pg-resize options]; $prefix: of all examples, empty: their own
    local source=$1 model=$2 size=(-m "$2")
    shift 2
    [ -z "${SIZE:-}" ] || size=(-s "$SIZE")
    pg-fetch "$source" | pg-resize "${size[@]}" "$@" | pg-tokenize -m "$model" ${prefix:+-p "$prefix"} -l "${LENGTH:-128}"
}

# train MODEL OUT STATE [pg-train options]: goes on from STATE, OUT's, where there is one.
train() {
    local model=$1 out=$2 save=()
    [ "${SAVE_EVERY:-16}" -eq 0 ] || save=(--save-every "${SAVE_EVERY:-16}")
    [ ! -e "$3" ] || save+=(--resume)
    $MPIRUN pg-train -m "$model" -o "$out" "${save[@]}" "${@:4}"
}

if [ $# -ge 2 ] && [[ $2 != -* ]]; then
    operands 3 3 "${@:1:3}"
    model=$1 train=$2 out=$3 prefix=${PREFIX:-} status=0
    shift 3
    while [[ $out == ?*/ ]]; do out=${out%/}; done
    examples "$train" "$model" --drop-image | train "$model" "$out" "$out.state" "$@" | pg-render -f text || status=$?
    # As large as what was trained, and of no further use. 4: done, without examples that have errors.
    if [ "$status" -eq 0 ] || [ "$status" -eq 4 ]; then rm -f "$out.state"; fi
    exit "$status"
fi

dir=${1:-finetune} prefix=${PREFIX:-caption en}
[ $# -eq 0 ] || shift
if compgen -G "$dir/*.npz" >/dev/null || compgen -G "$dir/*.safetensors" >/dev/null; then
    echo "finetune.sh: '$dir' is a model, not a folder for the whole job; to fine-tune it: finetune.sh '$dir' TRAIN OUT" >&2
    exit 2
fi
mkdir -p "$dir"
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/made.sh"
made_of "$dir/examples.made-of" 'name another DIR, or remove it' model "${MODEL_SOURCE:-}" tokenizer "${TOKENIZER_SOURCE:-}" train "${TRAIN_SOURCE:-}" \
    val "${VAL_SOURCE:-}" options "PREFIX=${PREFIX:-caption en} LENGTH=${LENGTH:-128} SIZE=${SIZE:-}"
# Asked for nothing in particular, what is done is what is wanted.
if [ -n "${STEPS:-}${BATCH:-}$*" ] || [ ! -e "$dir/tuned.made-of" ] || [ ! -e "$dir/events.pgs" ]; then
    made_of "$dir/tuned.made-of" 'to go on, give the same; to fine-tune again, remove tuned.made-of, tuned.state, events.pgs, after.pgs and report.html there' \
        options "STEPS=${STEPS:-64} BATCH=${BATCH:-8} $*"
fi

# step FILE TEXT COMMAND...: unless FILE is there. The command's output becomes FILE when it has succeeded, with SKIP_ERRORS with errors of
# some records, too.
step() {
    local file=$1 status=0
    if [ -e "$file" ]; then
        echo "$2: done before ('$file')"
        return
    fi
    echo "$2"
    "${@:3}" >"$file.new" || status=$?
    if [ "$status" -eq 4 ] && [ -z "${SKIP_ERRORS:-}" ]; then
        echo 'finetune.sh: some pictures have errors, named above: mend that and run this again, or go on without them with SKIP_ERRORS=1' >&2
    fi
    [ "$status" -eq 0 ] || { [ "$status" -eq 4 ] && [ -n "${SKIP_ERRORS:-}" ]; } || exit "$status"
    mv "$file.new" "$file"
}

caption() { pg-infer -m "$1" <"$dir/val.pgs"; }
tune() {
    # Besides the events a line for each step, for those who wait; tee outlives Ctrl-C until it has all that pg-train wrote.
    {
        train "$dir/model" "$dir/tuned" "$dir/tuned.state" --steps "${STEPS:-64}" --batch "${BATCH:-8}" "$@" <"$dir/train.pgs" |
            tee -ip /dev/fd/3 | pg-render -f text >&2
    } 3>&1
}
report() { pg-render -f html --label before --label after "$dir/before.pgs" "$dir/after.pgs" "$dir/events.pgs"; }

step "$dir/model.files" 'fetching the model and its tokenizer' pg-fetch -o "$dir/model" \
    "${MODEL_SOURCE:-kaggle://google/paligemma/jax/paligemma-3b-pt-224}" "${TOKENIZER_SOURCE:-gs://big_vision/paligemma_tokenizer.model}"
step "$dir/train.pgs" 'training examples' examples "${TRAIN_SOURCE:-gs://longcap100/data_train90.jsonl}" "$dir/model" --drop-image
step "$dir/val.pgs" 'held-out examples' examples "${VAL_SOURCE:-gs://longcap100/data_val10.jsonl}" "$dir/model"
step "$dir/before.pgs" 'captions before' caption "$dir/model"
# Events of an attempt that was stopped.
if [ -e "$dir/tuned.state" ] && [ -s "$dir/events.pgs.new" ]; then
    n=$(find "$dir" -maxdepth 1 -name 'events-*.pgs' | wc -l)
    mv "$dir/events.pgs.new" "$dir/events-$(printf %02d "$n").pgs"
fi
step "$dir/events.pgs" 'fine-tuning' tune "$@"
rm -f "$dir/tuned.state" # as large as what was trained, and of no further use
step "$dir/after.pgs" 'captions after' caption "$dir/tuned"
step "$dir/report.html" 'report' report
echo "report: $dir/report.html"
