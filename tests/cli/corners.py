"""Reads a stream of examples "... on a COLOUR background": one corner at least must have that colour, whatever the picture covers."""
import sys

import msgpack
import msgpack_numpy
import numpy as np

RGB = {"red": (205, 40, 40), "orange": (245, 140, 30), "yellow": (250, 225, 70), "green": (60, 160, 70), "blue": (50, 95, 205),
       "purple": (130, 60, 165), "pink": (250, 160, 195), "brown": (125, 80, 45), "gray": (130, 130, 130), "black": (20, 20, 20),
       "white": (255, 255, 255)}
seen = set()
for r in msgpack.Unpacker(sys.stdin.buffer, object_hook=msgpack_numpy.decode, raw=False, strict_map_key=False):
    if "pixels" not in r:
        continue
    colour = r["suffix"].split()[-2]
    p = (r["pixels"] + 1) * 127.5
    far = min(np.abs(p[y, x] - RGB[colour]).max() for y in (0, -1) for x in (0, -1))
    assert far <= 13, (r["id"], r["suffix"], far)  # colours are jittered by 12, and rounded
    seen.add(colour)
assert len(seen) >= 8, seen
