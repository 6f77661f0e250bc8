#!/usr/bin/env python3
"""Glia against PyTorch on the same work, interleaved: ratios of median time and of peak memory.

    python3 bench/compare_pytorch.py [--glia build/bin/glia] [--rounds 5] [--base 64] [--only train_b5] [--modes default tuned]

Needs `pip install torch numpy` (and for `tuned`: Debian's libjemalloc2 and libomp5). The work is the UNet of recipes/study/unet.toml
(zhixuhao's layers): a training step of batch 5 (forward, BCE, backward, Adam), inference of batch 1 and 5, 256x256, float32.
PyTorch's modes: `default` is what a user gets after torch.set_num_threads; `tuned` is channels_last, fused Adam, LLVM's OpenMP with
pinned threads, jemalloc that keeps its pages, and huge pages. Each round runs every contender once, so that a busy moment hits all
alike. Memory is the process's peak; of PyTorch's, `base` is what importing it takes.
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

WORK = {"train_b5": ("train", 5), "infer_b1": ("infer", 1), "infer_b5": ("infer", 5)}


def rss(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def torch_worker(mode, base, what, batch, threads):
    """Runs one step per line of standard input; answers with {seconds, peak_mb}."""
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    torch.set_num_threads(threads)
    base_mb = rss("VmRSS")

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

    layout = torch.channels_last if mode == "tuned" else torch.contiguous_format
    net = UNet().to(memory_format=layout)
    x = torch.rand(batch, 1, 256, 256).to(memory_format=layout)
    y = (torch.rand(batch, 1, 256, 256) > 0.7).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True if mode == "tuned" else None)

    def train():
        net.train()
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()

    def infer():
        net.eval()
        with torch.no_grad():
            net(x)

    step = train if what == "train" else infer
    step()
    print(json.dumps({"ready": torch.__version__}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(json.dumps({"seconds": time.perf_counter() - start, "peak_mb": rss("VmHWM"), "base_mb": base_mb}), flush=True)


def start_torch(mode, base, what, batch, threads):
    env = dict(os.environ)
    if mode == "tuned":
        found = [sorted(glob.glob(p))[-1:] for p in ("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "/usr/lib/x86_64-linux-gnu/libomp.so.5",
                                                     "/usr/lib/llvm-*/lib/libomp.so*")]
        libraries = [p for group in (found[0], found[1] or found[2]) for p in group]
        env |= {"LD_PRELOAD": ":".join(libraries), "THP_MEM_ALLOC_ENABLE": "1", "KMP_BLOCKTIME": "1",
                "KMP_AFFINITY": "granularity=fine,compact,1,0", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
                "MALLOC_CONF": "oversize_threshold:0,background_thread:true,metadata_thp:auto,dirty_decay_ms:-1,"
                               "muzzy_decay_ms:-1,thp:always"}
    worker = subprocess.Popen([sys.executable, __file__, "--worker", mode, str(base), what, str(batch), str(threads)], env=env,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ready = worker.stdout.readline()
    if not ready:
        raise SystemExit(f"PyTorch ({mode}) did not start")
    return worker, json.loads(ready)["ready"]


def run_torch(worker):
    worker.stdin.write("\n")
    worker.stdin.flush()
    answer = json.loads(worker.stdout.readline())
    return answer["seconds"], answer["peak_mb"], answer["base_mb"]


def run_glia(glia, base, what, batch, threads):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([glia, "bench", "step", "study/unet", "--set", f"model.base_channels={base}", "--mode", what, "--size", "256x256",
                        "--batch", str(batch), "--seconds", "0", "--threads", str(threads), "--json", out.name, "--quiet"], check=True,
                       stdout=subprocess.DEVNULL)
        line = json.load(open(out.name))
    return line["median_s"], line["peak_rss_mb"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glia", default="build/bin/glia")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--base", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--modes", nargs="+", choices=["default", "tuned"], default=["default", "tuned"])
    args = parser.parse_args()
    print(f"| UNet base {args.base}, 256x256, {args.threads} threads | Glia s | Glia MB | against | PyTorch s | PyTorch MB (base) | speed | memory |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.only:
        what, batch = WORK[name]
        workers = {mode: start_torch(mode, args.base, what, batch, args.threads) for mode in args.modes}
        samples = {key: [] for key in ["glia", *args.modes]}
        for _ in range(args.rounds):
            samples["glia"].append(run_glia(args.glia, args.base, what, batch, args.threads))
            for mode, (worker, _) in workers.items():
                samples[mode].append(run_torch(worker))
        median = {key: [statistics.median(column) for column in zip(*rows)] for key, rows in samples.items()}
        for mode, (worker, version) in workers.items():
            worker.stdin.close()
            worker.wait()
            (gs, gm), (ts, tm, tb) = median["glia"], median[mode]
            print(f"| {name} | {gs:.3f} | {gm:.0f} | PyTorch {version} {mode} | {ts:.3f} | {tm:.0f} ({tb:.0f}) | {ts / gs:.2f} | {gm / tm:.2f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        mode, base, what, batch, threads = sys.argv[2:7]
        torch_worker(mode, int(base), what, int(batch), int(threads))
    else:
        main()
