"""Writes watershed_ties.safetensors to a folder: scikit-image's watershed of images of few levels, where most pixels are level with
their neighbours and the result hangs on which of two equal ones comes first.

Needs scikit-image; the tests read the file alone.
usage: make_watershed_fixture.py FOLDER
"""
import json
import struct
import sys
from pathlib import Path

import numpy as np
import skimage
from skimage.segmentation import watershed

SIDE, MARKERS = 32, 24


def main(folder):
    draw = np.random.default_rng(1)
    cases, tensors = [], {}
    for levels in (1, 3, 12):
        x = draw.integers(0, levels, (SIDE, SIDE)).astype(np.float32)
        markers = np.zeros((SIDE, SIDE), np.int32)
        markers.flat[draw.choice(SIDE * SIDE, MARKERS, replace=False)] = 1 + np.arange(MARKERS)
        mask = (draw.random((SIDE, SIDE)) < 0.9).astype(np.uint8)
        for connectivity, line in ((4, False), (8, False), (4, True)):
            name = f"ties_{levels}_{connectivity}" + "_line" * line
            cases.append(dict(name=name, op="watershed", params=dict(connectivity=connectivity, line=line), atol=0, rtol=0))
            labels = watershed(x, markers, connectivity=connectivity // 4, mask=mask, watershed_line=line).astype(np.int32)
            for key, value in {"in/x": x, "in/markers": markers, "in/mask": mask, "out/labels": labels}.items():
                tensors[f"{name}/{key}"] = value
    metadata = {"format": "glia-fixture-1", "source": "scikit-image " + skimage.__version__, "cases": json.dumps(cases)}
    header, data = {"__metadata__": metadata}, b""
    for name, a in sorted(tensors.items(), key=lambda kv: -kv[1].itemsize):
        kind = {"f4": "F32", "i4": "I32", "u1": "U8"}[a.dtype.str[1:]]
        header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(folder, "watershed_ties.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


main(sys.argv[1])
