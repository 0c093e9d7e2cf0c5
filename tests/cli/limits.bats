#!/usr/bin/env bats
# What a stranger's input may take (SECURITY.md): sizes are refused before memory is.
# shellcheck disable=SC2154 # bats sets stderr
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return
    B=${PG_BUILD:-build}
    T=$BATS_TEST_TMPDIR
}

python() { /usr/bin/python3 "$@"; }

@test "--max-record: every tool that reads a stream refuses a larger record, status 3" {
    head -c 200000 /dev/zero >"$T/zeros.png"
    "$B/pg-fetch" "$T/zeros.png" >"$T/large.pgs"
    for tool in 'pg-resize' 'pg-score' 'pg-score --annotate' 'pg-render' "pg-info -" 'pg-tokenize -m data/nano' 'pg-infer -m data/nano'; do
        # shellcheck disable=SC2086
        run --separate-stderr bash -c "'$B'/$tool --max-record 100K <'$T/large.pgs' >'$T/out'"
        echo "$tool: $status: $stderr"
        [ "$status" -eq 3 ]
        [[ $stderr == *'the limit of 102400 bytes'* ]]
    done
    run -4 --separate-stderr bash -c "'$B/pg-resize' --max-record 300K <'$T/large.pgs' >'$T/out'"
    run -3 --separate-stderr bash -c "'$B/pg-train' -m data/nano -o '$T/o.npz' --max-record 100K <'$T/large.pgs' >'$T/out'"
}

@test "--max-record: a size that makes no sense is a usage error" {
    for size in 1 -5 5G x 64k ''; do
        run -2 --separate-stderr "$B/pg-render" --max-record "$size"
        [[ $stderr == *--max-record* ]]
    done
}

@test "pg-fetch --max-record: a larger picture gets an error, the next one goes on" {
    head -c 200000 /dev/zero >"$T/a.png"
    cp tests/golden/image/png-rgb8-1x1.png "$T/b.png"
    run -4 --separate-stderr bash -c "'$B/pg-fetch' --max-record 100K '$T' >'$T/out.pgs'"
    [[ $stderr == *"a.png' is larger than 96000 bytes"* ]]
    [ "$("$B/pg-render" -f jsonl <"$T/out.pgs" | grep -c '"image"')" -eq 1 ]
}

@test "JSON lines: one without end is an error of its own and costs no memory" {
    # 600 MB in one line, in 200 MB of address space.
    run -4 --separate-stderr bash -c "ulimit -v 200000
        { printf '{\"image\": \"'; head -c 600000000 /dev/zero | tr '\\0' x; printf '\"}\n{\"image\": \"tests/golden/image/png-rgb8-1x1.png\", \"suffix\": \"after it\"}\n'; } |
        '$B/pg-fetch' - >'$T/out.pgs'"
    [[ $stderr == *'stdin:1: longer than 16 MiB'* ]]
    run "$B/pg-render" -f jsonl "$T/out.pgs"
    [[ $output == *'after it'* ]]
}

@test "tar: a member with holes that a few bytes describe is an error of its own and costs no memory" {
    # 1 GiB of holes in a member of 3 bytes, then one that is whole; in 300 MB of address space.
    python - "$T/holes.tar" <<'PY'
import io, sys, tarfile
with tarfile.open(sys.argv[1], "w", format=tarfile.GNU_FORMAT) as t:
    picture = open("tests/golden/image/png-rgb8-1x1.png", "rb").read()
    for name, data in (("a.txt", b"cat"), ("b.png", picture), ("b.txt", b"after it")):
        i = tarfile.TarInfo(name)
        i.size = len(data)
        t.addfile(i, io.BytesIO(data))
b = bytearray(open(sys.argv[1], "rb").read())
b[386:398], b[398:410] = b"%011o\0" % (1 << 30), b"%011o\0" % 3  # GNU's list of holes: bytes of data, where they lie
b[148:156] = b" " * 8
b[148:156] = b"%06o\0 " % sum(b[:512])
open(sys.argv[1], "wb").write(b)
PY
    run -4 --separate-stderr bash -c "ulimit -v 300000; '$B/pg-fetch' '$T/holes.tar' >'$T/out.pgs'"
    [[ $stderr == *"'a.txt' has more bytes than the 3 that its header says"* ]]
    run "$B/pg-render" -f jsonl "$T/out.pgs"
    [[ $output == *'after it'* ]]
}

@test "npz: members that share their bytes are refused" {
    python - "$T/bomb.npz" <<'PY'
import struct, sys, zlib
def npy(n):
    head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d,), }" % n
    head += b' ' * (63 - (10 + len(head)) % 64) + b'\n'
    return b'\x93NUMPY\1\0' + struct.pack('<H', len(head)) + head + bytes(n)
data = npy(1 << 20)
c = zlib.compressobj(9, zlib.DEFLATED, -15)
packed = c.compress(data) + c.flush()
crc = zlib.crc32(data)
local = struct.pack('<4sHHHHHIIIHH', b'PK\3\4', 20, 0, 8, 0, 0, crc, len(packed), len(data), 5, 0) + b'a.npy'
entry = lambda name: struct.pack('<4sHHHHHHIIIHHHHHII', b'PK\1\2', 20, 20, 0, 8, 0, 0, crc, len(packed), len(data), len(name), 0, 0, 0, 0, 0, 0) + name
central = b''.join(entry(b'%d.npy' % i) for i in range(1000))
open(sys.argv[1], 'wb').write(local + packed + central + struct.pack('<4sHHHHIIH', b'PK\5\6', 0, 0, 1000, 1000, len(central), len(local + packed), 0))
PY
    run -1 --separate-stderr "$B/pg-info" "$T/bomb.npz"
    [[ $stderr == *'members overlap'* ]]
}

@test "checkpoint: sizes that no PaliGemma has are refused, not computed with" {
    python - data/nano/model.npz "$T/large.npz" <<'PY'
import sys
import numpy as np
z = dict(np.load(sys.argv[1]))
z = {k: np.ascontiguousarray(v) for k, v in z.items()}
pos = 'params/img/pos_embedding'
z[pos] = np.zeros((1, 1100 * 1100, z[pos].shape[2]), '<f2')
np.savez(sys.argv[2], **z)
PY
    run --separate-stderr "$B/pg-info" "$T/large.npz"
    echo "$output $stderr"
    [ "$status" -eq 1 ]
    [[ $output$stderr == *'1210000 is none of a PaliGemma'* ]]
}

@test "a tensor's type with a zero byte, a shape with a zero and a huge size: no crash, no endless text" {
    python - "$T" <<'PY'
import sys
import msgpack
def pack(o): return msgpack.packb(o, use_bin_type=True)
def stream(name, t):
    open(sys.argv[1] + '/' + name, 'wb').write(pack({'pg-stream': [1, 0], 'kind': 'examples', 'chain': []}) + pack({'id': 'a', 't': t}) + pack({'pg-end': 1}))
stream('type', {b'nd': True, b'type': '<\0\0', b'kind': b'', b'shape': [3], b'data': b''})
stream('empty', {b'nd': True, b'type': '<f4', b'kind': b'', b'shape': [1 << 40, 0], b'data': b''})
PY
    run -0 timeout 20 "$B/pg-render" -f jsonl --with-tensors "$T/type"
    run -0 timeout 20 "$B/pg-render" -f jsonl --with-tensors "$T/empty"
    [[ $output == *'"t":[]'* ]]
}
