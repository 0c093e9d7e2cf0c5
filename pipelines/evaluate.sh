#!/usr/bin/env bash
# Scores MODEL on COCO captions as the reference's cococap configuration does: Karpathy's test split, beam of 2, at most 32 tokens, nothing
# lower-cased. What OUT has already is not done again, so an interrupted evaluation goes on; OUT of another model or other options is refused.
# Usage: evaluate.sh MODEL DATASET IMAGES [OUT]
#   DATASET  Karpathy's dataset_coco.json; or a COCO captions file, all of it; or JSON lines as pg-fetch reads them, pictures of other hosts too
#   IMAGES   the folder that DATASET's file names are relative to (for Karpathy's: the one that holds val2014 and train2014)
#   OUT      where everything goes (evaluation): captions.pgs, results.json, scores.txt, scores.json, report.html; of a JSON file
#            also examples.jsonl; where some pictures have errors also a file errors
# Environment: SPLIT (test), BEAM (2), LENGTH (32), PREFIX (caption en), SIZE (the model's), LIMIT (all), BATCH (8), PG_BIN
# Exit status 4: some pictures could not be captioned or scored.
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
operands 3 4 "$@"
prompt_in_prefix
together "$@"
model=$1 dataset=$2 images=$3 out=${4:-evaluation}
PATH=${PG_BIN:+$(readlink -f "$PG_BIN"):}$PATH:$(dirname "$(readlink -f "$0")")/../build
for f in "$dataset" "$images"; do [ -e "$f" ] || { echo "evaluate.sh: '$f' does not exist" >&2; exit 1; }; done
command -v jq >/dev/null || { echo 'evaluate.sh: jq is needed: apt-get install jq' >&2; exit 1; }
mkdir -p "$out"
images=$(cd "$images" && pwd)
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/made.sh"
made_of "$out/made-of" 'name another OUT, or remove it' model "$(files_of "$model") $(readlink -f "$model")" \
    dataset "$(files_of "$dataset") $(readlink -f "$dataset")" images "$images" \
    options "SPLIT=${SPLIT:-test} BEAM=${BEAM:-2} LENGTH=${LENGTH:-32} PREFIX=${PREFIX:-caption en} SIZE=${SIZE:-} LIMIT=${LIMIT:-}"

# give_up STATUS [WHY]: without captions OUT has nothing that is worth keeping, and a second call may be about something else.
give_up() {
    [ $# -eq 1 ] || echo "evaluate.sh: $2" >&2
    if [ ! -e "$out/captions.pgs" ]; then
        rm -f "$out/made-of" "$out/examples.jsonl"
        rmdir --ignore-fail-on-non-empty "$out"
    fi
    exit "$1"
}

# step FILE TEXT COMMAND...: unless FILE is there. The command's output becomes FILE when it has succeeded, with errors of some records too.
step() {
    local file=$1 status=0
    if [ -e "$file" ]; then
        echo "$2: done before ('$file')"
        return
    fi
    echo "$2"
    "${@:3}" >"$file.new" || status=$?
    case $status in
    0) ;;
    4) touch "$out/errors" ;; # a later call ends with 4 too
    *)
        rm -f "$file.new"
        give_up "$status"
        ;;
    esac
    mv "$file.new" "$file"
}

# Karpathy's file has sentences and splits; COCO's has annotations that name their image.
as_lines() {
    jq -c --arg dir "$images" --arg split "${SPLIT:-test}" '
        if type != "object" then error("it is no object, its JSON is of the type " + type)
        elif (.images | type) != "array" then error("it has no list \"images\"")
        elif .annotations then
            (.annotations | group_by(.image_id) | map({key: (.[0].image_id | tostring), value: map(.caption)}) | from_entries) as $said
            | .images[] | {image: ($dir + "/" + .file_name), id: (.id | tostring), references: ($said[.id | tostring] // [])}
            | select(.references | length > 0)
        elif any(.images[]; .sentences and .split) then
            .images[] | select(.split == $split)
            | {image: ($dir + "/" + .filepath + "/" + .filename), id: (.cocoid | tostring), references: [.sentences[].raw]}
        else error("it has neither \"annotations\" nor images with \"sentences\" and \"split\"") end' "$dataset"
}

# list: examples.jsonl of a JSON file. Whatever is wrong with that, jq says it in one line.
list() {
    local why
    [ ! -d "$dataset" ] || give_up 1 "'$dataset' is a folder; $wanted"
    why=$(as_lines 2>&1 >"$out/examples.jsonl.new") || {
        rm -f "$out/examples.jsonl.new"
        give_up 1 "cannot list the pictures of '$dataset': $(sed -E 's/^jq: (error )?(\(at .*:[0-9]+\))?:? *//; q' <<<"$why"); $wanted"
    }
    [ -s "$out/examples.jsonl.new" ] || { rm -f "$out/examples.jsonl.new"; give_up 1 "'$dataset' has no pictures in split '${SPLIT:-test}'"; }
    mv "$out/examples.jsonl.new" "$out/examples.jsonl"
}
wanted="wanted is Karpathy's dataset_coco.json, a COCO captions file, or JSON lines in a file NAME.jsonl"

# JSON lines are read as they are, so that a bad one is an error of its own. pg-fetch looks for their pictures beside the list, or in the
# current folder where it comes from standard input.
examples() {
    local limit=(${LIMIT:+-n "$LIMIT"})
    if [[ $dataset != *.jsonl ]]; then
        pg-fetch "${limit[@]}" "$out/examples.jsonl"
    elif [ "$(dirname "$dataset")" -ef "$images" ]; then
        pg-fetch "${limit[@]}" "$dataset"
    else
        (cd "$images" && pg-fetch "${limit[@]}" -) <"$dataset" || {
            local status=$?
            [ "$status" -eq 141 ] || echo "evaluate.sh: what pg-fetch calls stdin is '$dataset'" >&2
            return "$status"
        }
    fi
}

# unwarned COMMAND...: without pg-score's warnings, which the step that prints the scores gives.
unwarned() { { "$@" 2>&1 >&3 3>&- | sed '/^pg-score: warning: /d' >&2; } 3>&1; }

caption() {
    local size=(-m "$model")
    rm -f "$out/errors"
    [ -z "${SIZE:-}" ] || size=(-s "$SIZE")
    examples | pg-resize "${size[@]}" | pg-tokenize -m "$model" -p "${PREFIX:-caption en}" --keep-case |
        pg-infer -m "$model" --beam "${BEAM:-2}" -n "${LENGTH:-32}" -b "${BATCH:-8}" | unwarned pg-score -q --annotate || cause "${PIPESTATUS[@]}"
}

if [[ $dataset != *.jsonl ]]; then
    if [ -e "$out/examples.jsonl" ]; then
        echo "list of pictures: done before ('$out/examples.jsonl')"
    else
        echo 'list of pictures'
        list
    fi
fi
step "$out/captions.pgs" 'captions' caption
step "$out/scores.txt" 'scores' pg-score --bootstrap 1000 --results "$out/results.json" "$out/captions.pgs"
step "$out/scores.json" 'scores as JSON' unwarned pg-score -q -f json --bootstrap 1000 "$out/captions.pgs"
step "$out/report.html" 'report' pg-render -f html "$out/captions.pgs"
cat "$out/scores.txt"
echo "report: $out/report.html"
[ ! -e "$out/errors" ] || exit 4
