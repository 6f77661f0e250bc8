#!/usr/bin/env python3
"""How long Glia takes to read weights, and with how much memory, in each format: the tensors of Mask R-CNN R50-FPN (176 MB) from the
page cache, all of them copied into memory. Each row is a process of its own; the time is the median of its readings.

    python3 bench/load_weights.py [--glia build/bin/glia] [--seconds 2] [--keep FOLDER]

Needs `pip install torch numpy safetensors h5py`.
"""
import argparse
import json
import pickle
import subprocess
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from safetensors.numpy import save_file

ROOT = Path(__file__).parents[1]


def weights():
    """Names and shapes of the network; values of every bit pattern that weights have."""
    rng = np.random.default_rng(1)
    lines = (ROOT / "tests/fixtures/mask_rcnn_r50_fpn_names.txt").read_text().split("\n")
    shapes = {w[0]: tuple(map(int, w[1:])) for w in map(str.split, lines) if w}
    return {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}


def write_h5(file, arrays):
    with h5py.File(file, "w") as h5:
        for name, array in arrays.items():
            h5.create_dataset(name.replace(".", "/"), data=array)


def make_files(folder, arrays):
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    np.savez(folder / "weights.npz", **arrays)
    save_file(arrays, folder / "weights.safetensors")
    torch.save(tensors, folder / "zip.pth")
    torch.save(tensors, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    for protocol in (2, 4):
        pickle.dump({"model": arrays, "__author__": "x"}, open(folder / f"protocol{protocol}.pkl", "wb"), protocol=protocol)
    write_h5(folder / "weights.h5", arrays)
    np.savez_compressed(folder / "deflated.npz", **arrays)


def read_python(file):
    """The same by the format's own package, of one thread: (seconds, None where there is none)."""
    reader = {".pth": lambda: torch.load(file, weights_only=True), ".pkl": lambda: pickle.load(open(file, "rb"), encoding="latin1"),
              ".npz": lambda: dict(np.load(file)),
              ".safetensors": lambda: {k: v.copy() for k, v in __import__("safetensors.numpy").numpy.load_file(file).items()},
              ".h5": lambda: read_h5(file)}[file.suffix]
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        reader()
        times.append(time.perf_counter() - begin)
    return sorted(times)[1]


def read_h5(file):
    arrays = {}
    with h5py.File(file) as h5:
        h5.visititems(lambda name, node: arrays.update({name: node[()]}) if isinstance(node, h5py.Dataset) else None)
    return arrays


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glia", default="build/bin/glia")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--keep", type=Path, help="make the files here, or take them from here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "deflated.npz").exists():
            make_files(folder, weights())
        print("| file | MB | first s | median s | Python's s | peak memory over the weights |\n|---|---|---|---|---|---|")
        for name in ("weights.safetensors", "zip.pth", "legacy.pth", "protocol4.pkl", "protocol2.pkl", "weights.npz", "weights.h5", "deflated.npz"):
            file = folder / name
            file.read_bytes()  # into the page cache
            out = Path(scratch) / "figures.json"
            subprocess.run([options.glia, "bench", "load", file, "--json", out, "--seconds", str(options.seconds), "--quiet"], check=True)
            got = json.loads(out.read_text())
            print(f"| {name} | {file.stat().st_size / 1e6:.0f} | {got['first_s']:.3f} | {got['median_s']:.3f} | {read_python(file):.3f} "
                  f"| {got['peak_bytes'] / got['bytes']:.2f} |")


main()
