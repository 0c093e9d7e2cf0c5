#!/usr/bin/env bats
# The whole way: pictures, one of them broken, to captions and a report; and the pipelines of the README.
bats_require_minimum_version 1.5.0
setup() {
    cd "$BATS_TEST_DIRNAME/../.."
    B=$(cd "${PG_BUILD:-build}" && pwd)
    T=$BATS_TEST_TMPDIR
    M=data/nano
    S=$("$B/pg-info" $M | sed -n 's/^image  *\([0-9]*\)x.*/\1/p')
    mkdir "$T/in"
    cp tests/golden/image/png-rgb8.png "$T/in/a.png"
    echo 'this is no picture' >"$T/in/b.png"
    cp tests/golden/image/jpg-420.jpg "$T/in/c.jpg"
    echo 'A Red Apple' >"$T/in/c.txt"
}

@test "a broken picture in the middle: status 4, the others captioned, the broken one named in the report" {
    run bash -c "'$B/pg-fetch' '$T/in' | '$B/pg-resize' -s $S | '$B/pg-tokenize' -m $M | '$B/pg-infer' -m $M -n 16 >'$T/out.pgs'; echo \${PIPESTATUS[*]}"
    [[ ${lines[-1]} == "0 4 4 4" ]] || { echo "$output"; false; }
    run -4 "$B/pg-render" -f captions "$T/out.pgs"
    [[ $output == *a.png* ]]
    [[ $output == *c.jpg* ]]
    run -4 "$B/pg-render" -o "$T/report.html" "$T/out.pgs"
    grep -q 'b.png' "$T/report.html"
    grep -q 'cannot decode' "$T/report.html"
}

@test "a tuned folder is a model: train, then caption with it" {
    run bash -c "'$B/pg-fetch' '$T/in' | '$B/pg-resize' -s $S | '$B/pg-tokenize' -m $M >'$T/train.pgs'"
    run -4 bash -c "'$B/pg-train' -m $M -o '$T/tuned' --steps 3 --batch 2 <'$T/train.pgs' >'$T/events.pgs'"
    [ -f "$T/tuned/model.npz" ]
    [ -f "$T/tuned/tokenizer.model" ]
    run bash -c "PG_BIN='$B' pipelines/caption.sh '$T/tuned' '$T/in' 2>/dev/null"
    [[ $output == *c.jpg* ]]
    run -0 "$B/pg-render" -f text "$T/events.pgs"
    [[ $output == *3/3* ]]
}

@test "numpy and big_vision's names accept what pg-train wrote" {
    PY=$(tests/find-python numpy) || skip 'no numpy'
    run bash -c "'$B/pg-fetch' '$T/in' | '$B/pg-resize' -s $S | '$B/pg-tokenize' -m $M | '$B/pg-train' -m $M -o '$T/x.npz' --steps 1 --batch 2 >/dev/null"
    run -0 "$PY" - "$T/x.npz" <<'P'
import sys, numpy as np
z = np.load(sys.argv[1], allow_pickle=False)
for k in z.files:
    a = z[k]
    assert k.startswith("params/"), k
    want = np.float32 if "/attn/" in k and "llm" in k else np.float16
    assert a.dtype == want, (k, a.dtype)
assert "params/llm/layers/attn/q_einsum/w" in z.files
P
}

@test "memory stays flat from 100 to 10,000 records through tokenizing" {
    PY=$(tests/find-python resource) || skip 'no python3'
    for n in 100 10000; do
        for ((i = 0; i < n; i++)); do printf '{"image":"%s","id":"%d","suffix":"a red apple"}\n' "$T/in/a.png" "$i"; done >"$T/$n.jsonl"
        "$B/pg-fetch" "$T/$n.jsonl" >"$T/$n.pgs"
    done
    peak() { "$PY" -c 'import resource,subprocess,sys
subprocess.run(sys.argv[1:], stdin=sys.stdin, stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)' "$@"; }
    few=$(peak "$B/pg-tokenize" -q -m $M <"$T/100.pgs")
    many=$(peak "$B/pg-tokenize" -q -m $M <"$T/10000.pgs")
    echo "$few KiB, $many KiB"
    [ "$many" -le $((few + 2048)) ]
}

@test "the same prefix and seed give the same checkpoint bytes with 1 and 2 threads" {
    "$B/pg-fetch" "$T/in/a.png" "$T/in/c.jpg" | "$B/pg-resize" -s $S | "$B/pg-tokenize" -q -m $M >"$T/t.pgs"
    for j in 1 2; do "$B/pg-train" -q -j $j -m $M -o "$T/$j.npz" --steps 4 --batch 2 <"$T/t.pgs" >/dev/null; done
    cmp "$T/1.npz" "$T/2.npz"
}
