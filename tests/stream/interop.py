#!/usr/bin/env python3
"""The stream as any program with msgpack and msgpack-numpy sees it. Shares no code with pg.

interop.py check   exits 0 where msgpack and msgpack-numpy are installed
interop.py show    reads a stream, checks it against pg-stream(5), prints a line for each record
interop.py write   writes a stream with tensors, bytes, unknown keys and integers of every width
"""
import sys

try:
    import msgpack
    import msgpack_numpy
    import numpy
except ImportError as e:
    sys.exit(f"{e}: apt-get install python3-numpy python3-msgpack, pip install msgpack-numpy")


def word(v):
    if isinstance(v, numpy.ndarray):
        return f"{v.dtype.str}{list(v.shape)}".replace(" ", "")
    return f"{len(v)}B" if isinstance(v, bytes) else repr(v).replace(" ", "_")


def pairs(items):
    keys = [k for k, _ in items]
    assert len(set(keys)) == len(keys), f"a key twice in {keys}"
    if b"nd" in keys or "nd" in keys:
        return msgpack_numpy.decode(dict(items))
    return items


def show():
    header, *records, end = msgpack.Unpacker(sys.stdin.buffer, object_pairs_hook=pairs, max_buffer_size=1 << 30)
    assert header[0] == ("pg-stream", [1, 0]), header[0]
    h = dict(header)
    assert h["kind"] in ("examples", "events"), h
    for link in h["chain"]:
        assert [k for k, _ in link] == ["program", "version", "args"], link
    print(h["kind"], "|".join(dict(link)["program"] for link in h["chain"]))
    for r in records:
        assert all(isinstance(k, str) and not k.startswith("pg-") for k, _ in r), r
        print(*(f"{k}={word(v)}" for k, v in r))
    assert end[0] == ("pg-end", len(records)), (end, len(records))
    assert dict(end)["errors"] == sum("error" in dict(r) for r in records), end


def write():
    def put(v):
        sys.stdout.buffer.write(msgpack.packb(v, default=msgpack_numpy.encode))

    pixels = numpy.linspace(-1, 1, 4 * 4 * 3, dtype="<f4").reshape(4, 4, 3)
    put({"pg-stream": [1, 0], "kind": "examples", "chain": [], "mine": {"deep": [None, True, 1.5]}})
    put({"zeta": 1, "id": "a", "pixels": pixels, "alpha": b"\0\xff", "caption": "grey ramp",
         "ints": [0, -1, -33, 127, 128, 65535, 65536, 2**32, 2**63, -(2**63)], "nothing": None})
    put({})
    put({"id": "\u00e9" * 300, "odd": numpy.arange(6, dtype="|u1").reshape(2, 3), "list": list(range(70000))})
    put({"pg-end": 3, "errors": 0, "more": 1})


mode = sys.argv[1] if len(sys.argv) == 2 else ""
if mode not in ("check", "show", "write"):
    sys.exit(__doc__)
if mode != "check":
    {"show": show, "write": write}[mode]()
