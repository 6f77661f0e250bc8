#!/usr/bin/env python3
"""Glia against Cellpose 3.1 on PyTorch, interleaved: ratios of median times on the same work.

    python3 bench/compare_cellpose.py [--rounds 3] [--only targets dynamics] [--labels LABELS.png] [--threads 2]
    python3 bench/compare_cellpose.py --only predict --checkpoint run/checkpoints/last.safetensors --images FOLDER --diameter 20

Needs `pip install cellpose==3.1.1.3`, and the programs glia and glia_bench. The work:
  forward, training   CPnet on 8 tiles of 224 x 224: evaluation; a training step (forward, loss, backward, SGD). PyTorch as it comes
                      (`default`; the forward pass is Cellpose's own call) and `tuned`: channels_last, and the settings of compare_pytorch.py
  targets, dynamics   flow targets of a label map; cells from its true flows: 200 steps, seeds, masks, flow check (threshold 0.4), small
                      cells dropped. --labels: any label map; without it, that of glia_bench (60 made-up cells, 1022 x 1024)
  predict             whole programs, start-up included: `glia predict` and `python -m cellpose` on the PNG images of a folder with the
                      same weights (glia convert), the same diameter and steps (200 over the scale), label maps written

Each round runs every contender once. Every contender warms up before the first round, but for `predict`.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare_pytorch import tuned_environment

WORK = ["forward", "training", "targets", "dynamics", "predict"]
DIAM_MEAN_OF_CPNET = 30.0


def network_step(work, mode):
    import torch
    import torch.nn.functional as F
    from cellpose.core import _forward
    from cellpose.resnet_torch import CPnet

    own = work == "forward" and mode == "default"
    layout = torch.contiguous_format if mode == "default" else torch.channels_last
    net = CPnet([2, 32, 64, 128, 256], 3, sz=3, mkldnn=own, max_pool=True, diam_mean=DIAM_MEAN_OF_CPNET).to(memory_format=layout)
    x = torch.rand(8, 2, 224, 224).to(memory_format=layout)
    if work == "forward":
        net.eval()
        tiles = x.numpy()

        def infer():
            with torch.no_grad():
                net(x)

        return (lambda: _forward(net, tiles)) if own else infer
    flow, cell = torch.randn(8, 2, 224, 224), (torch.rand(8, 224, 224) > 0.5).float()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-5)

    def train():
        optimizer.zero_grad()
        y = net(x)[0]
        (F.mse_loss(y[:, :2], 5 * flow) / 2 + F.binary_cross_entropy_with_logits(y[:, 2], cell)).backward()
        optimizer.step()

    return train


def dynamics_step(work, file):
    import cv2
    import numpy as np
    from cellpose import dynamics

    labels = cv2.imread(file, cv2.IMREAD_UNCHANGED).astype(np.int32)
    if work == "targets":
        return lambda: dynamics.masks_to_flows(labels)
    flow = 5 * dynamics.masks_to_flows(labels).astype(np.float32)
    logit = np.where(labels > 0, 5.0, -5.0).astype(np.float32)
    return lambda: dynamics.compute_masks(flow, logit, niter=200, min_size=15, flow_threshold=0.4)


def worker(work, mode, threads, labels):
    import torch

    torch.set_num_threads(threads)
    step = network_step(work, mode) if work in ("forward", "training") else dynamics_step(work, labels)
    step()
    print("ready", file=sys.__stdout__, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, file=sys.__stdout__, flush=True)


class Peer:
    """Cellpose in a process of its own, which measures whenever it is asked."""

    def __init__(self, work, mode, args):
        command = [sys.executable, __file__, "--worker", work, mode, str(args.threads), args.labels]
        environment = {**os.environ, **(tuned_environment() if mode == "tuned" else {}), "NUMBA_NUM_THREADS": str(args.threads)}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        self.answer("ready")

    def answer(self, what):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"Cellpose's process ended before it was {what}: {' '.join(map(str, self.process.args))}")
        return line

    def seconds(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.answer("done"))

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def glia_seconds(work, args):
    environment = {**os.environ, "GLIA_BENCH_LABELS": args.labels}
    name = {"forward": "cellpose_forward_8x224x224", "training": "cellpose_training_step_8x224x224", "targets": "cellpose_flow_targets",
            "dynamics": "cellpose_dynamics/200"}[work]
    command = ["taskset", "-c", ",".join(map(str, sorted(os.sched_getaffinity(0))[: args.threads])), args.bench]
    command += [f"--benchmark_filter=^{name}/", "--benchmark_format=json", "--benchmark_min_time=0.2"]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return json.loads(out[out.index("{"):])["benchmarks"][0]["real_time"] / 1e3


def timed(command, **how):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **how)
    return time.perf_counter() - start


def predict_contenders(args, place):
    if not args.checkpoint or not args.images or not args.diameter:
        sys.exit("predict wants --checkpoint, --images and --diameter")
    images = Path(place) / "images"
    images.mkdir()
    for file in sorted(Path(args.images).glob("*.png"))[: args.count]:
        (images / file.name).symlink_to(file.resolve())
    model = Path(place) / "network"
    timed([args.glia, "convert", args.checkpoint, model.with_suffix(".pth")])
    model.with_suffix(".pth").rename(model)
    ours = [args.glia, "predict", args.checkpoint, "--images", images, "--out", Path(place) / "ours", "--write", "labels", "--threads", str(args.threads),
            "--set", f"cellpose.diameter={args.diameter}", "--set", f"cellpose.niter={args.steps or 200}"]
    theirs = [sys.executable, "-m", "cellpose", "--dir", images, "--pretrained_model", model, "--chan", "0", "--diameter", str(args.diameter),
              "--save_png", "--no_npy", "--savedir", Path(place) / "theirs"]
    theirs += ["--niter", str(args.steps)] if args.steps else []
    os.makedirs(Path(place) / "theirs")
    limits = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "NUMBA_NUM_THREADS": str(args.threads)}
    return len(list(images.iterdir())), (lambda: timed(ours)), (lambda: timed(theirs, env=limits))


def compare(work, args, place):
    label, peers = work, {}
    if work == "predict":
        count, ours, theirs = predict_contenders(args, place)
        label, contenders = f"predict, {count} images", {"": theirs}
    else:
        ours = lambda: glia_seconds(work, args)
        modes = ["default", "tuned"] if work in ("forward", "training") else ["default"]
        peers = {mode: Peer(work, mode, args) for mode in modes}
        contenders = {mode: peer.seconds for mode, peer in peers.items()}
    mine, others = [], {mode: [] for mode in contenders}
    for _ in range(args.rounds):
        mine.append(ours())
        for mode, run in contenders.items():
            others[mode].append(run())
    for peer in peers.values():
        peer.end()
    for mode, seconds in others.items():
        ratios = [s / m for s, m in zip(seconds, mine)]
        a, b = statistics.median(mine), statistics.median(seconds)
        print(f"| {label} | {mode} | {a:.3f} | {b:.3f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |", flush=True)


def made_up_labels(args, place):
    """The label map of glia_bench, written by it."""
    stem = str(Path(place) / "labels")
    subprocess.run([args.bench, "--benchmark_filter=^cellpose_seeds"], env={**os.environ, "GLIA_BENCH_SAVE_LABELS": stem}, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    return stem + ".png"


def main():
    if sys.argv[1:2] == ["--worker"]:
        return worker(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glia", default="build/bin/glia")
    parser.add_argument("--bench", default="build/bin/glia_bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=WORK, default=WORK[:4])
    parser.add_argument("--labels", help="a label map (PNG) for targets and dynamics")
    parser.add_argument("--checkpoint", help="of cellpose at its full width, for predict")
    parser.add_argument("--images", help="a folder of PNG images, for predict")
    parser.add_argument("--count", type=int, default=45, help="of these images")
    parser.add_argument("--diameter", type=float, help="of their cells in pixels")
    parser.add_argument("--steps", type=int, default=0, help="along the flows; 0: as many as Cellpose takes, and 200 here")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        args.labels = args.labels or made_up_labels(args, place)
        print("| work | Cellpose's setting | Glia s | Cellpose s | ratio, and its range |\n|---|---|---|---|---|")
        for work in args.only:
            compare(work, args, place)


main()
