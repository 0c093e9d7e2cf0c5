#!/usr/bin/env bats
# pg-render: every format from a stream of examples or events; escaping, cut streams, sidecar files.
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=$(realpath "${PG_BUILD:-build}")
    T=$BATS_TEST_TMPDIR
    PY=$(tests/find-python msgpack) || skip "no python3-msgpack"
    cp tests/golden/image/png-rgb8.png "$T/a.png"
    cd "$T"
    "$PY" - <<'P'
import msgpack
def write(name, kind, records):
    h = {"pg-stream": [1, 0], "kind": kind, "chain": [{"program": "pg-fetch", "version": "0.1.0", "args": ["<x y>"]}]}
    with open(name, "wb") as f:
        for r in [h] + records + [{"pg-end": len(records)}]:
            f.write(msgpack.packb(r))
def examples(caption):
    return [{"id": "a", "source": "a.png", "image": open("a.png", "rb").read(), "caption": caption, "references": ["A Dog"]},
            {"id": "b<", "caption": "x\ty\n<script>", "suffix": "x"}]
write("before.pgs", "examples", examples("a cat"))
write("after.pgs", "examples", examples("a dog"))
write("same.pgs", "examples", [{"id": str(i), "caption": "same"} for i in range(3)])
write("bad.pgs", "examples", [{"id": "e", "error": {"tool": "pg-resize", "message": "cannot <decode>"}}])
write("events.pgs", "events", [{"event": "step", "step": i, "steps": 64, "lr": 0.005, "loss": 3.2345 / i} for i in range(1, 65)] +
      [{"event": "val", "step": 64, "loss": 0.5}, {"event": "done", "step": 64}])
write("long.pgs", "events", [{"event": "step", "step": i, "steps": 20000, "lr": 0.01, "loss": 1 + i % 2} for i in range(20000)])
P
}

@test "text: events as the notebook prints them, examples as id and caption" {
    run "$B/pg-render" <events.pgs
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "step:  1/64   lr: 0.00500   loss: 3.2345" ]
    run "$B/pg-render" <before.pgs
    [ "${lines[0]}" = "a: a cat" ]
}

@test "captions: one line each, control characters escaped" {
    run "$B/pg-render" -f captions <before.pgs
    [ "${lines[1]}" = $'b<\tx\\ty\\n<script>' ]
    [ "${#lines[@]}" -eq 2 ]
}

@test "jsonl: valid JSON, bytes only with --with-tensors" {
    "$B/pg-render" -o out.jsonl <before.pgs
    "$PY" -c 'import json; r = [json.loads(l) for l in open("out.jsonl")]; assert r[1]["caption"] == "x\ty\n<script>"; assert r[0]["image"]["bytes"] > 100'
    "$B/pg-render" -f jsonl --with-tensors <before.pgs | "$PY" -c 'import json, sys; assert len(sys.stdin.readline()) > 1000'
}

@test "svg and html are well formed, self-contained and escaped" {
    "$B/pg-render" -o loss.svg <events.pgs
    "$PY" -c 'import xml.dom.minidom as m; d = m.parse("loss.svg"); assert len(d.getElementsByTagName("polyline")) == 3'
    "$B/pg-render" -o r.html --label old --label new before.pgs after.pgs events.pgs
    grep -q 'data:image/jpeg;base64,' r.html
    grep -q '&lt;script&gt;' r.html
    grep -q '<svg' r.html
    grep -q '&lt;x y&gt;' r.html
    grep -q '<th>old</th><td>2</td><td>0 of 2' r.html
    grep -q '<th>new</th><td>2</td><td>1 of 2' r.html
    ! grep -qE '<script|(src|href)="?http' r.html
}

@test "a long training is drawn with a bounded number of points" {
    "$B/pg-render" -f svg <long.pgs >long.svg
    "$PY" -c 'import xml.dom.minidom as m; p = m.parse("long.svg").getElementsByTagName("polyline")[0].getAttribute("points").split(); assert 1000 < len(p) <= 4096, len(p)'
}

@test "captions that are all the same are warned of" {
    "$B/pg-render" -o r.html <same.pgs
    grep -q 'class="warning"' r.html
}

@test "an error is shown, escaped, and status 4" {
    run "$B/pg-render" -o r.html bad.pgs
    [ "$status" -eq 4 ]
    grep -q 'pg-resize: cannot &lt;decode&gt;' r.html
}

@test "a cut stream: status 3 and no output file" {
    for f in html svg jsonl tsv; do
        run bash -c "head -c -1 before.pgs | '$B/pg-render' -o cut.$f"
        [ "$status" -eq 3 ]
        [ ! -e "cut.$f" ]
    done
    run ls -A
    [[ $output != *cut.* ]]
}

@test "sidecar: beside the image, never over a file without --overwrite" {
    "$B/pg-render" -q -f sidecar <before.pgs
    [ "$(cat a.txt)" = "a cat" ]
    run "$B/pg-render" -f sidecar <after.pgs
    [ "$status" -eq 0 ]
    [[ $output == *"'a.txt' exists"*"1 kept"* ]]
    [ "$(cat a.txt)" = "a cat" ]
    "$B/pg-render" -q -f sidecar --overwrite <after.pgs
    [ "$(cat a.txt)" = "a dog" ]
}

@test "usage errors: unknown format and ending, several streams as text" {
    for args in "-f pdf" "-o x.pdf" "before.pgs after.pgs" "-f sidecar -o x.txt"; do
        run bash -c "'$B/pg-render' $args <before.pgs"
        [ "$status" -eq 2 ] || { echo "$args: $status"; false; }
    done
}
