#!/usr/bin/env bash
# The notebook's job. Without MODEL TRAIN OUT all of it: fetch PaliGemma, its tokenizer and the pictures of longcap100, fine-tune the
# language model's attention weights, caption held-out pictures before and after, write a report. What a folder has already is not done again;
# a folder that was made with other options is refused. With MODEL TRAIN OUT training alone, of which nothing is kept but OUT; where OUT is done
# it is refused, as nothing tells how it was made.
# Either way training that was stopped goes on from what it saved last, to the same bits, when it is called again as before; DIR's report
# shows the losses from there, `pg-render -o loss.svg DIR/events-*.pgs DIR/events.pgs` all of them. To begin anew, remove DIR, or OUT and OUT.state.
# Usage: finetune.sh [DIR [pg-train options]]              DIR: where everything goes (finetune)
#        finetune.sh MODEL TRAIN OUT [pg-train options]    fine-tune MODEL on TRAIN.jsonl (or a folder with sidecar texts), write OUT
# Environment: PREFIX (caption en; with TRAIN the examples' own, else that), LENGTH (128), SIZE (the model's), PG_BIN,
# SAVE_EVERY (16: so many steps are lost at most where training is stopped; 0: all), MPIRUN ('mpirun -n 4': trains on so many processes;
# nothing: on one); for the whole job also MODEL_SOURCE, TOKENIZER_SOURCE (as pg-fetch takes them, or a model's folder or file that is here:
# DIR gets links to it; its own tokenizer where there is one), TRAIN_SOURCE, VAL_SOURCE, STEPS (64), BATCH (8),
# SKIP_ERRORS (0; 1: go on without pictures that cannot be had or read; else the job ends there, as another try may have them); credentials as
# in pg-fetch(1).
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
prompt_in_prefix
together "$@"
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../build MPIRUN=${MPIRUN:-}
[[ ${SAVE_EVERY:-16} =~ ^[0-9]+$ ]] || usage "SAVE_EVERY '$SAVE_EVERY' is no number of steps"
[ -z "$MPIRUN" ] || command -v "${MPIRUN%% *}" >/dev/null || usage "MPIRUN: there is no program '${MPIRUN%% *}'"

examples() { # examples SOURCE MODEL [pg-resize options]; $prefix: of all examples, empty: their own
    local source=$1 model=$2 size=(-m "$2")
    shift 2
    [ -z "${SIZE:-}" ] || size=(-s "$SIZE")
    pg-fetch "$source" | pg-resize "${size[@]}" "$@" | pg-tokenize -m "$model" ${prefix:+-p "$prefix"} -l "${LENGTH:-128}" ||
        cause "${PIPESTATUS[@]}"
}

# train MODEL OUT STATE [pg-train options]: goes on from STATE, OUT's, where there is one.
train() {
    local model=$1 out=$2 save=()
    [ "${SAVE_EVERY:-16}" -eq 0 ] || save=(--save-every "${SAVE_EVERY:-16}")
    [ ! -e "$3" ] || save+=(--resume)
    $MPIRUN pg-train -m "$model" -o "$out" "${save[@]}" "${@:4}"
}

if [ $# -ge 2 ] && [[ $2 != -?* ]]; then
    operands 3 3 "${@:1:3}"
    model=$1 train=$2 out=$3 prefix=${PREFIX:-} status=0
    shift 3
    while [[ $out == ?*/ ]]; do out=${out%/}; done
    [ ! "$out" -ef "$train" ] || usage "OUT '$out' is TRAIN"
    if [ ! -e "$out.state" ] && { [ -f "$out" ] || compgen -G "$out/*.npz" >/dev/null || compgen -G "$out/*.safetensors" >/dev/null; }; then
        echo "finetune.sh: '$out' is there already, and is not written over: to train again remove it, or name another OUT" >&2
        exit 1
    fi
    examples "$train" "$model" --drop-image | train "$model" "$out" "$out.state" "$@" | pg-render -f text || cause "${PIPESTATUS[@]}" || status=$?
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
# What it starts inherits the lock. 9: another one has it; NFS has no locks of folders.
exec 9<"$dir"
flock -E 9 -w 5 9 || [ $? -ne 9 ] || { echo "finetune.sh: another run is at work in '$dir': wait for it, or end it" >&2; exit 1; }
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/made.sh"
for s in "${MODEL_SOURCE:-}" "${TOKENIZER_SOURCE:-}"; do
    [ -z "$s" ] || [[ $s == *://* ]] || [ -e "$s" ] || { echo "finetune.sh: '$s' does not exist" >&2; exit 1; }
done
[ -z "${MODEL_SOURCE:-}" ] || [ ! -e "$MODEL_SOURCE" ] || pg-info "$MODEL_SOURCE" >/dev/null
# Before anything is fetched: are options right? 2 is pg-train's word for those that are not.
wrong=$(pg-train -m "$dir/model/none" -o "$dir/tuned" --steps "${STEPS:-64}" --batch "${BATCH:-8}" "$@" 2>&1 >/dev/null </dev/null) || [ $? -ne 2 ] ||
    { echo "$wrong" >&2; exit 2; }
# What an attempt has not got to yet may be something else now.
none() { # none PATTERN...: DIR has nothing of that
    local p
    for p; do ! compgen -G "$dir/$p" >/dev/null || return 1; done
}
trained=(tuned.state events.pgs)
! none 'model/*.npz*' 'model/*.safetensors*' before.pgs "${trained[@]}" || forget "$dir/examples.made-of" model
! none 'model/*.model*' || forget "$dir/examples.made-of" tokenizer
! none train.pgs "${trained[@]}" || forget "$dir/examples.made-of" train
! none val.pgs before.pgs || forget "$dir/examples.made-of" val
! none train.pgs val.pgs before.pgs "${trained[@]}" || forget "$dir/examples.made-of" options
! none "${trained[@]}" || rm -f "$dir/tuned.made-of"
made_of "$dir/examples.made-of" 'name another DIR, or remove it' model "${MODEL_SOURCE:-} $(files_of "${MODEL_SOURCE:-}")" \
    tokenizer "${TOKENIZER_SOURCE:-} $(files_of "${TOKENIZER_SOURCE:-}")" train "${TRAIN_SOURCE:-}" val "${VAL_SOURCE:-}" \
    options "PREFIX=${PREFIX:-caption en} LENGTH=${LENGTH:-128} SIZE=${SIZE:-}"
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
    if [ "$status" -eq 4 ] && [ "${SKIP_ERRORS:-0}" = 0 ]; then
        echo 'finetune.sh: some pictures have errors, named above: mend that and run this again, or go on without them with SKIP_ERRORS=1' >&2
    fi
    [ "$status" -eq 0 ] || { [ "$status" -eq 4 ] && [ "${SKIP_ERRORS:-0}" != 0 ]; } || exit "$status"
    mv "$file.new" "$file"
}

link() { # link FILE...: those of them that are there
    local f
    for f; do
        [ -f "$f" ] || continue
        ln -sf "$(realpath "$f")" "$dir/model/"
        echo "$dir/model/${f##*/}"
    done
}
# Into DIR/model: links to what lies here, a copy would take as much space again; the rest is downloaded. Prints what is there then.
get_model() {
    local model=${MODEL_SOURCE:-kaggle://google/paligemma/jax/paligemma-3b-pt-224} tokenizer=${TOKENIZER_SOURCE:-} beside remote=()
    if [ -d "$model" ]; then beside=$model; else beside=$(dirname "$model"); fi
    if [ -z "$tokenizer" ]; then
        if compgen -G "$beside/*.model" >/dev/null; then tokenizer=$beside; else tokenizer=gs://big_vision/paligemma_tokenizer.model; fi
        [ ! -e "$model" ] || [ -e "$tokenizer" ] || echo "finetune.sh: no tokenizer beside '$model': PaliGemma's is fetched" >&2
    fi
    mkdir -p "$dir/model"
    [[ ! -f $model || $model != *.index.json ]] || model=$beside
    if [ -d "$model" ]; then
        link "$model"/*.{npz,safetensors,json}
    elif [ -e "$model" ]; then
        link "$model" "$beside/config.json"
    else
        remote+=("$model")
    fi
    if [ -d "$tokenizer" ]; then
        link "$tokenizer"/*.model
    elif [ -e "$tokenizer" ]; then
        link "$tokenizer"
    else
        remote+=("$tokenizer")
    fi
    [ ${#remote[@]} -eq 0 ] || pg-fetch -o "$dir/model" "${remote[@]}"
}
caption() { pg-infer -m "$1" <"$dir/val.pgs"; }
tune() {
    # Besides the events a line for each step, for those who wait; tee outlives signals until it has all that pg-train wrote.
    {
        train "$dir/model" "$dir/tuned" "$dir/tuned.state" --steps "${STEPS:-64}" --batch "${BATCH:-8}" "$@" <"$dir/train.pgs" |
            (trap '' HUP TERM && exec tee -ip /dev/fd/3) | pg-render -f text >&2 || cause "${PIPESTATUS[@]}"
    } 3>&1
}
report() { pg-render -f html --label before --label after "$dir/before.pgs" "$dir/after.pgs" "$dir/events.pgs"; }

step "$dir/model.files" 'fetching the model and its tokenizer' get_model
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
