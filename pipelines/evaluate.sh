#!/usr/bin/env bash
# Scores MODEL on COCO captions as the reference's cococap configuration does: Karpathy's test split, beam of 2, at most 32 tokens, nothing
# lower-cased. What OUT has already is not done again, so an interrupted evaluation goes on; OUT of another model or other options is refused.
# Usage: evaluate.sh MODEL DATASET IMAGES [OUT]
#   DATASET  Karpathy's dataset_coco.json; or a COCO captions file, all of it; or JSON lines as pg-fetch reads them, pictures of other hosts too
#   IMAGES   the folder that DATASET's file names are relative to (for Karpathy's: the one that holds val2014 and train2014)
#   OUT      where everything goes (evaluation): examples.jsonl, captions.pgs, results.json, scores.txt, scores.json, report.html
# Environment: SPLIT (test), BEAM (2), LENGTH (32), PREFIX (caption en), SIZE (the model's), LIMIT (all), BATCH (8), PG_BIN
set -euo pipefail
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/usage.sh"
operands 3 4 "$@"
prompt_in_prefix
together "$@"
model=$1 dataset=$2 images=$3 out=${4:-evaluation}
PATH=${PG_BIN:+$PG_BIN:}$PATH:$(dirname "$(readlink -f "$0")")/../build
for f in "$dataset" "$images"; do [ -e "$f" ] || { echo "evaluate.sh: '$f' does not exist" >&2; exit 1; }; done
mkdir -p "$out"
images=$(cd "$images" && pwd)
# shellcheck disable=SC1091
. "$(dirname "$(readlink -f "$0")")/made.sh"
made_of "$out/made-of" 'name another OUT, or remove it' model "$(files_of "$model") $(readlink -f "$model")" \
    dataset "$(files_of "$dataset") $(readlink -f "$dataset")" images "$images" \
    options "SPLIT=${SPLIT:-test} BEAM=${BEAM:-2} LENGTH=${LENGTH:-32} PREFIX=${PREFIX:-caption en} SIZE=${SIZE:-} LIMIT=${LIMIT:-}"

# step FILE TEXT COMMAND...: unless FILE is there. The command's output becomes FILE when it has succeeded, with errors of some records too.
step() {
    local file=$1 status=0
    if [ -e "$file" ]; then
        echo "$2: done before ('$file')"
        return
    fi
    echo "$2"
    "${@:3}" >"$file.new" || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 4 ] || exit "$status"
    mv "$file.new" "$file"
}

# Karpathy's file has sentences and splits; COCO's has annotations that name their image.
as_lines() {
    case $dataset in
    # What is no text pg-fetch tells of, with its line.
    *.jsonl) jq -c --arg dir "$images" '.image |= if type != "string" or test("^(/|[a-z]+://)") then . else $dir + "/" + . end' "$dataset" ;;
    *) jq -c --arg dir "$images" --arg split "${SPLIT:-test}" '
        if .annotations then
            (.annotations | group_by(.image_id) | map({key: (.[0].image_id | tostring), value: map(.caption)}) | from_entries) as $said
            | .images[] | {image: ($dir + "/" + .file_name), id: (.id | tostring), references: ($said[.id | tostring] // [])}
            | select(.references | length > 0)
        else
            .images[] | select(.split == $split)
            | {image: ($dir + "/" + .filepath + "/" + .filename), id: (.cocoid | tostring), references: [.sentences[].raw]}
        end' "$dataset" ;;
    esac
}

caption() {
    local size=(-m "$model")
    [ -z "${SIZE:-}" ] || size=(-s "$SIZE")
    pg-fetch ${LIMIT:+-n "$LIMIT"} "$out/examples.jsonl" | pg-resize "${size[@]}" |
        pg-tokenize -m "$model" -p "${PREFIX:-caption en}" --keep-case |
        pg-infer -m "$model" --beam "${BEAM:-2}" -n "${LENGTH:-32}" -b "${BATCH:-8}" | pg-score -q --annotate || cause "${PIPESTATUS[@]}"
}

command -v jq >/dev/null || { echo 'evaluate.sh: jq is needed: apt-get install jq' >&2; exit 1; }
step "$out/examples.jsonl" 'list of pictures' as_lines
[ -s "$out/examples.jsonl" ] || { rm "$out/examples.jsonl"; echo "evaluate.sh: '$dataset' has no pictures in split '${SPLIT:-test}'" >&2; exit 1; }
step "$out/captions.pgs" 'captions' caption
step "$out/scores.txt" 'scores' pg-score --bootstrap 1000 --results "$out/results.json" "$out/captions.pgs"
step "$out/scores.json" 'scores as JSON' pg-score -q -f json --bootstrap 1000 "$out/captions.pgs"
step "$out/report.html" 'report' pg-render -f html "$out/captions.pgs"
cat "$out/scores.txt"
echo "report: $out/report.html"
