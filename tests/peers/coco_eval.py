"""COCO's numbers of `glia evaluate` against pycocotools on random sets, with LIVECell's protocol too.

Needs numpy and pycocotools; not part of the tests that always run.
usage: coco_eval.py PATH_OF_GLIA [NUMBER_OF_SETS]
"""
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = ("ap", "ap50", "ap75", "aps", "apm", "apl", "ar1", "ar10", "ar100", "ars", "arm", "arl")
PROTOCOLS = {
    "coco": ([1, 10, 100], [[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]]),
    "livecell": ([100, 500, 2000], [[0, 1e10], [0, 324], [324, 961], [961, 1e10]]),
}
HEIGHT, WIDTH = 130, 150


def ellipse(rng, near=None):
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    if near is None:
        near = rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH), *np.exp(rng.uniform(1, 4, 2))
    shape = [v + rng.normal() for v in near] if rng.random() < 0.9 else list(near)
    a, b = max(shape[2], 1.5), max(shape[3], 1.5)
    return ((yy - shape[0]) / a) ** 2 + ((xx - shape[1]) / b) ** 2 <= 1, near


def annotation(mask, image, category):
    runs = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"image_id": image, "category_id": category, "area": int(rle.area(runs)), "bbox": rle.toBbox(runs).tolist(),
            "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()}}


def random_set(rng):
    categories = int(rng.integers(1, 4))
    crowds = 0.1 if rng.random() < 0.5 else 0
    images, truths, detections = [], [], []
    for image in range(1, int(rng.integers(2, 6))):
        images.append({"id": image, "height": HEIGHT, "width": WIDTH, "file_name": f"{image}.png"})
        shapes = []
        for _ in range(int(rng.integers(0, 25))):
            mask, near = ellipse(rng)
            if not mask.any():
                continue
            category = int(rng.integers(1, categories + 1))
            shapes.append((near, category))
            truths.append({**annotation(mask, image, category), "id": len(truths) + 1, "iscrowd": int(rng.random() < crowds)})
        for _ in range(int(rng.integers(0, 150))):
            near, category = shapes[rng.integers(len(shapes))] if shapes and rng.random() < 0.8 else (None, 1)
            mask, _ = ellipse(rng, near)
            if not mask.any():
                continue
            score = round(float(rng.random()), 1 if rng.random() < 0.3 else 9)  # some are equal
            detections.append({**annotation(mask, image, category), "score": score})
    kinds = [{"id": c, "name": f"kind{c}"} for c in range(1, categories + 1)]
    return {"images": images, "annotations": truths, "categories": kinds, "info": {}}, detections


def expected(truth, detections, kind, limits, areas):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        found = [{k: v for k, v in d.items() if k != "bbox" or kind == "bbox"} for d in detections]
        e = COCOeval(coco, coco.loadRes(found), kind)
        e.params.maxDets, e.params.areaRng = limits, areas
        e.evaluate()
        e.accumulate()
    precision, recall = e.eval["precision"], e.eval["recall"]  # (T, R, K, A, M), (T, K, A, M)
    mean = lambda x: float(x[x > -1].mean()) if (x > -1).any() else -1.0
    return ([mean(precision[:, :, :, 0, -1]), mean(precision[0, :, :, 0, -1]), mean(precision[5, :, :, 0, -1])]
            + [mean(precision[:, :, :, a, -1]) for a in (1, 2, 3)] + [mean(recall[:, :, 0, m]) for m in (0, 1, 2)]
            + [mean(recall[:, :, a, -1]) for a in (1, 2, 3)])


def main(glia, sets):
    worst, compared = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for seed in range(sets):
            truth, detections = random_set(np.random.default_rng(seed))
            if not truth["annotations"] or not detections:
                continue
            (folder / "truth.json").write_text(json.dumps(truth))
            (folder / "found.json").write_text(json.dumps(detections))
            for protocol, (limits, areas) in PROTOCOLS.items():
                subprocess.run([glia, "evaluate", "--truth", folder / "truth.json", "--pred", folder / "found.json", "--protocol", protocol,
                                "--json", folder / "scores.json", "--quiet"], check=True, stderr=subprocess.DEVNULL)
                scores = json.loads((folder / "scores.json").read_text())
                for kind in ("segm", "bbox"):
                    for name, want in zip(NAMES, expected(truth, detections, kind, limits, areas)):
                        worst = max(worst, abs(scores[kind][name] - want))
                        compared += 1
                        if abs(scores[kind][name] - want) > 1e-9:
                            sys.exit(f"set {seed}, {protocol}, {kind} {name}: {scores[kind][name]}, pycocotools {want}")
    print(f"{compared} numbers of {sets} sets: largest difference {worst:.1e}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 40)
