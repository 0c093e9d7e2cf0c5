"""Writes answers.txt from the oracle's arrays: FILE ORIENT SIZE SHA256, over the raw little-endian floats [SIZE,SIZE,3].
Usage: make_answers.py FOLDER-WITH-NPZ > answers.txt"""
import hashlib, json, os, sys
import numpy as np
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from resize_ref import preprocess
d = sys.argv[1]
for m in json.load(open(os.path.join(d, 'manifest.json')))['images']:
    f = m['file']
    if f.startswith('opt-'):
        continue
    z = np.load(os.path.join(d, f.rsplit('.', 1)[0] + '.npz'))
    assert hashlib.sha256(preprocess(z['rgb'], 224).tobytes()).hexdigest() == m['sha256_s224'], f
    for orient in (0, 1):
        rgb = z['rgb_oriented'] if orient and 'rgb_oriented' in z else z['rgb']
        for s in (7, 64, 224, 448):
            print(f, orient, s, hashlib.sha256(preprocess(rgb, s).tobytes()).hexdigest())
