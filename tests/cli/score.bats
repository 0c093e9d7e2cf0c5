#!/usr/bin/env bats
# pg-score: inputs of every kind, what is not scored and why, annotation, intervals, comparison.
bats_require_minimum_version 1.5.0
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=$(realpath "${PG_BUILD:-build}")
    G=$(realpath tests/golden/metrics)
    T=$BATS_TEST_TMPDIR
    PY=$(tests/find-python msgpack) || PY=
    cd "$T"
    cat >a.jsonl <<'J'
{"id": 1, "caption": "a dog runs on the beach", "references": ["A dog runs on the beach", "a dog on sand"]}
{"id": "2", "caption": "two cats", "references": ["two cats sleep on a sofa"]}
{"id": 3, "caption": "a bus", "references": ["a red bus on a street"]}
J
    sed 's/two cats"/a dog"/;s/a bus"/a tree"/' a.jsonl >b.jsonl
    cat >coco.json <<'J'
{"images": [{"id": 1, "file_name": "val/COCO_0001.jpg"}, {"id": 2, "file_name": "val/COCO_0002.jpg"}, {"id": 3, "file_name": "val/COCO_0003.jpg"}, {"id": 4, "file_name": "x.jpg"}],
 "annotations": [{"image_id": 1, "id": 11, "caption": "A dog runs on the beach"}, {"image_id": 2, "id": 12, "caption": "two cats sleep on a sofa"},
  {"image_id": 1, "id": 13, "caption": "a dog on sand"}, {"image_id": 3, "id": 14, "caption": "a red bus on a street"}, {"image_id": 4, "caption": "nothing"}]}
J
    echo '[{"image_id": 1, "caption": "a dog runs on the beach"}, {"image_id": 2, "caption": "two cats"}, {"image_id": 3, "caption": "a bus"}]' >results.json
}

# A stream of examples from JSON lines; the id may be given another name.
stream() {
    [ -n "$PY" ] || skip "no python3-msgpack"
    "$PY" - "$1" "$2" <<'P'
import json, msgpack, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
with open(sys.argv[2], "wb") as f:
    for r in [{"pg-stream": [1, 0], "kind": "examples", "chain": []}] + [dict(r, id=str(r["id"])) for r in rows] + [{"pg-end": len(rows)}]:
        f.write(msgpack.packb(r))
P
}

@test "ids that differ only far behind, or in what is not seen, are different ones" {
    far=$(printf 'folder/%.0s' {1..200})
    for n in cow dog 'a\u0001' 'a\u0002'; do echo "{\"id\":\"$far$n\",\"caption\":\"a $n\",\"references\":[\"a $n\"]}"; done >far.jsonl
    stream far.jsonl far.pgs
    for f in far.jsonl far.pgs; do
        run --separate-stderr "$B/pg-score" $f
        [ "$status" -eq 0 ] || { echo "$stderr"; false; }
        [ "${lines[0]}" = 'N         4' ]
    done
    run "$B/pg-score" -q --compare far.jsonl far.pgs
    [ "$status" -eq 0 ]
}

@test "a pipe that is read twice is kept in TMPDIR" {
    stream a.jsonl a.pgs
    TMPDIR=$T/none run bash -c "cat a.pgs | '$B/pg-score' --annotate"
    [ "$status" -eq 1 ]
    [[ $output == *"cannot make a temporary file '$T/none/"* ]]
    "$B/pg-render" -o report.html a.pgs
    TMPDIR=$T/none run "$B/pg-render" -o report.html a.pgs
    [ "$status" -eq 1 ]
}

value() { python3 -c 'import json, sys; v = json.load(sys.stdin); [v := v[k] for k in sys.argv[1:]]; print(v)' "$@"; }

@test "golden sets: JSON scores equal pycocoevalcap's to 1e-9" {
    for name in main long length-penalty short empty-candidates same-references one-image two-images context; do
        "$B/pg-score" -q --context -f json "$G/$name.jsonl" 2>/dev/null >out.json
        python3 - out.json "$G/$name.expected.json" <<'P'
import json, sys
have, want = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))["corpus"]
assert have["N"] == want["images"]
for k, v in want.items():
    if k != "images":
        h = have[k.replace("Bleu_", "BLEU-").replace("ROUGE_L", "ROUGE-L")]
        assert abs(h - v) <= 1e-9, (sys.argv[2], k, h, v)
P
    done
}

@test "without --context each caption stands by itself" {
    echo '{"id": 1, "caption": "plan B.", "references": ["plan B"]}' >two.jsonl
    echo '{"id": 2, "caption": "A man", "references": ["a man"]}' >>two.jsonl
    [[ $("$B/pg-score" two.jsonl) == *"BLEU-1    0.7500"* ]]
    [[ $("$B/pg-score" --context two.jsonl) == *"BLEU-1    1.0000"* ]]
}

@test "text: one line for each score" {
    run --separate-stderr "$B/pg-score" a.jsonl
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    [[ ${lines[0]} == "N "*3 ]]
    [[ $output == *"CIDEr "*"BLEU-1 "*"BLEU-4 "*"ROUGE-L "*"exact     0.3333"*"distinct  3 captions"*"words     3.3 a caption (2 to 6), 5.5 a reference"* ]]
}

@test "a stream, JSON lines, and COCO results with --references give the same scores" {
    stream a.jsonl a.pgs
    "$B/pg-score" -f json a.jsonl >1
    "$B/pg-score" -f json <a.pgs >2
    "$B/pg-score" -f json a.pgs >3
    "$B/pg-score" -f json --references coco.json results.json 2>/dev/null >4
    "$B/pg-score" -f json --references coco.json a.pgs 2>/dev/null >5
    "$B/pg-score" -f json <(cat a.jsonl) >6
    for i in 2 3 4 5 6; do cmp 1 $i; done
}

@test "--references finds images by file name, too, and tells of images without a caption" {
    sed 's/"id": 1/"id": "COCO_0001.jpg"/;s/"id": "2"/"id": "COCO_0002"/;s/"id": 3/"id": "val\/COCO_0003.jpg"/' a.jsonl >names.jsonl
    run "$B/pg-score" -f json --references coco.json names.jsonl
    [ "$status" -eq 0 ]
    [[ $output == *"1 of the 4 images"* ]]
    "$B/pg-score" -f json a.jsonl >want
    "$B/pg-score" -q -f json --references coco.json names.jsonl | cmp - want
}

@test "the suffix is the reference where there is none" {
    echo '{"id": "x", "caption": "a cat", "suffix": "a cat"}' >s.jsonl
    [ "$("$B/pg-score" -f json s.jsonl 2>/dev/null | value exact)" = 1.0 ]
}

@test "--results: COCO's shape, whole-number ids as numbers, images of the references by their ids" {
    "$B/pg-score" -q --results out.json a.jsonl >/dev/null
    python3 -c 'import json; assert json.load(open("out.json")) == json.load(open("results.json"))'
    sed 's/"id": 1/"id": "COCO_0001"/' a.jsonl >names.jsonl
    "$B/pg-score" -q --references coco.json --results out.json names.jsonl >/dev/null
    python3 -c 'import json; assert json.load(open("out.json")) == json.load(open("results.json"))'
}

@test "--results: an id that is not UTF-8 is said and counted" {
    [ -n "$PY" ] || skip "no python3-msgpack"
    "$PY" - <<'P'
import msgpack
rows = [{"id": b"caf\xe9.jpg", "caption": "a cup", "references": ["a cup"]}, {"id": "2", "caption": "two cats", "references": ["two cats"]}]
with open("odd.pgs", "wb") as f:
    for r in [{"pg-stream": [1, 0], "kind": "examples", "chain": []}] + rows + [{"pg-end": 2}]:
        f.write(msgpack.packb(r))
P
    run --separate-stderr "$B/pg-score" -q --results out.json odd.pgs
    [ "$status" -eq 4 ]
    [[ $stderr == *"the id of 'caf"*"not UTF-8 and not written"* ]]
    [ "$(cat out.json)" = '[{"image_id":2,"caption":"two cats"}]' ]
    "$B/pg-score" -q --results out.json a.jsonl >/dev/null
}

@test "missing captions and references, repeated and unknown ids: named, left out, status 4" {
    cat >bad.jsonl <<'J'
{"id": "no-caption", "references": ["x"]}
{"id": "no-reference", "caption": "x"}
{"id": "empty-suffix", "caption": "x", "suffix": ""}
{"id": 1, "caption": "again", "references": ["x"]}
J
    cat a.jsonl bad.jsonl >all.jsonl
    run "$B/pg-score" -f json all.jsonl
    [ "$status" -eq 4 ]
    [[ $output == *"'no-caption' is not scored: no caption"* ]]
    [[ $output == *"'no-reference' is not scored: no reference"* ]]
    [[ $output == *"'empty-suffix' is not scored: no reference"* ]]
    [[ $output == *"'1' is not scored: its id is in the input twice"* ]]
    "$B/pg-score" -f json a.jsonl >want
    run bash -c "'$B/pg-score' -f json all.jsonl 2>/dev/null | cmp - want"
    [ "$status" -eq 0 ]
    echo '{"id": 99, "caption": "x"}' >>a.jsonl
    run "$B/pg-score" --references coco.json a.jsonl
    [ "$status" -eq 4 ]
    [[ $output == *"'99' is not scored: no such image in the references"* ]]
}

@test "references that are no list of strings are said, and the suffix does not take their place" {
    for r in '["x", 5]' '[null]' 5 '{"a": "x"}'; do
        (cat a.jsonl; echo "{\"id\": 4, \"caption\": \"x\", \"suffix\": \"x\", \"references\": $r}") >odd.jsonl
        run "$B/pg-score" odd.jsonl
        [ "$status" -eq 4 ] || { echo "$r: $status $output"; false; }
        [[ $output == *"'4' is not scored: 'references' is not a list of strings"* ]]
    done
    (cat a.jsonl; echo '{"id": 4, "caption": "x", "suffix": "x", "references": null}') >odd.jsonl
    run "$B/pg-score" odd.jsonl
    [ "$status" -eq 0 ]
    [[ $output == "N         4"* ]]
    for r in '["x", 5]' '"x"'; do
        (cat a.jsonl; echo "{\"id\": 4, \"caption\": \"x\", \"suffix\": \"x\", \"references\": $r}") >odd.jsonl
        stream odd.jsonl odd.pgs
        run "$B/pg-score" odd.pgs
        [ "$status" -eq 4 ]
        [[ $output == *"'4' is not scored: 'references' is not a list of strings"* ]]
    done
}

@test "strings of a list may be bytes, as those that are not UTF-8 are" {
    [ -n "$PY" ] || skip "no python3-msgpack"
    "$PY" - <<'P' >bin.pgs
import msgpack, sys
records = [{"id": str(i), "caption": c, "references": [c.encode(), b"caf\xe9 x"], "suffix": "nothing of it"} for i, c in enumerate(["a cat sleeps", "two dogs run"])]
for m in ({"pg-stream": [1, 0], "kind": "examples", "chain": []}, *records, {"pg-end": 2, "errors": 0}):
    sys.stdout.buffer.write(msgpack.packb(m))
P
    run "$B/pg-score" bin.pgs
    [ "$status" -eq 0 ]
    [[ $output == *"exact     1.0000"* ]]
}

@test "a record that cannot be scored does not shut out a later one of its id" {
    (echo '{"id": 1, "references": ["A dog runs on the beach", "a dog on sand"]}'; cat a.jsonl) >late.jsonl
    run --separate-stderr "$B/pg-score" -f json late.jsonl
    [ "$status" -eq 4 ]
    [[ $stderr == *"'1' is not scored: no caption"* && $stderr != *twice* ]]
    [ "$output" = "$("$B/pg-score" -f json a.jsonl)" ]
}

@test "one caption, equal captions, empty captions, equal references: explained" {
    head -n 1 a.jsonl >one.jsonl
    run "$B/pg-score" one.jsonl
    [ "$status" -eq 0 ]
    [[ $output == *"one caption: CIDEr"* ]]
    sed -E 's/"caption": "[^"]*"/"caption": "a dog"/' a.jsonl >same.jsonl
    run "$B/pg-score" same.jsonl
    [[ $output == *"all 3 captions are the same, 'a dog'"* ]]
    sed -E 's/"references": .*/"references": ["a b"]}/' a.jsonl >refs.jsonl
    run "$B/pg-score" refs.jsonl
    [[ $output == *"all pictures have the same references"* ]]
    sed 's/"a bus"/"..."/' a.jsonl >empty.jsonl
    run "$B/pg-score" empty.jsonl
    [[ $output == *"1 of 3 captions hold no word"* ]]
}

@test "nothing to score: status 1 and the counts" {
    echo '{"id": 1, "caption": "x"}' >none.jsonl
    run "$B/pg-score" none.jsonl
    [ "$status" -eq 1 ]
    [[ $output == *"nothing to score: 1 records"* ]]
}

@test "--annotate: records in order with scores, the end record with the corpus's" {
    stream a.jsonl a.pgs
    for input in "a.pgs" "<a.pgs" "< <(cat a.pgs)"; do
        bash -c "'$B/pg-score' --annotate $input" >out.pgs
        "$PY" - <<'P'
import msgpack
r = list(msgpack.Unpacker(open("out.pgs", "rb")))
assert r[0]["chain"][-1]["program"] == "pg-score"
assert [x["id"] for x in r[1:-1]] == ["1", "2", "3"]
assert [x["scores"]["exact"] for x in r[1:-1]] == [1, 0, 0]
mean = sum(x["scores"]["CIDEr"] for x in r[1:-1]) / 3
assert abs(mean - r[-1]["scores"]["CIDEr"]) < 1e-12
P
    done
}

@test "--annotate: what cannot be scored carries an error; status 4" {
    echo '{"id": "z", "references": ["x"]}' >>a.jsonl
    stream a.jsonl a.pgs
    run bash -c "'$B/pg-score' --annotate <a.pgs >out.pgs"
    [ "$status" -eq 4 ]
    "$PY" - <<'P'
import msgpack
r = list(msgpack.Unpacker(open("out.pgs", "rb")))
assert r[4]["error"] == {"tool": "pg-score", "message": "cannot score 'z': no caption"}, r[4]
P
}

@test "--bootstrap: intervals around the scores, the same for a seed" {
    "$B/pg-score" -f json --bootstrap 200 "$G/main.jsonl" >1 2>/dev/null
    "$B/pg-score" -f json --bootstrap 200 "$G/main.jsonl" >2 2>/dev/null
    "$B/pg-score" -f json --bootstrap 200 --seed 1 "$G/main.jsonl" >3 2>/dev/null
    cmp 1 2
    ! cmp -s 1 3 || false
    python3 -c '
import json
o = json.load(open("1"))
for k, (low, high) in o["intervals"].items(): assert low < o[k] < high, k'
    run "$B/pg-score" -q --bootstrap 200 "$G/main.jsonl"
    [[ $output == *"CIDEr     3.4035   "*" to "* ]]
}

@test "--compare: differences with intervals and p; itself differs by nothing" {
    run "$B/pg-score" --compare a.jsonl b.jsonl
    [ "$status" -eq 0 ]
    [[ $output == *"3 captions in both"*"CIDEr"*"-"* ]]
    "$B/pg-score" -f json --compare a.jsonl a.jsonl >o.json
    [ "$(value CIDEr p <o.json)" = 1.0 ]
    [ "$(value CIDEr difference <o.json)" = 0.0 ]
}

@test "--compare: other order, pictures in one input alone, other references" {
    tac b.jsonl >r.jsonl
    "$B/pg-score" -f json --compare a.jsonl b.jsonl | sed 's/"B":"[^"]*"//' >1
    "$B/pg-score" -f json --compare a.jsonl r.jsonl | sed 's/"B":"[^"]*"//' >2
    cmp 1 2
    echo '{"id": 9, "caption": "x", "references": ["x"]}' >>r.jsonl
    run "$B/pg-score" --compare a.jsonl r.jsonl
    [ "$status" -eq 0 ]
    [[ $output == *"3 pictures are in both inputs"*"0 are in 'a.jsonl' alone, 1 in 'r.jsonl' alone"* ]]
    sed 's/a red bus/a blue bus/' b.jsonl >other.jsonl
    run "$B/pg-score" --compare a.jsonl other.jsonl
    [ "$status" -eq 1 ]
    [[ $output == *"other references"* ]]
}

@test "wrong inputs are explained" {
    run "$B/pg-score" results.json
    [ "$status" -eq 2 ]
    [[ $output == *"give those with --references"* ]]
    run "$B/pg-score" coco.json
    [ "$status" -eq 3 ]
    run "$B/pg-score" --references a.jsonl results.json
    [ "$status" -eq 3 ]
    echo '{"id": 1,' >cut.jsonl
    run "$B/pg-score" cut.jsonl
    [ "$status" -eq 3 ]
    [[ $output == *"'cut.jsonl', line 1"* ]]
    stream a.jsonl a.pgs
    run bash -c "head -c -1 a.pgs | '$B/pg-score'"
    [ "$status" -eq 3 ]
    run "$B/pg-score" none.pgs
    [ "$status" -eq 1 ]
    run bash -c "'$B/pg-score' <a.jsonl"
    [ "$status" -eq 3 ]
    [[ $output == *"standard input is JSON"*"pg-score FILE"* ]]
}

@test "a caption that is no string, and a stream of another kind, are called that" {
    echo '{"id": "x", "caption": 7, "references": ["a cat"]}' >seven.jsonl
    stream seven.jsonl seven.pgs
    for f in seven.jsonl seven.pgs; do
        run "$B/pg-score" $f
        [ "$status" -eq 1 ]
        [[ $output == *"'x' is not scored: 'caption' is not a string"* ]] || { echo "$output"; false; }
    done
    printf '\x83\xa9pg-stream\x92\x01\x00\xa4kind\xa6events\xa5chain\x90\x81\xa6pg-end\x00' >events.pgs
    run "$B/pg-score" events.pgs
    [ "$status" -eq 3 ]
    [[ $output == *"'events.pgs' is a stream of events, examples are wanted"* ]] || { echo "$output"; false; }
}

@test "usage errors" {
    for args in "a b" "--compare a" "-f xml a" "--bootstrap 0 a" "--annotate -f json a" "--compare --annotate a b" "--seed 1 a"; do
        run bash -c "'$B/pg-score' $args </dev/null"
        [ "$status" -eq 2 ] || { echo "$args: $status $output"; false; }
    done
}
