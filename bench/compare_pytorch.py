#!/usr/bin/env python3
"""Glia against PyTorch on the same work, interleaved: ratios of median time and of peak memory.

    python3 bench/compare_pytorch.py [--glia build/bin/glia] [--rounds 5] [--seconds 8] [--only train_b5] [--modes default tuned]
    python3 bench/compare_pytorch.py --avx2 ...
    python3 bench/compare_pytorch.py --device cuda [--only train_b16] [--modes tf32 bf16 bf16_compiled]

Needs `pip install torch numpy` (and for `tuned`: Debian's libjemalloc2 and libomp5). The work:
  train_b5, infer_b1, infer_b5      the UNet of recipes/study/unet.toml (zhixuhao's layers), 256x256: a training step (forward, BCE,
                                    backward, Adam), inference; train_b5_recompute: Glia with run.recompute = true
  mask_rcnn_train_NxHxW_gtK         recipes/mask_rcnn_r50_fpn.toml: a training step (SGD) on N images with K ellipses each
  mask_rcnn_infer_HxW_detK          the same network: one image, exactly K detections, pasted
Mask R-CNN is detectron2's where it is installed, else torchvision's (`pip install torchvision`), which differs in details that
hardly change the time but in one: ROIAlign takes 2 x 2 samples a bin, not as many as the bin is wide. Everything is float32.
PyTorch's modes: `default` is what a user gets after torch.set_num_threads; `tuned` is channels_last, fused Adam, LLVM's OpenMP with
pinned threads, jemalloc that keeps its pages, and huge pages. Each round runs every contender once, for --seconds of steps whose median
counts (0: one step), so that a busy moment hits all alike and no single step decides. Memory is the process's peak; of PyTorch's, `base`
is what importing it takes; the last column is all of Glia's over PyTorch's without that. --avx2 keeps both sides to AVX2: GLIA_SIMD, ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA.

With --device cuda the work is the UNet's, in batches of 16 (train_b16, infer_b16), and the modes are precisions: both sides compute in
`tf32` or `bf16` (PyTorch by autocast), PyTorch with channels_last, fused Adam and cuDNN's choice by measurement, `bf16_compiled` with
torch.compile as well. Memory is the most that tensors held on the GPU.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

UNET = {"train_b5": ("train", 5), "train_b5_recompute": ("train", 5), "infer_b1": ("infer", 1), "infer_b5": ("infer", 5)}
# mode, images, height, width, instances or detections
MASK_RCNN = {f"mask_rcnn_train_{n}x{h}x{w}_gt{k}": ("train", n, h, w, k) for n, h, w in ((1, 800, 1088), (2, 512, 704)) for k in (60, 300)}
MASK_RCNN |= {f"mask_rcnn_infer_{h}x{w}_det{k}": ("infer", 1, h, w, k) for h, w in ((800, 1088), (520, 704)) for k in (100, 500)}
WORK = UNET | MASK_RCNN
UNET_CUDA = {"train_b16": ("train", 16), "infer_b16": ("infer", 16)}
MODES = {"cpu": ["default", "tuned"], "cuda": ["tf32", "bf16", "bf16_compiled"]}


def rss(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def unet_step(base, what, batch, mode, device="cpu"):
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            w = [base * 2 ** i for i in range(5)]
            block = lambda a, b: nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(inplace=True),
                                               nn.Conv2d(b, b, 3, padding=1), nn.ReLU(inplace=True))
            self.down = nn.ModuleList(block(a, b) for a, b in zip([1] + w, w))
            self.up = nn.ModuleList(nn.Conv2d(w[i + 1], w[i], 2) for i in reversed(range(4)))
            self.merge = nn.ModuleList(block(2 * w[i], w[i]) for i in reversed(range(4)))
            self.pre = nn.Sequential(nn.Conv2d(w[0], 2, 3, padding=1), nn.ReLU())
            self.head = nn.Conv2d(2, 1, 1)

        def forward(self, x):
            skips = []
            for i, stage in enumerate(self.down):
                x = stage(F.max_pool2d(x, 2) if i else x)
                if i >= 3:
                    x = F.dropout(x, 0.5, self.training)
                skips.append(x)
            for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1])):
                x = F.relu(up(F.pad(F.interpolate(x, scale_factor=2), (0, 1, 0, 1))))
                x = merge(torch.cat([skip, x], 1))
            return self.head(self.pre(x))

    tuned = mode != "default"
    layout = torch.channels_last if tuned else torch.contiguous_format
    module = UNet().to(device, memory_format=layout)
    x = torch.rand(batch, 1, 256, 256).to(device, memory_format=layout)
    y = (torch.rand(batch, 1, 256, 256) > 0.7).float().to(device)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, fused=True if tuned else None)
    net = torch.compile(module) if mode.endswith("compiled") else module
    mixed = torch.autocast(device, dtype=torch.bfloat16, enabled=mode.startswith("bf16"))

    def train():
        module.train()
        optimizer.zero_grad()
        with mixed:
            logits = net(x)
        F.binary_cross_entropy_with_logits(logits.float(), y).backward()
        optimizer.step()

    def infer():
        module.eval()
        with torch.no_grad(), mixed:
            net(x)

    return train if what == "train" else infer


def ellipses(count, h, w, rng):
    """count masks (bool, count x h x w) of 12 to 48 pixels across, as `glia bench step` makes them."""
    import numpy as np
    ys, xs = np.mgrid[:h, :w]
    masks = np.zeros((count, h, w), bool)
    for mask in masks:
        a, b = rng.uniform(6, 24, 2)
        cy, cx = rng.uniform(24, h - 24), rng.uniform(24, w - 24)
        mask |= ((ys - cy) / a) ** 2 + ((xs - cx) / b) ** 2 <= 1
    return masks


def mask_rcnn_step(name, mode):
    import importlib.util
    import numpy as np
    import torch
    what, images, h, w, k = MASK_RCNN[name]
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pictures = [torch.from_numpy(rng.integers(0, 256, (3, h, w)).astype(np.float32)) for _ in range(images)]
    masks = [torch.from_numpy(ellipses(k, h, w, rng)) for _ in range(images)] if what == "train" else []
    detections = k if what == "infer" else 100
    detectron2 = importlib.util.find_spec("detectron2") is not None
    if detectron2:
        from detectron2 import model_zoo
        from detectron2.config import get_cfg
        from detectron2.modeling import build_model
        from detectron2.structures import BitMasks, Instances
        from detectron2.utils.events import EventStorage
        cfg = get_cfg()
        cfg.merge_from_file(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"))
        cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS, cfg.MODEL.ROI_HEADS.NUM_CLASSES = "cpu", "", 3
        cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [128.0] * 3, [64.0] * 3
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST, cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 0.0, 1.0
        cfg.TEST.DETECTIONS_PER_IMAGE = detections
        net = build_model(cfg)
        last_norm = "conv3.norm"
        batch = [{"image": p, "height": h, "width": w} for p in pictures]
        for item, m in zip(batch, masks):
            bits = BitMasks(m)
            item["instances"] = Instances((h, w), gt_boxes=bits.get_bounding_boxes(), gt_masks=bits,
                                          gt_classes=torch.from_numpy(rng.integers(0, 3, len(m))))

        def loss():
            with EventStorage(0):
                return sum(net(batch).values())

        def predict():
            net(batch)
    else:
        from torchvision.models.detection import maskrcnn_resnet50_fpn
        from torchvision.ops import masks_to_boxes
        from torchvision.ops.misc import FrozenBatchNorm2d
        net = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=4, min_size=h, max_size=w, box_score_thresh=0.0,
                                    box_nms_thresh=1.0, box_detections_per_img=detections, trainable_backbone_layers=3,
                                    norm_layer=FrozenBatchNorm2d)
        for part in ("conv1", "layer1"):  # torchvision freezes only where weights are given
            getattr(net.backbone.body, part).requires_grad_(False)
        last_norm = "bn3"
        batch = [p / 255 for p in pictures]
        targets = [{"boxes": masks_to_boxes(m) + torch.tensor([0, 0, 1, 1]), "masks": m.byte(),
                    "labels": torch.from_numpy(rng.integers(1, 4, len(m)))} for m in masks]

        def loss():
            return sum(net(batch, targets).values())

        def predict():
            net(batch)
    for module_name, module in net.named_modules():  # fresh weights let activations grow without bound
        if module_name.endswith(last_norm):
            module.weight.data.fill_(0.3)
    if mode == "tuned":
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1e-5, momentum=0.9, weight_decay=1e-4,
                                fused=True if mode == "tuned" else None)

    def train():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    def infer():
        with torch.no_grad():
            predict()

    net.train(what == "train")
    return train if what == "train" else infer


def cuda_worker(mode, base, name):
    """As torch_worker, but a line is ten steps, and the answer their median."""
    import torch
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    step = unet_step(base, *UNET_CUDA[name], mode, "cuda")
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    print(json.dumps({"ready": torch.__version__}), flush=True)
    for _ in sys.stdin:
        times = []
        for _ in range(10):
            start = time.perf_counter()
            step()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        print(json.dumps({"seconds": statistics.median(times), "peak_mb": torch.cuda.max_memory_allocated() / 2 ** 20, "base_mb": 0}), flush=True)


def torch_worker(mode, base, name, threads):
    """Runs steps for as many seconds as a line of standard input says, at least one; answers with {seconds: their median, peak_mb}."""
    import torch
    torch.set_num_threads(threads)
    base_mb = rss("VmRSS")
    step = unet_step(base, *UNET[name], mode) if name in UNET else mask_rcnn_step(name, mode)
    step()
    print(json.dumps({"ready": torch.__version__}), flush=True)
    for line in sys.stdin:
        times, begin = [], time.perf_counter()
        while not times or time.perf_counter() - begin < float(line):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        print(json.dumps({"seconds": statistics.median(times), "peak_mb": rss("VmHWM"), "base_mb": base_mb}), flush=True)


def tuned_environment():
    found = [sorted(glob.glob(p))[-1:] for p in ("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "/usr/lib/x86_64-linux-gnu/libomp.so.5",
                                                 "/usr/lib/llvm-*/lib/libomp.so*")]
    libraries = [p for group in (found[0], found[1] or found[2]) for p in group]
    return os.environ | {"LD_PRELOAD": ":".join(libraries), "THP_MEM_ALLOC_ENABLE": "1", "KMP_BLOCKTIME": "1",
                         "KMP_AFFINITY": "granularity=fine,compact,1,0", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
                         "MALLOC_CONF": "oversize_threshold:0,background_thread:true,metadata_thp:auto,dirty_decay_ms:-1,"
                                        "muzzy_decay_ms:-1,thp:always"}


def start_torch(mode, base, name, threads, device):
    env = tuned_environment() if mode == "tuned" else dict(os.environ)
    worker = subprocess.Popen([sys.executable, __file__, "--worker", mode, str(base), name, str(threads), device], env=env,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ready = worker.stdout.readline()
    if not ready:
        raise SystemExit(f"PyTorch ({mode}) did not start")
    return worker, json.loads(ready)["ready"]


def run_torch(worker, seconds=0):
    worker.stdin.write(f"{seconds}\n")
    worker.stdin.flush()
    answer = json.loads(worker.stdout.readline())
    return answer["seconds"], answer["peak_mb"], answer["base_mb"]


def glia_arguments(name, base):
    if name in UNET | UNET_CUDA:
        what, batch = (UNET | UNET_CUDA)[name]
        again = ["--set", "run.recompute=true"] if name.endswith("recompute") else []
        return ["study/unet", "--set", f"model.base_channels={base}", *again, "--mode", what, "--size", "256x256", "--batch", str(batch)]
    what, images, h, w, k = MASK_RCNN[name]
    count = ["--instances", str(k)] if what == "train" else ["--detections", str(k)]
    return ["mask_rcnn_r50_fpn", "--mode", what, "--size", f"{h}x{w}", "--batch", str(images), *count]


def bench_step(glia, arguments, threads, seconds):
    """Steps for so many seconds, at least one, after one to warm up: what `glia bench step` writes of them."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([glia, "bench", "step", *arguments, "--seconds", str(seconds), "--threads", str(threads), "--json", out.name, "--quiet"],
                       check=True, stdout=subprocess.DEVNULL)
        return json.load(open(out.name))


def run_glia(glia, base, name, threads, seconds):
    line = bench_step(glia, glia_arguments(name, base), threads, seconds)
    return line["median_s"], line["peak_rss_mb"]


def run_glia_cuda(glia, base, name, mode):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        done = subprocess.run([glia, "bench", "step", *glia_arguments(name, base), "--seconds", "1", "--device", "cuda", "--set",
                               "run.precision=" + mode.removesuffix("_compiled"), "--json", out.name, "--quiet"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SystemExit(f"{glia}: {done.stderr.strip()}")
        line = json.load(open(out.name))
    return line["median_s"], line["peak_device_mb"]


def compare_on_cuda(args):
    try:
        import torch
    except ImportError:
        raise SystemExit("--device cuda: PyTorch is not installed: pip install torch")
    if not torch.cuda.is_available():
        raise SystemExit(f"--device cuda: PyTorch {torch.__version__} sees no GPU: it needs one, its driver, and a build of PyTorch with CUDA")
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}\n")
    print(f"| UNet base {args.base}, 256x256 | precision | Glia ms | Glia MB | PyTorch ms | PyTorch MB | speed | memory |")
    print("|---|---|---|---|---|---|---|---|")
    for name in [n for n in UNET_CUDA if n.startswith(tuple(args.only))]:
        for mode in args.modes:
            worker, _ = start_torch(mode, args.base, name, args.threads, "cuda")
            rounds = [(run_glia_cuda(args.glia, args.base, name, mode), run_torch(worker)) for _ in range(args.rounds)]
            worker.stdin.close()
            worker.wait()
            (gs, gm), (ts, tm, _) = [[statistics.median(column) for column in zip(*side)] for side in zip(*rounds)]
            print(f"| {name} | {mode} | {gs * 1e3:.2f} | {gm:.0f} | {ts * 1e3:.2f} | {tm:.0f} | {ts / gs:.2f} | {gm / tm:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glia", default="build/bin/glia")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8, help="of steps, in each round")
    parser.add_argument("--base", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    names = list(WORK) + list(UNET_CUDA)
    parser.add_argument("--only", nargs="+", default=names, metavar="NAME", help="beginnings of names: " + ", ".join(names))
    parser.add_argument("--modes", nargs="+", choices=sum(MODES.values(), []))
    args = parser.parse_args()
    if args.avx2:
        os.environ.update(GLIA_SIMD="avx2", ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
    args.modes = args.modes or MODES[args.device][:2]
    if wrong := set(args.modes) - set(MODES[args.device]):
        parser.error(f"--modes {' '.join(sorted(wrong))}: on {args.device} there are {', '.join(MODES[args.device])}")
    if args.device == "cuda":
        return compare_on_cuda(args)
    print(f"| UNet base {args.base}; Mask R-CNN; {args.threads} threads | Glia s | Glia MB | against | PyTorch s | PyTorch MB (base) | speed | memory | memory, less base |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in [n for n in WORK if n.startswith(tuple(args.only))]:
        workers = {mode: start_torch(mode, args.base, name, args.threads, "cpu") for mode in args.modes}
        samples = {key: [] for key in ["glia", *args.modes]}
        for _ in range(args.rounds):
            samples["glia"].append(run_glia(args.glia, args.base, name, args.threads, args.seconds))
            for mode, (worker, _) in workers.items():
                samples[mode].append(run_torch(worker, args.seconds))
        median = {key: [statistics.median(column) for column in zip(*rows)] for key, rows in samples.items()}
        for mode, (worker, version) in workers.items():
            worker.stdin.close()
            worker.wait()
            (gs, gm), (ts, tm, tb) = median["glia"], median[mode]
            print(f"| {name} | {gs:.3f} | {gm:.0f} | PyTorch {version} {mode} | {ts:.3f} | {tm:.0f} ({tb:.0f}) | {ts / gs:.2f} | {gm / tm:.2f} | {gm / (tm - tb):.2f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        mode, base, name, threads, device = sys.argv[2:7]
        if device == "cuda":
            cuda_worker(mode, int(base), name)
        else:
            torch_worker(mode, int(base), name, int(threads))
    else:
        main()
