#!/usr/bin/env bats
# Boxes that a caption names, in what pg-render writes.
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    W=$BATS_TEST_TMPDIR
    python=$(tests/find-python msgpack) || skip 'no Python with msgpack'
    "$python" - tests/golden/image/png-rgb8.png >"$W/in.pgs" <<'END'
import sys, msgpack
picture = open(sys.argv[1], "rb").read()
cat, seg = "<loc0256><loc0128><loc0768><loc0512>", "".join(f"<seg{i:03d}>" for i in range(16))
rows = [{"id": "two", "image": picture, "width": 400, "height": 200, "caption": cat + " cat ; <loc0900><loc0800><loc0100><loc0200> a <dog>"},
        {"id": "mask", "caption": cat + seg + " cat"}, {"id": "none", "caption": "a cat"}, {"id": "odd", "caption": "<loc0001> cat"}]
put = lambda v: sys.stdout.buffer.write(msgpack.packb(v))
put({"pg-stream": [1, 0], "kind": "examples", "chain": []})
for r in rows:
    put(r)
put({"pg-end": len(rows), "errors": 0})
END
}

@test "JSON: label, fractions, pixels, codes of the mask" {
    "$B/pg-render" -f jsonl <"$W/in.pgs" >"$W/out"
    "$python" - "$W/out" <<'END'
import json, sys
two, mask, none, odd = (json.loads(x) for x in open(sys.argv[1]))
assert [b["label"] for b in two["boxes"]] == ["cat", "a <dog>"]
assert two["boxes"][0] == {"label": "cat", "y0": 0.25, "x0": 0.125, "y1": 0.75, "x1": 0.5, "pixels": [50.0, 50.0, 200.0, 150.0]}
b = two["boxes"][1]
assert (b["y0"], b["y1"], b["x0"], b["x1"]) == (100 / 1024, 900 / 1024, 200 / 1024, 800 / 1024)
assert mask["boxes"][0]["mask_codes"] == list(range(16)) and "pixels" not in mask["boxes"][0]
assert "boxes" not in none and "boxes" not in odd
END
}

@test "html: frames over the picture, labels escaped" {
    "$B/pg-render" -f html <"$W/in.pgs" >"$W/out"
    grep -q 'class="box" style="left:12.50%;top:25.00%;width:37.50%;height:50.00%"><b>cat</b>' "$W/out"
    grep -q '<b>a &lt;dog&gt;</b>' "$W/out"
    [ "$(grep -o 'class="box"' "$W/out" | wc -l)" -eq 2 ]
}
