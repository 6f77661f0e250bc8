"""Compares a _seg.npy that `glia predict --write seg` wrote with the one that Cellpose's io.masks_flows_to_seg writes for the same masks
and flows, and opens it as Cellpose's window does.

Needs Cellpose 3.1.
usage: check_cellpose_seg.py FILE_seg.npy
"""
import sys
import tempfile
from pathlib import Path

import numpy as np
from cellpose import io, plot

ours = np.load(sys.argv[1], allow_pickle=True).item()
flow, logit = ours["flows"][4][:2], ours["flows"][4][2]
with tempfile.TemporaryDirectory() as place:
    name = str(Path(place) / "a.png")
    masks = ours["masks"].astype(np.int32)
    io.masks_flows_to_seg(None, masks, [plot.dx_to_circ(flow), flow, logit], name, diams=ours["diameter"], channels=ours["chan_choose"])
    theirs = np.load(str(Path(place) / "a_seg.npy"), allow_pickle=True).item()
assert set(theirs) <= set(ours), set(theirs) - set(ours)
worst = 0
for key in ("masks", "outlines", "ismanual"):
    assert ours[key].dtype == theirs[key].dtype and np.array_equal(ours[key], theirs[key]), key
for key in ("chan_choose", "diameter"):
    assert ours[key] == theirs[key], key
assert len(ours["flows"]) == len(theirs["flows"]) == 5
for i, (a, b) in enumerate(zip(ours["flows"], theirs["flows"])):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape and a.dtype == b.dtype, (i, a.shape, b.shape, a.dtype, b.dtype)
    if a.size and i < 4:
        worst = max(worst, np.abs(a.astype(int) - b.astype(int)).max())
    assert i < 4 or np.array_equal(a, b), i
assert worst <= 1, worst  # the last bit of float32 decides which way a level is cut
assert ours["colors"].shape == (masks.max(), 3) and ours["colors"].dtype == np.uint8
assert ours["est_diam"] == ours["diameter"] and isinstance(ours["filename"], str)
assert ours["flows"][0].shape[-3] == ours["masks"].shape[-2]  # else the window would resize them
print(f"{sys.argv[1]}: {masks.max()} cells, diameter {ours['diameter']:.6g}; levels of the pictures differ by {worst} at most")
