"""Position embeddings of the golden models at other resolutions, as big_vision's resample_posemb makes them. Needs numpy and scipy."""
import numpy as np
import scipy.ndimage

out = {}
for family, sizes in (("pg1", (112, 42, 14)), ("pg2", (24, 88))):
    old = np.load(f"{family}.npz")["params/img/pos_embedding"]
    patch = {"pg1": 14, "pg2": 8}[family]
    was = int(np.sqrt(old.shape[1]))
    for size in sizes:
        now = size // patch
        grid = scipy.ndimage.zoom(old.reshape(was, was, -1), (now / was, now / was, 1), order=1)
        out[f"{family}/{size}"] = grid.reshape(1, now * now, -1)
np.savez("posemb.npz", **out)
