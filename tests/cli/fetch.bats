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
    # The id is text in which no byte is lost; the source opens the file.
    [[ $(line 2) == '{"id":"caf\\xe9.png","source":"'*'caf\\xe9.png"'*'"image":'* && $(line 2) != *error* ]] || { line 2; false; }
    [ "$(grep -c 'name is not UTF-8.*caf.xe9.png' "$T/err")" -eq 1 ]
    "$B/pg-render" -f captions <"$T/pgs" >/dev/null 2>&1 || true
    # Backslashes count only where bytes do.
    cp "$PNG" "$T/in/"'a\b.png'
    cp "$PNG" "$T/in/$(printf 'a\\b\xff').png"
    fetch "$T/in"
    grep -qF '{"id":"a\\b.png",' "$T/out"
    grep -qF '{"id":"a\\\\b\\xff.png",' "$T/out"
    grep -q '2 names are not UTF-8' "$T/err"
    # Through all tools: one id, the caption beside the picture.
    rm "$T"/in/a*
    echo 'a thing' >"$T/in/$(printf 'caf\xe9').txt"
    "$B/pg-fetch" -q "$T/in" 2>/dev/null | "$B/pg-resize" -m data/nano | "$B/pg-tokenize" -m data/nano | "$B/pg-infer" -m data/nano -n 4 >"$T/pgs"
    [[ $("$B/pg-render" -f jsonl <"$T/pgs" | grep -F 'caf') == '{"id":"caf\\xe9.png",'*'"caption":'* ]]
    "$B/pg-score" -q --results "$T/r.json" "$T/pgs" >"$T/scores"
    grep -qF '"image_id":"caf\\xe9.png"' "$T/r.json" || { cat "$T/r.json"; false; }
    "$B/pg-render" -q -f sidecar --overwrite <"$T/pgs"
    ! grep -qx 'a thing' "$T/in/$(printf 'caf\xe9').txt" || false
    fetch "$T/in"
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

# shard MEMBER...: $T/s.tar of files below $T/in, in this order
shard() { tar -C "$T/in" --hard-dereference --format=pax -cf "$T/s.tar" "$@"; }

@test "tar: members up to the first dot are one example; .txt and .json are its caption and keys" {
    mkdir -p "$T/in/d.1"
    cp "$PNG" "$T/in/1.png"
    cp tests/golden/image/jpg-420.jpg "$T/in/d.1/2.JPG"
    cp "$PNG" "$T/in/é.png"
    cp "$PNG" "$T/in/4.png"
    cp "$PNG" "$T/in/4.mask.png"
    cp "$PNG" "$T/in/.5.png"
    printf 'One.\r\n' >"$T/in/1.txt"
    echo '{"suffix": "Two.", "references": ["Two.", "Zwei."], "id": 22, "prefix": "caption en", "width": 3}' >"$T/in/d.1/2.json"
    echo 'not taken' >"$T/in/d.1/2.txt"
    echo 7 >"$T/in/4.cls"
    shard 1.png 1.txt d.1/2.txt d.1/2.JPG d.1/2.json é.png 4.cls 4.mask.png 4.png .5.png
    fetch "$T/s.tar"
    [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
    size=$(wc -c <"$PNG")
    [ "$(line 1)" = '{"id":"1","source":"'"$T"'/s.tar:1.png","image":{"bytes":'"$size"'},"suffix":"One."}' ] || { line 1; false; }
    [[ $(line 2) == '{"id":"22","source":"'"$T"'/s.tar:d.1/2.JPG","prefix":"caption en","suffix":"Two.","references":["Two.","Zwei."],"image":'* ]] || { line 2; false; }
    [[ $(line 3) == '{"id":"é","source":'* && $(line 3) != *suffix* ]] || { line 3; false; }
    [[ $(line 4) == '{"id":"4",'*'"image":{"bytes":'"$size"'}}' ]]
    [ "$(wc -l <"$T/out")" -eq 4 ]
    "$B/pg-render" -f jsonl --with-tensors <"$T/pgs" | sed -n '2s/.*"image":"\([^"]*\)".*/\1/p' | base64 -d | cmp - tests/golden/image/jpg-420.jpg
    grep -q "unknown key 'width'" "$T/err"
    grep -q "member '4.cls' and others like it are left out" "$T/err"
    grep -q "member '4.mask.png' and others" "$T/err"
    fetch -n 2 "$T/s.tar"
    [ "$(wc -l <"$T/out")" -eq 2 ]
}

@test "tar: what is wrong with one example is its record's error; the rest goes on" {
    cp "$PNG" "$T/in/1.png"
    cp "$PNG" "$T/in/1.jpg"
    cp "$PNG" "$T/in/2.png"
    echo '{"suffix": ' >"$T/in/2.json"
    echo 'A text alone.' >"$T/in/3.txt"
    cp "$PNG" "$T/in/4.png"
    printf 'caf\xe9' >"$T/in/4.txt"
    cp "$PNG" "$T/in/5.png"
    head -c 1100000 /dev/zero >"$T/in/5.txt"
    cp "$PNG" "$T/in/6.png"
    echo '{"id": [1]}' >"$T/in/6.json"
    cp "$PNG" "$T/in/7.png"
    ln -s 7.png "$T/in/8.png"
    cp "$PNG" "$T/in/9.png"
    echo 'One text.' >"$T/in/9.txt"
    echo 'Another.' >"$T/in/9.TXT"
    shard 1.png 1.jpg 2.png 2.json 3.txt 4.png 4.txt 5.png 5.txt 6.png 6.json 7.png 8.png 9.png 9.txt 9.TXT 7.png
    fetch "$T/s.tar"
    [ "$rc" -eq 4 ]
    [ "$(wc -l <"$T/out")" -eq 9 ] || { cat "$T/out"; false; }
    n=0
    for want in "two images, '1.png' and '1.jpg'" "'2.json': " 's.tar:3: no image' "s.tar:4.txt' is not UTF-8" "'5.txt' is larger than 1048576 bytes" "'id' is neither"; do
        n=$((n + 1))
        [[ $(line "$n") == *'"error":'*"$want"* ]] || { line "$n"; false; }
    done
    [[ $(line 7) == *'"image":'* && $(line 7) != *error* ]]
    grep -q "member '8.png' is a link" "$T/err"
    [[ $(line 8) == *'"error":'*"two texts, the second '9.TXT'"* ]]
    [[ $(line 9) == *'"error":'*"the id '7' was there before"* ]]
}

@test "tar: members of one example that do not follow each other: the message names the remedy, which helps" {
    for i in 1 2; do
        cp tests/golden/image/jpg-420.jpg "$T/in/$i.jpg"
        echo "Caption $i." >"$T/in/$i.txt"
    done
    shard 1.txt 2.txt 1.jpg 2.jpg
    fetch "$T/s.tar"
    [ "$rc" -eq 4 ]
    grep -q 's.tar:1: no image; all members of an example must follow each other, as tar --sort=name' "$T/err"
    tar --sort=name -C "$T/in" -cf "$T/s.tar" .
    fetch "$T/s.tar"
    [ "$rc" -eq 0 ]
    [[ $(line 2) == *'"image":'*'"suffix":"Caption 2."'* ]]
}

@test "tar: cut, damaged, empty and other archives are errors that name the file and the member" {
    for i in 1 2 3; do cp tests/golden/image/jpg-420.jpg "$T/in/$i.jpg"; done
    shard 1.jpg 2.jpg 3.jpg
    whole=$T/s.tar
    tar -tRf "$whole" >"$T/blocks" # "block N: NAME"
    second=$(sed -n 's/^block \([0-9]*\): 2.jpg/\1/p' "$T/blocks")
    head -c $(((second + 2) * 512)) "$whole" >"$T/cut.tar"     # inside of a member
    head -c $((second * 512)) "$whole" >"$T/between.tar"       # behind one: libarchive calls this an end
    cp "$whole" "$T/bad.tar"
    printf XXXX | dd of="$T/bad.tar" bs=1 seek=$((second * 512 + 110)) conv=notrunc status=none
    head -c 5000 /dev/urandom >"$T/noise.tar"
    : >"$T/empty.tar"
    for c in "cut 2.jpg" "between 1.jpg" "bad 1.jpg" "noise " "empty "; do
        rc=0
        "$B/pg-fetch" "$T/${c% *}.tar" >"$T/pgs" 2>"$T/err" || rc=$?
        [ "$rc" -eq 4 ] || { echo "$c: $rc"; cat "$T/err"; false; }
        grep -qF "cannot read '$T/${c% *}.tar'" "$T/err"
        [ -z "${c#* }" ] || grep -qF "at member '${c#* }'" "$T/err" || { cat "$T/err"; false; }
        "$B/pg-render" -f jsonl <"$T/pgs" >"$T/out" || [ $? -eq 4 ]
        [[ $(tail -n 1 "$T/out") == '{"id":"'"$T/${c% *}.tar"'",'*'"error":'* ]] || { cat "$T/out"; false; }
    done
}

@test "tar: memory does not grow with the archive" {
    command -v /usr/bin/time >/dev/null || skip "no time(1)"
    for i in $(seq 20); do head -c 4000000 /dev/zero >"$T/in/$i.png"; done
    (cd "$T/in" && tar -cf "$T/s.tar" ./*.png)
    export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1 # else freed memory counts
    peak() { /usr/bin/time -f %M -o "$T/peak" "$B/pg-fetch" "$@" "$T/s.tar" >"$T/pgs"; cat "$T/peak"; }
    one=$(peak -n 1)
    all=$(peak)
    echo "KiB: $one, $all"
    [ "$(stat -c %s "$T/pgs")" -gt 80000000 ]
    [ "$all" -lt $((one + 20000)) ] # the pictures are 80 MB
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

@test "JSON lines: pictures as file: URLs; a file without a line is said to be one" {
    mkdir "$T/a b"
    cp "$PNG" "$T/a b/x.png"
    for url in "file://$T/a%20b/x.png" "FILE://localhost$T/a%20b/x.png"; do
        echo "{\"image\": \"$url\"}" >"$T/in/url.jsonl"
        fetch "$T/in/url.jsonl"
        [ "$rc" -eq 0 ] || { cat "$T/err"; false; }
        [[ $(line 1) == *"\"source\":\"$T/a b/x.png\""*'"image":{"bytes":'* ]] || { line 1; false; }
    done
    echo '{"image": "file://elsewhere/x.png"}' >"$T/in/url.jsonl"
    fetch "$T/in/url.jsonl"
    [ "$rc" -eq 4 ]
    for text in '' '\n \n'; do
        printf '%b' "$text" >"$T/in/none.jsonl"
        fetch "$T/in/none.jsonl"
        [ "$rc" -eq 0 ]
        grep -q "warning: no lines in '$T/in/none.jsonl'" "$T/err"
    done
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
    grep -q "m.jsonl:1: unknown key 'sufix' is left out: did you mean 'suffix'?" "$T/err"
    # Beside right ones, too; and what is like none of them gets no such advice.
    printf '{"image":"x.png","suffix":"a","id":%d,"imge":"x","Prefix":"y","idd":1,"refernces":["z"],"width":7,"it":1,"in_on":2}\n' 1 2 >"$T/in/m.jsonl"
    fetch "$T/in/m.jsonl"
    [ "$rc" -eq 0 ]
    sed -n "s/.*unknown key '\(.*\)' is left out: did you mean '\(.*\)'?$/\1 \2/p" "$T/err" >"$T/meant"
    [ "$(tr '\n' ' ' <"$T/meant")" = 'imge image Prefix prefix idd id refernces references it id ' ] || { cat "$T/err"; false; }
    [ "$(grep -c '(known: image,' "$T/err")" -eq 2 ]
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
    run "$B/pg-fetch" --seed 3 "$PNG"
    [ "$status" -eq 2 ]
    [[ $output == *"--seed without --shuffle: nothing is drawn"* ]]
    run --separate-stderr "$B/pg-fetch" "$T/nowhere"
    [ "$status" -eq 1 ]
    [ -z "$output" ]
    [[ $stderr == *"'$T/nowhere'"* ]]
    run "$B/pg-fetch" Makefile
    [ "$status" -eq 1 ]
    run bash -c "'$B/pg-fetch' '$PNG' >/dev/full"
    [ "$status" -eq 1 ]
}

@test "a pipe named like a picture is an error record, and waits for nobody" {
    mkdir "$BATS_TEST_TMPDIR/odd"
    mkfifo "$BATS_TEST_TMPDIR/odd/b.jpg"
    cp tests/golden/image/jpg-420.jpg "$BATS_TEST_TMPDIR/odd/a.jpg"
    B=${PG_BUILD:-build}
    run timeout 20 bash -c "'$B/pg-fetch' '$BATS_TEST_TMPDIR/odd' >'$BATS_TEST_TMPDIR/odd.pgs'"
    [ "$status" -eq 4 ]
    [[ $output == *"b.jpg"*"not a regular file"* ]]
}

@test "several captions of one picture: the error says what to do, and ids do it" {
    cp tests/golden/image/png-rgb8.png "$T/a.png"
    printf '{"image": "a.png", "suffix": "one"}\n{"image": "a.png", "suffix": "two"}\n' >"$T/s.jsonl"
    fetch "$T/s.jsonl"
    [ "$rc" -eq 4 ]
    grep -q "the id 'a.png' was there before: give each line an \"id\" of its own" "$T/err"
    printf '{"image": "a.png", "id": "a.png#1", "suffix": "one"}\n{"image": "a.png", "id": "a.png#2", "suffix": "two"}\n' >"$T/s.jsonl"
    fetch "$T/s.jsonl"
    [ "$rc" -eq 0 ]
    [ "$(wc -l <"$T/out")" -eq 2 ]
}

@test "a folder as a download: said to be one" {
    mkdir -p "$T/folder"
    run "$B/pg-fetch" -o "$T/got" "$T/folder"
    [ "$status" -eq 1 ]
    [[ $output == *"'$T/folder': a folder"* ]]
}

@test "JSONL: an image that is empty, a picture itself, or of an unknown scheme is called that" {
    mkdir -p "$T/in"
    printf '%s\n' '{"image":"","id":"e"}' '{"image":"data:image/png;base64,AAAA"}' '{"image":"ftp://host/x.png","id":"f"}' >"$T/in/odd.jsonl"
    fetch "$T/in/odd.jsonl"
    [ "$rc" -eq 4 ]
    [[ $(line 1) == *'"id":"e"'*"odd.jsonl:1: 'image' is empty"* ]] || { cat "$T/out"; false; }
    [[ $(line 2) == *'"id":"'*odd.jsonl:2'"'*"odd.jsonl:2: 'image' is the picture itself (data:)"* ]] || { cat "$T/out"; false; }
    [[ $(line 2) != *AAAA* ]]
    [[ $(line 3) == *'"id":"f"'*"'image' has a scheme that is not known"* ]] || { cat "$T/out"; false; }
}

@test "records with errors of one kind: three are told of and the rest counted, all with -v; each record has its own" {
    cp "$PNG" "$T/in/a.png"
    local n
    for n in 1 2 3 4 5 6; do echo "{\"img\":\"$n.png\"}"; done >"$T/in/key.jsonl"
    for n in 1 2 3 4 5 6; do echo "{\"image\":\"$n.png\"}"; done >"$T/in/file.jsonl"
    for n in 1 2 3 4 5 6; do echo '{"image":"a.png","suffix":1}'; done >"$T/in/suffix.jsonl"
    for n in 1 2 3 4 5 6 7; do echo '{"image":"a.png"}'; done >"$T/in/id.jsonl"
    for n in 1 2 3 4 5 6; do echo "$n.png,a thing"; done >"$T/in/line.jsonl"
    echo '{"images":[{"id":1},{"id":2},{"id":3},{"id":4},{"id":5},{"id":6}],"annotations":[{"image_id":1,"caption":"x"}]}' >"$T/in/coco.json"
    local kinds=("key.jsonl:no 'image'" 'file.jsonl:the picture does not exist' "suffix.jsonl:'suffix' is not a string"
        'id.jsonl:an id that was there before' 'line.jsonl:not JSON' 'coco.json:no file_name') kind
    for kind in "${kinds[@]}"; do
        fetch "$T/in/${kind%%:*}"
        cat "$T/err"
        [ "$rc" -eq 4 ]
        [ "$(grep -vc warning: "$T/err")" -eq 5 ]
        grep -qxF "pg-fetch: the same of 3 more records: ${kind#*:}" "$T/err"
        grep -qx 'pg-fetch: 6 records with errors' "$T/err"
        [ "$(grep -c '"error":{"tool":"pg-fetch","message":' "$T/out")" -eq 6 ]
        fetch -v "$T/in/${kind%%:*}"
        [ "$(grep -vc warning: "$T/err")" -eq 7 ]
    done
    # Another reason in between: nothing is taken for the same.
    { sed -n 1,4p "$T/in/key.jsonl"; sed -n 1p "$T/in/suffix.jsonl"; sed -n 5p "$T/in/key.jsonl"; } >"$T/in/both.jsonl"
    fetch "$T/in/both.jsonl"
    grep -qxF "pg-fetch: the same of 1 more record: no 'image'" "$T/err"
    grep -qxF "pg-fetch: $T/in/both.jsonl:6: no 'image'" "$T/err"
}

@test "a table is no source: told how to make one" {
    printf 'image,suffix\na.png,a thing\n' >"$T/in/x.csv"
    printf 'image\tsuffix\na.png\ta thing\n' >"$T/in/x.tsv"
    for kind in csv tsv; do
        run --separate-stderr "$B/pg-fetch" "$T/in/x.$kind"
        [ "$status" -eq 1 ]
        [[ $stderr == *"is no source, but Miller makes JSON lines of a table with columns image and caption: mlr -S --i$kind --ojsonl rename caption,suffix '$T/in/x.$kind' > train.jsonl" ]]
    done
}

@test "JSON lines: zero bytes, \\u0000 and keys that are not UTF-8 are errors in plain words" {
    cp "$PNG" "$T/in/a.png"
    {
        printf '{"image":"a.png"}\0\n\0\0\0\n'
        # shellcheck disable=SC2028
        echo '{"image":"a.png","suffix":"a\u0000b"}'
        printf '{"image":"a.png","k\xff":1}\n'
    } >"$T/in/x.jsonl"
    fetch "$T/in/x.jsonl"
    cat "$T/err"
    [ "$rc" -eq 4 ]
    [ "$(grep -c ':[12]: a zero byte: not UTF-8 (UTF-16?)$' "$T/err")" -eq 2 ]
    grep -qF 'x.jsonl:3: a text with \u0000 in it' "$T/err"
    grep -qF 'x.jsonl:4: unable to decode byte 0xff' "$T/err"
}

@test "texts beside pictures: returns, blanks alone, several lines, .TXT beside .JPG" {
    for n in a b c; do cp "$PNG" "$T/in/$n.png"; done
    cp "$PNG" "$T/in/D.PNG"
    printf 'one\r\ntwo\rhalf \r\n\r\n' >"$T/in/a.txt"
    printf ' \t\r\n' >"$T/in/b.txt"
    : >"$T/in/c.txt"
    echo 'upper' >"$T/in/D.TXT"
    fetch "$T/in"
    cat "$T/out" "$T/err"
    [ "$rc" -eq 0 ]
    [[ $(line 1) == *'"id":"D.PNG"'*'"suffix":"upper"}' ]]
    [[ $(line 2) == *'"suffix":"one\ntwo\u000dhalf "}' ]]
    [[ $(line 3) == *'"suffix":""}' ]]
    [[ $(line 4) == *'"suffix":""}' ]]
    [ "$(cat "$T/err")" = "pg-fetch: warning: 1 caption of several lines is one suffix, new lines and all, the first '$T/in/a.txt'; several captions of a picture are lines of JSON" ]
    echo 'lower' >"$T/in/D.txt"
    fetch "$T/in/D.PNG"
    [[ $(line 1) == *'"suffix":"lower"}' ]]
}

@test "the manual's lines that make JSON lines of tables and of other keys" {
    command -v jq >/dev/null || skip 'no jq'
    cp "$PNG" "$T/in/a.png"
    man=$(sed -n '/^jq -c/,/train.jsonl$/{s/\\e/\\/g; p}' man/pg-fetch.1)
    [ "$(grep -c '^jq' <<<"$man")" -eq 2 ]
    cd "$T/in"
    echo '{"file_name":"a.png","text":"a thing"}' >metadata.jsonl
    echo '{"image":"a.png","captions":["one","two"]}' >many.jsonl
    bash -euc "$(sed -n 1p <<<"$man")"
    [ "$(cat train.jsonl)" = '{"image":"a.png","suffix":"a thing"}' ]
    bash -euc "$(sed -n '2,$p' <<<"$man")"
    [ "$(cat train.jsonl)" = '{"image":"a.png","id":"a.png#0","suffix":"one"}'$'\n''{"image":"a.png","id":"a.png#1","suffix":"two"}' ]
    command -v mlr >/dev/null || return 0
    printf 'image,caption\na.png,"a ""thing"", 42"\n' >table.csv
    bash -euc "$(cd "$OLDPWD" && sed -n 's/^\.Dl \(mlr .*\)/\1/p' man/pg-fetch.1)"
    [ "$(cat train.jsonl)" = '{"image": "a.png", "suffix": "a \"thing\", 42"}' ]
}

@test "JSON that is not on lines: told what makes lines of it" {
    echo '[{"image":"a.png"},{"image":"b.png"}]' >"$T/in/x.jsonl"
    cp "$T/in/x.jsonl" "$T/in/list.json"
    printf '{\n"image":"a.png"}\n' >"$T/in/y.jsonl"
    printf '{"image":"a.png"}\n{"image":"b.png"}\n' >"$T/in/lines.json"
    fetch "$T/in/x.jsonl"
    grep -qF "x.jsonl:1: a list, not an object on each line: jq -c '.[]' makes lines of it" "$T/err"
    fetch "$T/in/y.jsonl"
    grep -qF 'y.jsonl:1: an object of several lines: jq -c . makes one line of each' "$T/err"
    run -1 --separate-stderr "$B/pg-fetch" "$T/in/list.json"
    [[ $stderr == *"a list, of which jq -c '.[]' makes JSON lines" ]]
    run -1 --separate-stderr "$B/pg-fetch" "$T/in/lines.json"
    [[ $stderr == *'(JSON lines are in files named .jsonl)' ]]
}
