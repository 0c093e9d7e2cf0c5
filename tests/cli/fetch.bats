#!/usr/bin/env bats
# pg-fetch: images, folders, JSON lines, what is wrong with them, exit statuses.
# shellcheck disable=SC2154 # bats sets stderr
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    T=$BATS_TEST_TMPDIR
    PNG=tests/golden/image/png-rgb8-1x1.png
    mkdir -p "$T/in/b"
}

# fetch ARGUMENTS...: the stream as JSON lines in $T/out, messages in $T/err, the status in $rc
fetch() {
    rc=0
    "$B/pg-fetch" "$@" >"$T/pgs" 2>"$T/err" || rc=$?
    "$B/pg-render" -f jsonl <"$T/pgs" >"$T/out" 2>"$T/render" || [ $? -eq 4 ] || { cat "$T/err" "$T/render"; false; }
}

line() { sed -n "$1p" "$T/out"; }

@test "a folder: sorted by bytes, sidecars, hidden and other files left out" {
    cp "$PNG" "$T/in/b/z.png"
    cp "$PNG" "$T/in/b.png"
    cp "$PNG" "$T/in/Z.PNG"
    cp "$PNG" "$T/in/a.png"
    cp "$PNG" "$T/in/.hidden.png"
    ln -s .. "$T/in/b/up"
    printf '\xef\xbb\xbfA cat.\r\n' >"$T/in/a.txt"
    : >"$T/in/Z.txt"
    echo notes >"$T/in/notes.txt"
    fetch "$T/in"
    [ "$rc" -eq 0 ]
    [ "$(grep -o '"id":"[^"]*"' "$T/out" | tr '\n' ' ')" = '"id":"Z.PNG" "id":"a.png" "id":"b/z.png" "id":"b.png" ' ] || { cat "$T/out"; false; }
    size=$(wc -c <"$PNG")
    [ "$(line 2)" = "{\"id\":\"a.png\",\"source\":\"$T/in/a.png\",\"image\":{\"bytes\":$size},\"suffix\":\"A cat.\"}" ] || { line 2; false; }
    [[ $(line 1) == *'"suffix":""}' ]]
    [[ $(line 3) != *suffix* ]]
}

@test "the image key holds the file's bytes" {
    fetch "$PNG"
    "$B/pg-render" -f jsonl --with-tensors <"$T/pgs" | sed 's/.*"image":"\([^"]*\)".*/\1/' | base64 -d | cmp - "$PNG"
}

@test "names and captions that are not UTF-8" {
    cp "$PNG" "$T/in/$(printf 'caf\xe9').png"
    cp "$PNG" "$T/in/a.png"
    printf 'caf\xe9\n' >"$T/in/a.txt"
    fetch "$T/in"
    [ "$rc" -eq 4 ]
    [[ $(line 1) == *'"error":'*'not UTF-8'* ]]
    [[ $(line 2) == *'"image":'* && $(line 2) != *error* ]]
    if command -v iconv >/dev/null; then iconv -f utf-8 -t utf-8 "$T/out" >/dev/null; fi
}

@test "an empty folder warns and is an empty stream" {
    rm -r "$T/in/b"
    fetch "$T/in"
    [ "$rc" -eq 0 ]
    [ ! -s "$T/out" ]
    grep -q 'warning: no images' "$T/err"
}

@test "COCO: every image a record, its captions the references, the first one the suffix" {
    mkdir -p "$T/in/val" "$T/ann"
    cp "$PNG" "$T/in/val/COCO_9.png"
    cp "$PNG" "$T/in/b.png"
    cat >"$T/ann/captions.json" <<'J'
{"info": {}, "images": [{"id": 9, "file_name": "val/COCO_9.png"}, {"id": 2, "file_name": "none.png"}, {"id": "b", "file_name": "b.png"}],
 "annotations": [{"image_id": "b", "caption": "A bee."}, {"image_id": 9, "caption": "First."}, {"image_id": 9, "caption": "Zweite \u00fc."},
  {"image_id": 7, "caption": "An image that the file does not name."}]}
J
    fetch --images "$T/in" "$T/ann/captions.json"
    [ "$rc" -eq 4 ]
    size=$(wc -c <"$PNG")
    [ "$(line 1)" = '{"id":"9","source":"'"$T"'/in/val/COCO_9.png","suffix":"First.","references":["First.","Zweite ü."],"image":{"bytes":'"$size"'}}' ] || { line 1; false; }
    [[ $(line 2) == '{"id":"2","source":"'"$T"'/in/none.png","error":'*"$T/in/none.png"* ]]
    [[ $(line 3) == '{"id":"b",'*'"suffix":"A bee.","references":["A bee."],"image":'* ]]
    [[ $(line 4) == '{"id":"7",'*'"error":'*"the image '7' has no file_name"* ]]
    [ "$(wc -l <"$T/out")" -eq 4 ]
    fetch -n 1 --images "$T/in" "$T/ann/captions.json"
    [ "$(wc -l <"$T/out")" -eq 1 ]
    cp "$T/ann/captions.json" "$T/in/" # without --images: beside the file
    fetch "$T/in/captions.json"
    [ "$(grep -c '"image":' "$T/out")" -eq 2 ]
}

@test "COCO: what is no captions file, and --images without one" {
    echo '[{"image_id": 1, "caption": "a result"}]' >"$T/in/results.json"
    run "$B/pg-fetch" "$T/in/results.json"
    [ "$status" -eq 1 ]
    [[ $output == *"results.json' is no COCO captions file"* ]]
    echo '{"annotations": [' >"$T/in/cut.json"
    run "$B/pg-fetch" "$T/in/cut.json"
    [ "$status" -eq 1 ]
    [[ $output == *"cut.json'"* ]]
    run "$B/pg-fetch" --images "$T/in" "$T/in"
    [ "$status" -eq 2 ]
    run "$B/pg-fetch" --images "$T/none" "$T/in/results.json"
    [ "$status" -eq 1 ]
    [[ $output == *"--images '$T/none'"* ]]
}

@test "JSON lines: every key, paths relative to the file, blank lines" {
    cp "$PNG" "$T/in/b/x.png"
    cat >"$T/in/data.jsonl" <<'J'
{"image": "b/x.png", "suffix": "a cat", "prefix": "caption de", "references": ["one", "zwei \u00fc"], "id": "first"}

{"image": "b/x.png", "references": "single", "id": 7}
{"suffix": null, "image": "b/x.png"}
J
    fetch "$T/in/data.jsonl"
    [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
    [ "$(wc -l <"$T/out")" -eq 3 ]
    [[ $(line 1) == '{"id":"first","source":"'"$T"'/in/b/x.png","prefix":"caption de","suffix":"a cat","references":["one","zwei ü"],"image":{"bytes":'* ]] || { line 1; false; }
    [[ $(line 2) == '{"id":"7",'*'"references":["single"]'* ]]
    [[ $(line 3) == '{"id":"b/x.png",'* && $(line 3) != *suffix* ]]
}

@test "JSON lines: each thing wrong becomes an error in its place, status 4" {
    cp "$PNG" "$T/in/x.png"
    cat >"$T/in/bad.jsonl" <<'J'
{"image": "x.png", "id": "good"}
{"image": "x.png", 
{"image": "missing.png", "id": "gone"}
{"image": "x.png", "id": "good"}
["x.png"]
{"suffix": "no picture", "id": "none"}
{"image": "x.png", "suffix": 5, "id": "number"}
{"image": "x.png", "references": ["a", 5], "id": "refs"}
{"image": "x.png", "image": "x.png", "id": "twice"}
{"image": ".", "id": "folder"}
{"image": "x.png\u0000", "id": "nul"}
{"image": "x.png", "id": "last"}
J
    fetch "$T/in/bad.jsonl"
    [ "$rc" -eq 4 ]
    [ "$(wc -l <"$T/out")" -eq 12 ]
    [ "$(grep -c '"error":{"tool":"pg-fetch","message":' "$T/out")" -eq 10 ] || { cat "$T/out"; false; }
    [[ $(line 1) != *error* && $(line 12) != *error* ]]
    [[ $(line 2) == *'bad.jsonl:2: '* ]]
    [[ $(line 3) == *'"id":"gone"'*missing.png* ]]
    [[ $(line 4) == *"was there before"* ]]
    [[ $(line 5) == *"not a JSON object"* ]]
    [[ $(line 6) == *"no 'image'"* ]]
    [[ $(line 7) == *"'suffix' is not a string"* ]]
    [[ $(line 8) == *"'references' holds"* ]]
    [[ $(line 10) == *"is a folder"* ]]
    grep -q "bad.jsonl:2" "$T/err"
    grep -q "missing.png" "$T/err"
}

@test "a misspelt key is warned of once, with its place" {
    cp "$PNG" "$T/in/x.png"
    printf '{"image":"x.png","sufix":"a","id":%d}\n' 1 2 3 >"$T/in/m.jsonl"
    fetch "$T/in/m.jsonl"
    [ "$rc" -eq 0 ]
    [ "$(grep -c "sufix" "$T/err")" -eq 1 ]
    grep -q "m.jsonl:1: unknown key 'sufix'" "$T/err"
}

@test "an id given twice over two sources" {
    fetch "$PNG" "$PNG"
    [ "$rc" -eq 4 ]
    [[ $(line 2) == *"was there before"* ]]
}

@test "- reads JSON lines from standard input, and answers each at once" {
    echo "{\"image\":\"$PNG\"}" >"$T/j"
    fetch - <"$T/j"
    [ "$rc" -eq 0 ]
    [[ $(line 1) == *'"image":{"bytes":'* ]]
    mkfifo "$T/fifo"
    "$B/pg-fetch" - <"$T/fifo" >"$T/live" &
    pid=$!
    exec 7>"$T/fifo"
    cat "$T/j" >&7
    for ((i = 0; i < 50; i++)); do
        if grep -qa IHDR "$T/live"; then break; fi
        sleep 0.1
    done
    exec 7>&-
    wait "$pid"
    [ "$i" -lt 50 ]
}

@test "--limit counts records over all sources" {
    cp "$PNG" "$T/in/a.png"
    cp "$PNG" "$T/in/c.png"
    for n in 0 1 2 3 9; do
        fetch -n "$n" "$T/in" "$PNG"
        [ "$(wc -l <"$T/out")" -eq $((n < 3 ? n : 3)) ]
    done
}

@test "usage and failures" {
    run "$B/pg-fetch"
    [ "$status" -eq 2 ]
    run "$B/pg-fetch" -n many "$PNG"
    [ "$status" -eq 2 ]
    run --separate-stderr "$B/pg-fetch" "$T/nowhere"
    [ "$status" -eq 1 ]
    [ -z "$output" ]
    [[ $stderr == *"'$T/nowhere'"* ]]
    run "$B/pg-fetch" Makefile
    [ "$status" -eq 1 ]
    run bash -c "'$B/pg-fetch' '$PNG' >/dev/full"
    [ "$status" -eq 1 ]
}
