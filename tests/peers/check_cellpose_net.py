"""A network of Cellpose that Glia trained, converted to .pth and opened by Cellpose itself: the same flows and probabilities. How many cells both
make of them is printed alone: where a network of few steps is sure of nothing, rounding decides where a pixel goes.

Needs Cellpose 3.1, torch, numpy and Pillow; not part of the tests that always run.
usage: check_cellpose_net.py PATH_OF_GLIA
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from cellpose import models, resnet_torch
from PIL import Image

GLIA = sys.argv[1]
TOLERANCE = {"exact": 1e-4, "fp32": 5e-4}  # the faster convolutions of fp32 round more
LOW = -6  # a network of few steps is sure of no pixel


def glia(*arguments):
    done = subprocess.run([GLIA, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    glia("synth", "--out", folder / "cells", "--images", 4, "--size", "96x96", "--style", "fluorescence", "--quiet")
    glia("train", "cellpose", "--data", folder / "cells", "--out", folder / "run", "--set", "cellpose.crop=64", "--set",
         "cellpose.min_train_masks=1", "--set", "solver.batch_size=2", "--set", "solver.max_iterations=30", "--set", "eval.pictures=0")
    checkpoint = folder / "run" / "checkpoints" / "last.safetensors"
    glia("convert", checkpoint, folder / "net.pth")
    state = torch.load(folder / "net.pth", weights_only=True)
    resnet_torch.CPnet([2, 32, 64, 128, 256], 3, 3).load_state_dict(state)  # every name and shape
    model = models.CellposeModel(gpu=False, pretrained_model=str(folder / "net.pth"))
    for precision, tolerance in TOLERANCE.items():
        glia("predict", checkpoint, "--images", folder / "cells", "--out", folder / precision, "--write", "seg", "--set",
             f"run.precision={precision}", "--set", f"cellpose.cellprob_threshold={LOW}", "--set", "cellpose.flow_threshold=0")
        worst, theirs, here = 0.0, 0, 0
        for file in sorted((folder / precision / "seg").glob("*_seg.npy")):
            image = folder / "cells" / "train" / file.name.replace("_seg.npy", ".png")
            masks, flows, _ = model.eval(np.array(Image.open(image)), channels=[0, 0], diameter=None, cellprob_threshold=LOW, flow_threshold=0)
            ours = np.load(file, allow_pickle=True).item()
            worst = max(worst, np.abs(flows[1] - ours["flows"][4][:2]).max(), np.abs(flows[2] - ours["flows"][4][2]).max())
            theirs, here = theirs + int(masks.max()), here + int(ours["masks"].max())
        assert worst <= tolerance, (precision, worst)
        print(f"{len(state)} tensors; {precision}: flows and probabilities within {worst:.1e}; {theirs} cells by Cellpose, {here} by Glia")
