#!/usr/bin/env bats
# pg-render: every format from a stream of examples or events; escaping, cut streams, sidecar files, the report.
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
write("same.pgs", "examples", [{"id": str(i), "caption": "same"} for i in range(5)])
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
    "$PY" -c '
import msgpack
with open("small.pgs", "wb") as f:
    for r in [{"pg-stream": [1, 0], "kind": "events"}, {"event": "step", "step": 1, "steps": 2, "lr": 2.5e-6, "loss": 1.0}, {"pg-end": 1}]: f.write(msgpack.packb(r))'
    [ "$("$B/pg-render" small.pgs)" = "step:  1/2   lr: 2.5e-06   loss: 1.0000" ]
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
    grep -q '<th scope="row">old</th><td>0 of 2</td><td>2</td>' r.html
    grep -q '<th scope="row">new</th><td>1 of 2</td><td>2</td>' r.html
    # The only scripts are the report's own, and nothing is fetched.
    [ "$(grep -c '<script' r.html)" -eq 2 ]
    ! grep -qE '(src|href)="?(http|//)' r.html || false
    grep -q "default-src 'none'" r.html
}

@test "html: differences marked, the caption as the picture's alternative text" {
    "$B/pg-render" -o r.html after.pgs
    grep -q 'alt="a dog"' r.html
    "$B/pg-render" -o r.html before.pgs
    grep -q 'a <mark class="extra" title="not in the reference">cat</mark>' r.html
    grep -q 'A <mark class="missing" title="not in the caption">Dog</mark>' r.html
}

@test "html: scores of an annotated stream, of each picture and of all" {
    "$B/pg-score" -q --annotate before.pgs >b.pgs
    "$B/pg-score" -q --annotate after.pgs >a.pgs
    "$B/pg-render" --compare -o r.html b.pgs a.pgs
    grep -q '<th scope="col">CIDEr</th>' r.html
    grep -q 'is better on 1 pictures, worse on 0, equal on 1, by CIDEr' r.html
    grep -q 'data-s="[0-9.]* [0-9.]*" data-m="01"' r.html
}

@test "html: training alone shows the held-out pictures with their captions over time" {
    "$PY" - <<'P'
import msgpack
events = [{"event": "example", "step": 0, "id": "a", "image": open("a.png", "rb").read(), "suffix": "a dog"}]
for step, caption in (10, "a cat"), (20, "a dog"):
    events += [{"event": "step", "step": step, "loss": 1.0, "lr": 0.1}, {"event": "val", "step": step, "loss": 1.5, "exact": 0.5, "CIDEr": 2.0},
               {"event": "caption", "step": step, "id": "a", "caption": caption}]
with open("val.pgs", "wb") as f:
    for r in [{"pg-stream": [1, 0], "kind": "events", "chain": []}] + events + [{"pg-end": len(events)}]:
        f.write(msgpack.packb(r))
P
    for input in val.pgs "< val.pgs"; do
        bash -c "'$B/pg-render' -o r.html $input"
        grep -q '<tr><th scope="row">step 10</th><td>a cat</td></tr><tr><th scope="row">step 20</th><td>a dog</td></tr>' r.html
        grep -q 'data:image/jpeg' r.html
        grep -q 'held-out CIDEr' r.html
    done
    "$B/pg-render" -o r.html before.pgs val.pgs
    grep -q '<td>a cat</td></tr><tr><th scope="row">step 20' r.html
}

@test "--note: headings, tables, paragraphs and lines as they are, all of it as text" {
    printf '# One <b>\na\tb & c\n1\t<i>2</i>\n\nsome text\nin two lines\n# Two\n    x  <y>\n    z\n' >note.txt
    "$B/pg-render" -o r.html --note note.txt before.pgs
    "$PY" - <<'P'
page = open("r.html").read()
note = page[page.index("<section class=\"commands\">"):page.index("<section aria-labelledby=\"examples\">")]
assert note == """<section class="commands">
<h2>One &lt;b&gt;</h2>
<div class="wide"><table class="numbers texts">
<thead><tr><th scope="col" class="number">a</th><th scope="col">b &amp; c</th></tr></thead>
<tbody><tr><td class="number">1</td><td>&lt;i&gt;2&lt;/i&gt;</td></tr>
</tbody></table></div>
<p>some text
in two lines</p>
</section>
<section class="commands">
<h2>Two</h2>
<pre>x  &lt;y&gt;
z
</pre>
</section>
""", note
P
    printf 'bad \377\n' >note.txt
    run "$B/pg-render" -o r2.html --note note.txt before.pgs
    [ "$status" -eq 1 ]
    [ ! -e r2.html ]
    run "$B/pg-render" -o r2.html --note none.txt before.pgs
    [ "$status" -eq 1 ]
}

@test "svg: axes with units, a legend, values where the pointer rests" {
    "$B/pg-render" -f svg <events.pgs >loss.svg
    for text in 'loss, nats a token' 'learning rate' 'optimizer step' '>training<' '>held out<' '<title>step 1: loss 3.2345</title>' \
        '<title>step 64: held-out loss 0.5</title>'; do
        grep -qF "$text" loss.svg || { echo "no $text"; false; }
    done
}

@test "several runs: a curve each, with their names" {
    "$B/pg-render" -o r.html --label first --label second events.pgs long.pgs
    grep -q '"label":"first"' r.html
    grep -qF '>second</text>' r.html
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

# killed.pgs, a run killed after step 40 of 64, and rest.pgs, what was trained after --resume from a save at 30
run_and_rest() {
    "$PY" - <<'P'
import msgpack
def write(name, steps, end):
    with open(name, "wb") as f:
        f.write(msgpack.packb({"pg-stream": [1, 0], "kind": "events", "chain": []}))
        for i in steps: f.write(msgpack.packb({"event": "step", "step": i, "steps": 64, "lr": 0.005, "loss": 3.2345 / i}))
        if end: f.write(msgpack.packb({"pg-end": len(steps)}))
write("killed.pgs", range(1, 41), False)
write("rest.pgs", range(31, 65), True)
P
}

@test "svg of a cut stream: what is there, a note in the picture and on standard error, status 3" {
    run_and_rest
    run "$B/pg-render" -o killed.svg killed.pgs
    [ "$status" -eq 3 ]
    [[ $output == *"'killed.pgs'"*"the curve ends there"* ]]
    grep -q 'the stream is cut' killed.svg
    grep -q '<title>step 40: loss' killed.svg
    head -c 60 killed.pgs >none.pgs
    run "$B/pg-render" -o none.svg none.pgs
    [ "$status" -eq 3 ]
    [ ! -e none.svg ]
}

@test "svg of a killed run and its rest: one curve, each step once" {
    run_and_rest
    run "$B/pg-render" -o both.svg killed.pgs rest.pgs
    [ "$status" -eq 0 ]
    [[ $output == *"warning: "*"'killed.pgs'"* ]]
    ! grep -q 'the stream is cut' both.svg || false
    [ "$(grep -o '<title>step [0-9]*: loss' both.svg | grep -o '[0-9]*')" = "$(seq 64)" ]
    run "$B/pg-render" -o twice.svg events.pgs events.pgs
    [ "$status" -eq 1 ]
    [[ $output == *"is not the rest of the run"* ]]
    [ ! -e twice.svg ]
}

@test "log-probabilities where captions would be; nothing to show is warned of" {
    "$PY" - <<'P'
import msgpack
with open("scored.pgs", "wb") as f:
    for r in {"pg-stream": [1, 0], "kind": "examples", "chain": []}, {"id": "a", "suffix": "x", "logprob": -1.25, "token_logprobs": [-1.0, -0.25]}, {"pg-end": 1}:
        f.write(msgpack.packb(r))
P
    run "$B/pg-render" -f captions scored.pgs
    [ "$output" = $'a\t-1.25' ]
    run "$B/pg-render" scored.pgs
    [ "$output" = 'a: logprob -1.25' ]
    run "$B/pg-render" -f captions events.pgs
    [ "$status" -eq 0 ]
    [[ $output == *"warning: no record has a caption, of 66" ]]
    run "$B/pg-render" -o y.svg before.pgs
    [ "$status" -eq 1 ]
    [ "$output" = "pg-render: there are no losses to draw in 'before.pgs': svg is for the events of pg-train" ]
    [ ! -e y.svg ]
    run "$B/pg-render" -f svg <before.pgs
    [ "$status" -eq 1 ]
    [ "$output" = "pg-render: there are no losses to draw in 'standard input': svg is for the events of pg-train" ]
}

@test "a report of training alone counts steps and validations; without a loss it says so instead of a plot" {
    "$B/pg-render" -q -o r.html events.pgs
    grep -qF '<p class="soft">64 training steps, 1 validation</p>' r.html
    "$PY" - <<'P'
import msgpack
with open("done.pgs", "wb") as f:
    for r in {"pg-stream": [1, 0], "kind": "events", "chain": []}, {"event": "done", "step": 8, "path": "x"}, {"pg-end": 1}:
        f.write(msgpack.packb(r))
P
    "$B/pg-render" -q -o d.html done.pgs
    grep -qF '<p class="soft">0 training steps</p>' d.html
    grep -qF 'There are no losses to draw' d.html
    ! grep -q '<svg' d.html || false
}

@test "tables of a note: columns of numbers to the right, of texts to the left, their heads with them" {
    printf '# T\r\npicture\tcaption\tsteps\tshare\r\na.png\t12\t3\t98 %%\r\nb.png\ta dog\t\t-0.5\r\n\nx\ty\n1\t2\n' >note
    "$B/pg-render" -q -o n.html --note note before.pgs
    sed -n '/<h2>T/,/<\/section>/p' n.html
    grep -qF '<tr><th scope="col">picture</th><th scope="col">caption</th><th scope="col" class="number">steps</th><th scope="col" class="number">share</th></tr>' n.html
    grep -qF '<tr><td>a.png</td><td>12</td><td class="number">3</td><td class="number">98 %</td></tr>' n.html
    grep -qF '<tr><td>b.png</td><td>a dog</td><td class="number"></td><td class="number">-0.5</td></tr>' n.html
    grep -qF '<th scope="col" class="number">x</th>' n.html # another table
    grep -qF '.texts tr > .number { text-align: right; }' n.html
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

@test "sidecar: two records of one text file: the first has it, the other is told of, also where their folders are written differently" {
    mkdir two
    for p in a.jpg a.png b.png c.jpg c.png; do cp a.png two/$p; done
    echo mine >two/c.txt
    "$PY" - <<'P'
import msgpack
records = [("two/a.jpg", "first"), ("./two/a.png", "second"), ("two/b.png", "once"), ("two/b.png", "once"), ("two/../two/b.png", "twice"), ("two/c.jpg", "kept"), ("two/c.png", "also")]
with open("two.pgs", "wb") as f:
    for r in [{"pg-stream": [1, 0], "kind": "examples", "chain": []}] + [{"id": str(i), "source": s, "caption": c} for i, (s, c) in enumerate(records)] + [{"pg-end": len(records)}]:
        f.write(msgpack.packb(r))
P
    run "$B/pg-render" -f sidecar two.pgs
    echo "$output"
    [ "$status" -eq 4 ]
    [[ $output == *"cannot write the caption of './two/a.png': './two/a.txt' has that of another record"* ]]
    [[ $output == *"cannot write the caption of 'two/../two/b.png'"*"2 files written, 2 kept"* ]]
    [ "$(cat two/a.txt two/b.txt two/c.txt)" = $'first\nonce\nmine' ]
    echo old >two/a.txt
    run "$B/pg-render" -q -f sidecar --overwrite two.pgs
    [ "$status" -eq 4 ]
    [ "$(grep -c 'has that of another record' <<<"$output")" -eq 3 ]
    [ "$(cat two/a.txt two/b.txt two/c.txt)" = $'first\nonce\nkept' ]
}

@test "usage errors: unknown format and ending, several streams as text" {
    for args in "-f pdf" "-o x.pdf" "before.pgs after.pgs" "-f sidecar -o x.txt" "--compare before.pgs" "--compare -f html before.pgs events.pgs" "-f text --note x" "--overwrite" "-f html --overwrite" "--with-tensors" "-f html --with-tensors"; do
        run bash -c "'$B/pg-render' $args <before.pgs"
        [ "$status" -eq 2 ] || { echo "$args: $status"; false; }
    done
}

@test "an output that is a pipe or a device is refused, a link stays one" {
    mkfifo fifo
    for to in fifo /dev/null; do
        run "$B/pg-render" -f captions -o "$to" before.pgs
        [ "$status" -eq 1 ]
        [[ $output == *"'$to'"*"not a regular file"* ]]
    done
    [ -p fifo ]
    [ -c /dev/null ]
    echo old >real.txt
    ln -s real.txt link.txt
    "$B/pg-render" -f captions -o link.txt before.pgs
    [ -L link.txt ]
    ! grep -q old real.txt || false
    mkdir disk
    ln -s disk/new.txt new.txt # leads to nothing yet
    "$B/pg-render" -f captions -o new.txt before.pgs
    [ -L new.txt ]
    [ -s disk/new.txt ]
}

@test "html: captions of pictures whose ids differ only far behind are not mixed up" {
    "$PY" - <<'P'
import msgpack
far = "folder/" * 60
def write(name, kind, records):
    with open(name, "wb") as f:
        for r in [{"pg-stream": [1, 0], "kind": kind}] + records + [{"pg-end": len(records)}]:
            f.write(msgpack.packb(r))
write("one.pgs", "examples", [{"id": far + n, "caption": n + " before"} for n in ("cow", "dog", "a\x01", "a\x02")])
write("two.pgs", "examples", [{"id": far + n, "caption": n + " after"} for n in ("cow", "dog", "a\x01", "a\x02")])
write("training.pgs", "events", [{"event": "caption", "step": 1, "id": far + n, "caption": n + " at step 1"} for n in ("dog", "cow")])
P
    "$B/pg-render" -o r.html one.pgs two.pgs training.pgs
    grep -oE 'class="cap">[^<]*|<td>[^<]* at step 1' r.html | sed 's/.*>//' | tr '\n\357\277\275' '|...' >got
    [ "$(cat got)" = 'cow before|cow after|cow at step 1|dog before|dog after|dog at step 1|a... before|a... after|a... before|a... after|' ] || { cat got; false; }
}

@test "sidecar: of many files that are there already three are named, the rest is counted" {
    for i in 1 2 3 4 5; do
        cp a.png "$i.png"
        echo mine >"$i.txt"
    done
    "$PY" - <<'P'
import msgpack
with open("five.pgs", "wb") as f:
    for r in [{"pg-stream": [1, 0], "kind": "examples", "chain": []}] + [{"id": str(i), "source": f"{i}.png", "caption": "x"} for i in range(1, 6)] + [{"pg-end": 5}]:
        f.write(msgpack.packb(r))
P
    run "$B/pg-render" -f sidecar five.pgs
    [ "$status" -eq 0 ]
    echo "$output"
    [ "$(grep -c 'exists and is kept; --overwrite replaces it' <<<"$output")" -eq 3 ]
    [[ $output == *'warning: 2 more exist and are kept'*'0 files written, 5 kept'* ]]
    [ "$(cat 5.txt)" = mine ]
}
