#!/usr/bin/env python3
"""Single ops of Glia against PyTorch's, interleaved: ratios of median wall-clock times, and geometric means over convolutions.

    python3 bench/compare_pytorch_ops.py [--bench build/bin/glia_bench] [--rounds 5] [--only conv2d roi_align] [--threads 2]

Needs `pip install torch numpy`, for ROIAlign and NMS torchvision, for masks pycocotools; rows whose package is missing are told. The
rows are those of glia_bench: convolutions of bench/conv_shapes.h forward (fwd) and their gradients of data (dgrad) and weights (wgrad),
2x2 transposed convolutions of stride 2, ROIAlign, NMS, decoding of run-length masks, pooling, bilinear resampling, batch norm. PyTorch runs
as compare_pytorch.py's `tuned`: channels_last, LLVM's OpenMP, jemalloc, huge pages. All is float32; transposed convolutions have a bias on
both sides, others on neither.
"""
import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
import time

from compare_pytorch import tuned_environment

# name of conv_shapes.h: images, channels, height, width, filters, kernel, stride
SHAPES = {
    "unet 3>64 256": (1, 3, 256, 256, 64, 3, 1), "unet 32>32 256": (1, 32, 256, 256, 32, 3, 1),
    "unet 64>64 256": (1, 64, 256, 256, 64, 3, 1), "unet 128>64 256": (1, 128, 256, 256, 64, 3, 1),
    "unet 128>128 128": (1, 128, 128, 128, 128, 3, 1), "unet 256>256 64": (1, 256, 64, 64, 256, 3, 1),
    "unet 512>512 32": (1, 512, 32, 32, 512, 3, 1), "unet 1024>1024 16": (1, 1024, 16, 16, 1024, 3, 1),
    "unet 64>64 256 b5": (5, 64, 256, 256, 64, 3, 1), "unet 512>512 32 b5": (5, 512, 32, 32, 512, 3, 1),
    "unet 1024>1024 16 b5": (5, 1024, 16, 16, 1024, 3, 1), "unet head 64>1": (1, 64, 256, 256, 1, 1, 1),
    "stem 7x7 s2": (1, 3, 800, 1088, 64, 7, 2), "res2 1x1 64>64": (1, 64, 200, 272, 64, 1, 1),
    "res2 1x1 64>256": (1, 64, 200, 272, 256, 1, 1), "res2 1x1 256>64": (1, 256, 200, 272, 64, 1, 1),
    "res2 3x3 64": (1, 64, 200, 272, 64, 3, 1), "res3 3x3 s2 128": (1, 128, 200, 272, 128, 3, 2),
    "res3 1x1 s2 256>512": (1, 256, 200, 272, 512, 1, 2), "res3 1x1 512>128": (1, 512, 100, 136, 128, 1, 1),
    "res3 1x1 128>512": (1, 128, 100, 136, 512, 1, 1), "res3 3x3 128": (1, 128, 100, 136, 128, 3, 1),
    "res4 3x3 s2 256": (1, 256, 100, 136, 256, 3, 2), "res4 1x1 1024>256": (1, 1024, 50, 68, 256, 1, 1),
    "res4 1x1 256>1024": (1, 256, 50, 68, 1024, 1, 1), "res4 3x3 256": (1, 256, 50, 68, 256, 3, 1),
    "res5 3x3 s2 512": (1, 512, 50, 68, 512, 3, 2), "res5 1x1 2048>512": (1, 2048, 25, 34, 512, 1, 1),
    "res5 1x1 512>2048": (1, 512, 25, 34, 2048, 1, 1), "res5 3x3 512": (1, 512, 25, 34, 512, 3, 1),
    "fpn 3x3 256 s4": (1, 256, 200, 272, 256, 3, 1), "fpn 3x3 256 s8": (1, 256, 100, 136, 256, 3, 1),
    "fpn 3x3 256 s32": (1, 256, 25, 34, 256, 3, 1), "mask 3x3 256 14 r128": (128, 256, 14, 14, 256, 3, 1),
}
# of bench_conv.cpp: images, channels, side, results
UPS = {"1024>512 16 b1": (1, 1024, 16, 512), "256>128 64 b1": (1, 256, 64, 128), "128>64 128 b5": (5, 128, 128, 64)}
MAPS = ["(5,256,256,16)", "(5,256,256,64)", "(5,64,64,256)", "(5,16,16,1024)"]
DENSE = ["max_pool_2x2", "batch_norm", "batch_norm_relu"]
HALVES = {"(5,256,256,16)": "(5,128,128,16)", "(5,256,256,64)": "(5,128,128,64)", "(5,64,64,256)": "(5,32,32,256)"}


def rows():
    names = [f"conv2d/{shape}/{work}/cpu" for shape in SHAPES for work in ("fwd", "dgrad", "wgrad")]
    names += [f"conv_transpose2d/{shape}/fwd/cpu" for shape in UPS]
    names += [f"roi_align_{work}/cpu/rois:{r}/size:{s}" for r, s in ((512, 7), (128, 14)) for work in ("forward", "gradient")]
    names += ["nms/10000 boxes, IoU .7/cpu", "rle_decode_500"]
    names += [f"{op}/{m}/{work}/cpu" for op in DENSE for m in MAPS for work in ("forward", "backward")]
    names += [f"bilinear_x2/{m}/{work}/cpu" for m in HALVES.values() for work in ("forward", "backward")]
    return names


def boxes(count, rng, height=800, width=1088, low=16, high=200):
    import numpy as np
    import torch
    size, centre = rng.uniform(low, high, (count, 2)), rng.uniform(0, 1, (count, 2)) * [width, height]
    corners = np.concatenate([centre - size / 2, centre + size / 2], 1).clip(0, [width, height, width, height])
    return torch.from_numpy(corners.astype(np.float32))


def conv_call(shape, work):
    import torch
    n, c, h, w, k, size, stride = SHAPES[shape]
    pad = size // 2
    last = torch.channels_last
    x = torch.randn(n, c, h, w).to(memory_format=last)
    f = torch.randn(k, c, size, size).to(memory_format=last)
    if work == "fwd":
        return lambda: torch.nn.functional.conv2d(x, f, stride=stride, padding=pad)
    dy = torch.randn_like(torch.nn.functional.conv2d(x, f, stride=stride, padding=pad))
    wanted = [work == "dgrad", work == "wgrad", False]
    return lambda: torch.ops.aten.convolution_backward(dy, x, f, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1, wanted)


def up_call(shape):
    import torch
    n, c, side, k = UPS[shape]
    last = torch.channels_last
    x, f = torch.randn(n, c, side, side).to(memory_format=last), torch.randn(c, k, 2, 2).to(memory_format=last)
    bias = torch.randn(k)
    return lambda: torch.nn.functional.conv_transpose2d(x, f, bias, stride=2)


def dense_call(op, shape, work):
    import torch
    import torch.nn.functional as F
    n, h, w, c = map(int, shape.strip("()").split(","))
    x = torch.randn(n, c, h, w).to(memory_format=torch.channels_last).requires_grad_()
    one, zero = torch.ones(c, requires_grad=True), torch.zeros(c, requires_grad=True)
    forward = {"max_pool_2x2": lambda: F.max_pool2d(x, 2),
               "batch_norm": lambda: F.batch_norm(x, None, None, one, zero, True),
               "batch_norm_relu": lambda: F.relu(F.batch_norm(x, None, None, one, zero, True)),
               "bilinear_x2": lambda: F.interpolate(x, scale_factor=2, mode="bilinear")}[op]
    if work == "forward":
        return forward
    y = forward()
    dy = torch.randn_like(y)
    inputs = (x, one, zero) if op.startswith("batch_norm") else (x,)
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def detection_call(name):
    import numpy as np
    import torch
    from torchvision.ops import nms, roi_align
    rng = np.random.default_rng(0)
    if name.startswith("nms"):
        b, scores = boxes(10000, rng), torch.from_numpy(rng.uniform(size=10000).astype(np.float32))
        return lambda: nms(b, scores, 0.7)
    count, size = map(int, re.search(r"rois:(\d+)/size:(\d+)", name).groups())
    x = torch.randn(1, 256, 200, 272, requires_grad=True)
    rois = torch.cat([torch.zeros(count, 1), boxes(count, rng)], 1)
    if "forward" in name:
        return lambda: roi_align(x.detach(), rois, size, 0.25, 0, True)
    y = roi_align(x, rois, size, 0.25, 0, True)
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, x, dy, retain_graph=True)


def mask_call():
    import numpy as np
    from pycocotools import mask
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:520, :704]
    pictures = []
    for _ in range(500):  # ellipses of a cell's size
        cy, cx, a, b = rng.uniform(0, 520), rng.uniform(0, 704), rng.uniform(5, 25), rng.uniform(5, 25)
        pictures.append(((y - cy) ** 2 / a ** 2 + (x - cx) ** 2 / b ** 2 < 1).astype(np.uint8))
    encoded = [mask.encode(np.asfortranarray(p)) for p in pictures]
    return lambda: mask.decode(encoded)


def call_of(name):
    op, rest = name.split("/", 1)
    if op == "conv2d":
        return conv_call(*rest.removesuffix("/cpu").rsplit("/", 1))
    if op == "conv_transpose2d":
        return up_call(rest.split("/")[0])
    if op.startswith("roi") or op == "nms":
        return detection_call(name)
    if op.startswith("rle"):
        return mask_call()
    return dense_call(op, *rest.split("/")[:2])


def worker(threads):
    """For each line of standard input, the name of a row: {milliseconds}, the median of as many calls as take .3 s."""
    import torch
    torch.set_num_threads(threads)
    print(json.dumps({"torch": torch.__version__}), flush=True)
    name, call = None, None
    for line in sys.stdin:
        try:
            if line.strip() != name:
                name, call = line.strip(), None
                call = call_of(name if "/" in name else name + "/")
            call()
            times, end = [], time.perf_counter() + 0.3
            while not times or (time.perf_counter() < end and len(times) < 200):
                start = time.perf_counter()
                call()
                times.append(time.perf_counter() - start)
            print(json.dumps({"milliseconds": 1e3 * statistics.median(times)}), flush=True)
        except ImportError as e:
            print(json.dumps({"missing": str(e)}), flush=True)


def run_glia(bench, name):
    """Milliseconds of wall-clock time that glia_bench measures for this row."""
    escaped = re.sub(r"([][.(){}*+?^$|])", r"\\\1", name)
    output = subprocess.run([bench, f"--benchmark_filter=^{escaped}(/process_time)?(/real_time)?$", "--benchmark_min_time=0.3",
                             "--benchmark_format=json"], check=True, capture_output=True, text=True).stdout
    found = json.loads(output)["benchmarks"]
    if len(found) != 1:
        raise SystemExit(f"glia_bench has {len(found)} benchmarks named {name}")
    return found[0]["real_time"] * {"ns": 1e-6, "us": 1e-3, "ms": 1, "s": 1e3}[found[0]["time_unit"]]


def mean_of(ratios):
    return math.exp(statistics.fmean(map(math.log, ratios)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bin/glia_bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of PyTorch; glia_bench takes all cores")
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="beginnings of rows")
    args = parser.parse_args()
    torch = subprocess.Popen([sys.executable, __file__, "--worker", str(args.threads)], env=tuned_environment(), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    version = json.loads(torch.stdout.readline())["torch"]
    print(f"| op, {args.threads} threads | Glia ms | PyTorch {version} tuned ms | speed (least to most of {args.rounds}) |\n|---|---|---|---|")
    ratios = {}
    for name in [n for n in rows() if n.startswith(tuple(args.only))]:
        glia, other, missing = [], [], None
        for _ in range(args.rounds):
            torch.stdin.write(name + "\n")
            torch.stdin.flush()
            answer = json.loads(torch.stdout.readline())
            missing = answer.get("missing")
            if missing:
                break
            other.append(answer["milliseconds"])
            glia.append(run_glia(args.bench, name))
        if missing:
            print(f"| {name} | | {missing} | |", flush=True)
            continue
        each = [o / g for o, g in zip(other, glia)]
        ratios[name] = statistics.median(each)
        print(f"| {name.replace('/cpu', '')} | {statistics.median(glia):.3f} | {statistics.median(other):.3f} | "
              f"{ratios[name]:.2f} ({min(each):.2f} to {max(each):.2f}) |", flush=True)
    print()
    for work in ("fwd", "dgrad", "wgrad"):
        winograd, rest = [], []
        for name, ratio in ratios.items():
            if name.startswith("conv2d/") and f"/{work}/" in name:
                kernel, stride = SHAPES[name.split("/")[1]][5:]
                (winograd if (kernel, stride) == (3, 1) else rest).append(ratio)
        for title, group in (("3x3 of stride 1", winograd), ("others", rest)):
            if group:
                print(f"{work}, {title}: geometric mean {mean_of(group):.2f} of {len(group)}, least {min(group):.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(int(sys.argv[2]))
    else:
        main()
