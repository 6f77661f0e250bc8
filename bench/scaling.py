#!/usr/bin/env python3
"""How a UNet's step grows with pixels, images and threads: tables, and a picture of the first two.

    python3 bench/scaling.py [--glia build/bin/glia] [--rounds 3] [--base 64] [--threads 2] [--picture docs/scaling.svg]

The UNet of recipes/study/unet.toml, a training step and inference, as `glia bench step` times them after one step to warm up. Each round runs
every size once; figures are medians. Cost that grows as the work does is a flat line: time per pixel, over the median of that.
"""
import argparse
import statistics

from compare_pytorch import bench_step

SIZES = [(side, 1) for side in (128, 256, 512, 1024, 2048)]
BATCHES = [(256, batch) for batch in (1, 2, 4, 8, 16)]
THREADED = {"train": ["study/unet", "--size", "256x256", "--batch", "5", "--mode", "train"],
            "infer": ["study/unet", "--size", "256x256", "--batch", "5", "--mode", "infer"],
            "Mask R-CNN, train": ["mask_rcnn_r50_fpn", "--size", "800x1088", "--batch", "1", "--instances", "60", "--mode", "train"],
            "Mask R-CNN, infer": ["mask_rcnn_r50_fpn", "--size", "800x1088", "--batch", "1", "--detections", "100", "--mode", "infer"]}


def seconds(glia, arguments, threads):
    return bench_step(glia, arguments, threads, 4)["median_s"]


def relative_cost(seconds_of):
    """{(mode, (side, batch)): seconds} -> the same of time per pixel over the mode's median."""
    per_pixel = {(mode, (side, batch)): value / (side ** 2 * batch) for (mode, (side, batch)), value in seconds_of.items()}
    middle = {mode: statistics.median(value for (m, _), value in per_pixel.items() if m == mode) for mode, _ in per_pixel}
    return {(mode, p): value / middle[mode] for (mode, p), value in per_pixel.items()}


def growth(args):
    points = list(dict.fromkeys(SIZES + BATCHES))
    times = {(mode, p): [] for mode in ("train", "infer") for p in points}
    for _ in range(args.rounds):
        for (mode, (side, batch)), list_of_times in times.items():
            list_of_times.append(seconds(args.glia, ["study/unet", "--set", f"model.base_channels={args.base}", "--mode", mode, "--size",
                                                     f"{side}x{side}", "--batch", str(batch)], args.threads))
    seconds_of = {key: statistics.median(values) for key, values in times.items()}
    relative = relative_cost(seconds_of)
    print(f"| UNet base {args.base}, {args.threads} threads | training, s | per pixel | inference, s | per pixel |\n|---|---|---|---|---|")
    for side, batch in points:
        cells = [f"{seconds_of[mode, (side, batch)]:.3f} | {relative[mode, (side, batch)]:.2f}" for mode in ("train", "infer")]
        print(f"| {side}x{side}, batch {batch} | {' | '.join(cells)} |", flush=True)
    return relative


def picture(relative, path):
    """Two panels: time per pixel against the side, and against the batch; a grey band of 10 % about 1."""
    width, height, left, top, low, high = 360, 240, 60, 40, 0.0, 2.0
    colours = {"train": "#0060a8", "infer": "#c05000"}
    names = {"train": "training", "infer": "inference"}
    text = 'font-family="sans-serif" font-size="13"'
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * (width + left) + 40}" height="{height + top + 60}">',
           '<rect width="100%" height="100%" fill="white"/>']
    y_of = lambda v: top + height * (high - min(v, high)) / (high - low)
    for panel, (points, labels, title) in enumerate([(SIZES, [str(s) for s, _ in SIZES], "side of the image (batch 1)"),
                                                     (BATCHES, [str(b) for _, b in BATCHES], "batch (256x256)")]):
        x0 = left + panel * (width + left + 20)
        x_of = lambda i: x0 + 20 + i * (width - 40) / (len(points) - 1)
        out.append(f'<rect x="{x0}" y="{y_of(1.1):.1f}" width="{width}" height="{y_of(0.9) - y_of(1.1):.1f}" fill="#e4e4e4"/>')
        for v in (0, 0.5, 1, 1.5, 2):
            out.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{y_of(v):.1f}" y2="{y_of(v):.1f}" stroke="#d0d0d0"/>')
            out.append(f'<text x="{x0 - 8}" y="{y_of(v) + 5:.1f}" text-anchor="end" {text}>{v:g}</text>')
        for i, label in enumerate(labels):
            out.append(f'<text x="{x_of(i):.1f}" y="{top + height + 20}" text-anchor="middle" {text}>{label}</text>')
        out.append(f'<text x="{x0 + width / 2}" y="{top + height + 42}" text-anchor="middle" {text}>{title}</text>')
        for row, (mode, colour) in enumerate(colours.items()):
            values = [relative[mode, p] for p in points]
            line = " ".join(f"{x_of(i):.1f},{y_of(v):.1f}" for i, v in enumerate(values))
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{x_of(i):.1f}" cy="{y_of(v):.1f}" r="4" fill="{colour}"/>' for i, v in enumerate(values)]
            out.append(f'<text x="{x0 + width - 10}" y="{top + 20 + 18 * row}" text-anchor="end" fill="{colour}" {text}>{names[mode]}</text>')
    out.append(f'<text x="{left}" y="22" {text}>time per pixel, over the median</text></svg>')
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")


def threads(args):
    print(f"\n| step | 1 thread, s | {args.threads} threads, s | efficiency |\n|---|---|---|---|")
    for name, arguments in THREADED.items():
        pairs = [(seconds(args.glia, arguments, 1), seconds(args.glia, arguments, args.threads)) for _ in range(args.rounds)]
        one, many = (statistics.median(column) for column in zip(*pairs))
        print(f"| {name} | {one:.3f} | {many:.3f} | {one / many / args.threads:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glia", default="build/bin/glia")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--picture", default="docs/scaling.svg")
    args = parser.parse_args()
    picture(growth(args), args.picture)
    threads(args)


if __name__ == "__main__":
    main()
