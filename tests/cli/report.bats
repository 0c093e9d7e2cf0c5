#!/usr/bin/env bats
# The report in a browser: what it shows, sorts, finds; that it asks nothing of any network. Skipped without Chromium.
bats_require_minimum_version 1.5.0
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=$(realpath "${PG_BUILD:-build}")
    T=$BATS_TEST_TMPDIR
    PY=$(tests/find-python msgpack) || skip "no python3-msgpack"
    chromium=$(command -v chromium) || skip "no chromium"
    cp tests/golden/image/png-rgb8.png "$T/a.png"
    cd "$T"
    "$PY" - <<'P'
import msgpack
def write(name, kind, records, **end):
    with open(name, "wb") as f:
        for r in [{"pg-stream": [1, 0], "kind": kind, "chain": []}] + records + [{"pg-end": len(records), **end}]:
            f.write(msgpack.packb(r))
def example(i, caption, score):
    return {"id": "p%d" % i, "image": open("a.png", "rb").read(), "caption": caption, "references": ["a red dog runs", "a dog"], "scores": {"CIDEr": score}}
write("b.pgs", "examples", [example(0, "a cat", 0.5), example(1, "a red dog runs", 9.0), example(2, "<b>two</b> long cats sit here", 0.1)], scores={"CIDEr": 3.2})
write("a.pgs", "examples", [example(0, "a dog", 4.0), example(1, "a red dog runs", 9.0), example(2, "a café", 0.0)], scores={"CIDEr": 4.3})
write("events.pgs", "events", [{"event": "step", "step": i, "steps": 50, "lr": 0.1, "loss": 10.0 / i} for i in range(1, 51)] +
      [{"event": "val", "step": 50, "loss": 0.5, "exact": 0.25, "CIDEr": 1.5}])
P
    "$B/pg-render" -o r.html --label before --label after b.pgs a.pgs events.pgs
}

# Runs a script in the page; what it gives to say() comes out.
in_page() { # in_page WIDTH SCRIPT
    cat >script <<J
<script>addEventListener("load", async () => {
const \$ = id => document.getElementById(id), wait = ms => new Promise(r => setTimeout(r, ms)), said = [], say = s => said.push(s);
const set = (id, v, e) => { \$(id).value = v; \$(id).dispatchEvent(new Event(e)); };
const ids = () => [...document.querySelectorAll(".card")].filter(c => !c.hidden).map(c => c.querySelector(".id").textContent.slice(0, 2)).join(" ");
try { $2 } catch (e) { say("error " + e); }
document.title = "SAID:" + said.join("|");
});</script>
J
    "$PY" -c 'import sys; h = open("r.html").read(); open("t.html", "w").write(h.replace("</body>", open("script").read() + "</body>"))'
    timeout 120 "$chromium" --headless=new --no-sandbox --disable-gpu --user-data-dir="$T/profile" --window-size="$1",900 --virtual-time-budget=5000 \
        --dump-dom "file://$T/t.html" 2>log | sed -n 's/.*<title>SAID:\([^<]*\)<.*/\1/p'
}

@test "cards are sorted by score, change and length, found by words, and shown by kind" {
    run in_page 1200 '
        say(ids());
        for (const v of ["w1", "b1", "w0", "g0", "l0", "s0", "n0", "o0"]) { set("sort", v, "change"); say(v + " " + ids()); }
        set("find", "CAFE", "input"); await wait(300); say("cafe " + ids() + " " + $("count").textContent);
        set("find", "red runs", "input"); await wait(300); say("both " + ids());
        set("find", "", "input"); await wait(300);
        for (const v of ["match", "differ", "changed", "all"]) { set("show", v, "change"); say(v + " " + ids()); }'
    echo "$output"
    [ "$output" = "p0 p1 p2|w1 p2 p0 p1|b1 p1 p0 p2|w0 p2 p0 p1|g0 p0 p1 p2|l0 p2 p1 p0|s0 p0 p2 p1|n0 p1 p0 p2|o0 p0 p1 p2|cafe p2 1 of 3|both p0 p1 p2|match p0 p1|differ p2|changed p0 p2|all p0 p1 p2" ]
}

@test "a caption is text, and the picture's alternative; pictures show" {
    run in_page 1200 '
        say(document.querySelectorAll(".card img").length + " " + document.images[0].alt);
        document.images[0].scrollIntoView(); await wait(500); say(document.images[0].naturalWidth > 0);
        say(document.querySelectorAll(".card b").length + " " + document.querySelectorAll(".cap")[4].textContent.slice(0, 10));
        say([...document.querySelectorAll("mark.extra")].map(m => m.textContent).join(","));'
    echo "$output"
    [[ $output == "3 a dog|true|0 &lt;b&gt;two&lt;/b"* ]]
    [[ $output == *"|Marked,cat,"* ]]
}

@test "the curve tells its values, to the pointer and to the keyboard" {
    run in_page 1200 '
        const s = document.querySelector(".plot svg"), r = s.getBoundingClientRect(), tip = document.querySelector(".tip");
        say(tip.hidden);
        s.dispatchEvent(new PointerEvent("pointermove", {clientX: r.left + r.width * 784 / 800, clientY: r.top + 90, bubbles: true}));
        say(tip.hidden + " " + tip.textContent.replace(/\n/g, ";"));
        document.querySelector(".plot").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft", bubbles: true}));
        say(tip.textContent.split("\n")[0]);'
    echo "$output"
    [ "$output" = "true|false step 50;loss 0.2;learning rate 0.1;held-out loss 0.5 (step 50);CIDEr 1.5;exact 25 %|step 49" ]
}

@test "steps of a long run are told to the last digit" {
    "$PY" - <<'P'
import msgpack
with open("long.pgs", "wb") as f:
    records = [{"event": "step", "step": i, "steps": 12347, "lr": 0.1, "loss": 1.0} for i in range(12300, 12348)] + [{"event": "val", "step": 12347, "loss": 0.5}]
    for r in [{"pg-stream": [1, 0], "kind": "events", "chain": []}] + records + [{"pg-end": len(records)}]:
        f.write(msgpack.packb(r))
P
    "$B/pg-render" -o r.html long.pgs
    run in_page 1200 '
        document.querySelector(".plot").dispatchEvent(new KeyboardEvent("keydown", {key: "End", bubbles: true}));
        say(document.querySelector(".tip").textContent.replace(/\n/g, ";"));'
    echo "$output"
    [ "$output" = "step 12347;loss 1;learning rate 0.1;held-out loss 0.5 (step 12347)" ]
}

@test "nothing is fetched, and a phone's width holds everything" {
    for width in 390 1200; do
        run in_page $width '
            say(performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:")).length);
            say(document.documentElement.scrollWidth <= innerWidth);'
        echo "$width: $output"
        [ "$output" = "0|true" ]
    done
    run ! grep -E 'Refused|Uncaught' log
}

@test "without a script the cards are there and the controls are not" {
    sed 's/<script>/<script type="none">/' r.html >n.html
    timeout 120 "$chromium" --headless=new --no-sandbox --disable-gpu --user-data-dir="$T/profile" --dump-dom "file://$T/n.html" >dom 2>/dev/null
    [ "$(grep -c '<article' dom)" -eq 3 ]
    grep -q '<form class="controls" role="search" hidden' dom
}
