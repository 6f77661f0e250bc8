"""Writes cellpose_size.safetensors and cellpose_size.npy to a folder: the size model that Cellpose's own train.train_size fits to styles
from a formula (those of a network that it is made to believe in), and the diameters that models.SizeModel then says.

Needs Cellpose 3.1; the tests read the files alone.
usage: make_cellpose_size_fixture.py FOLDER
"""
import json
import struct
import sys
import tempfile
from pathlib import Path

import cellpose
import numpy as np
import torch
from cellpose import models, train, transforms

S, IMAGES, EPOCHS, DIAM_MEAN = 256, 4, 10, 30.0
GOLDEN, MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def formula(name, shape, scale, offset, seed=1):
    """offset + scale u, as tests/formula_weights.h."""
    state = 0xCBF29CE484222325
    for b in name.encode():
        state = ((state ^ b) * 0x100000001B3) & MASK
    state = (state + seed * GOLDEN) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.arange(1, np.prod(shape) + 1, dtype=np.uint64) * np.uint64(GOLDEN)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (offset + scale * ((z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1)).astype(np.float32).reshape(shape)


class Net:
    """A network for train_size: one style after the other."""

    diam_mean, device, next = torch.tensor([DIAM_MEAN]), torch.device("cpu"), 0
    styles = formula("styles", (IMAGES * EPOCHS, S), 0.06, 0.05)

    def eval(self):
        pass

    def __call__(self, x):
        Net.next += len(x)
        return None, torch.from_numpy(self.styles[Net.next - len(x) : Net.next])


def main(folder):
    scales, draw = [], transforms.random_rotate_and_resize

    def recorded(images, **how):
        out = draw(images, **how)
        scales.extend(out[2])
        return out

    transforms.random_rotate_and_resize = recorded
    orders, permutation = [], np.random.permutation
    np.random.permutation = lambda x: orders.append(permutation(x)) or orders[-1]
    images, labels, diameters = [], [], []
    for k in range(IMAGES):  # squares of a side
        side, label = 9 + 6 * k, np.zeros((96, 96), np.int32)
        for n in range(6):
            y, x = 32 * (n // 3), 32 * (n % 3)
            label[y : y + side, x : x + side] = n + 1
        images.append(np.zeros((2, 96, 96), np.float32))
        labels.append(label)
        diameters.append(side * 2 / np.sqrt(np.pi))
    with tempfile.TemporaryDirectory() as place:
        train.train_size(Net(), Path(place) / "m", images, labels, channels=None, normalize=False, batch_size=8, n_epochs=EPOCHS)
        file = Path(place) / "m_size.npy"
        params = np.load(file, allow_pickle=True).item()
        Path(folder, "cellpose_size.npy").write_bytes(file.read_bytes())
    shown = np.array([diameters[i] for order in orders for i in order]) * np.array(scales).reshape(-1)
    size = models.SizeModel.__new__(models.SizeModel)
    size.params, size.diam_mean = params, params["diam_mean"]
    asked = formula("asked", (6, S), 0.06, 0.05)
    asked[5] -= 3 * np.sign(params["A"]).astype(np.float32)  # below the least diameter
    tensors = {
        "in/diameters": shown.astype(np.float64),
        "in/asked": asked,
        "out/A": params["A"].astype(np.float64),
        "out/smean": params["smean"],
        "out/ymean": np.array([params["ymean"]], np.float32),
        "out/estimated": np.array([size._size_estimation(s) for s in asked]).astype(np.float64),
    }
    case = dict(name="size", op="cellpose_size", params=dict(diam_mean=DIAM_MEAN, count=IMAGES * EPOCHS, scale=0.06, offset=0.05), atol=1e-5, rtol=1e-4)
    metadata = {"format": "glia-fixture-1", "source": "cellpose " + cellpose.version, "cases": json.dumps([case])}
    header, data = {"__metadata__": metadata}, b""
    for name, a in sorted(tensors.items(), key=lambda kv: -kv[1].itemsize):
        header["size/" + name] = {"dtype": {"f8": "F64", "f4": "F32"}[a.dtype.str[1:]], "shape": list(a.shape), "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(folder, "cellpose_size.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


main(sys.argv[1])
