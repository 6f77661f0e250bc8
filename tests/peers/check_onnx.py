"""ONNX files that `glia convert` writes, by onnx's checker and in onnxruntime: the UNets' probabilities against PyTorch's (the
fixtures), and at other sizes the cells and scores of `glia predict`; the features of Mask R-CNN's backbone against detectron2's (the
fixtures) and, at other sizes, torchvision's.

Needs onnx, onnxruntime, numpy, safetensors and Pillow, and torch and torchvision for one part, which says so where they are not
there; not part of the tests that always run.
usage: check_onnx.py PATH_OF_GLIA
"""
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

GLIA = sys.argv[1]
FIXTURES = Path(__file__).parents[1] / "fixtures"
TOLERANCE = 1e-5
NAMES = {"dsb2018": "unet_dsb", "valid": "unet_original", "bilinear": "unet_plus_plus", "transposed": "unet_plus_plus"}
worst = {}


def glia(*arguments, code=0):
    done = subprocess.run([GLIA, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr


def settings(values):
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def close(got, want, name, scale=1.0):
    """Differences in units of `scale`: features are as large as their weights make them."""
    difference = float(np.abs(np.asarray(got, np.float64) - want).max()) / scale
    worst[name] = max(worst.get(name, 0), difference)
    assert difference <= TOLERANCE, (name, difference)


def formula(name, shape, scale, offset, seed):
    """tests/formula_weights.h."""
    golden, mask = 0x9E3779B97F4A7C15, (1 << 64) - 1
    hash_ = 0xCBF29CE484222325
    for byte in name.encode():
        hash_ = (hash_ ^ byte) * 0x100000001B3 & mask
    with np.errstate(over="ignore"):
        index = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
        z = np.uint64((hash_ + seed * golden) & mask) + index * np.uint64(golden)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1
    return (offset + scale * u).astype(np.float32).reshape(shape)


def load_model(file):
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def fixture_settings(case):
    params = case["params"]
    variant = params["variant"]
    plus = case["op"] == "unet_plus_plus"
    name = NAMES.get(variant, f"unet_{variant}") if not plus else "unet_plus_plus"
    values = {"model.name": name, "model.base_channels": params["widths"][0] if plus else params["base"]}
    if name == "unet_keras":
        values["model.head"] = "keras"
    if name in ("unet_milesial", "unet_plus_plus"):
        bilinear = variant == "bilinear" if plus else params["bilinear"]
        values["model.upsample"] = "bilinear" if bilinear else "transposed"
    if plus:
        deep = params["deep_supervision"] if variant == "bilinear" else len(params["heads"]) > 1
        values["model.deep_supervision"] = str(deep).lower()
    return values


def check_fixtures(folder):
    """Weights by formula; the probabilities of evaluation, of float64 PyTorch."""
    for source in ("unet", "unet_plus_plus"):
        with safe_open(FIXTURES / f"{source}.safetensors", "numpy") as file:
            keys = set(file.keys())
            for case in json.loads(file.metadata()["cases"]):
                if "variant" not in case["params"] or case["params"]["variant"] == "valid":
                    continue  # which has two channels, a target that Glia's recipes lack
                of = lambda key: file.get_tensor(f"{case['name']}/{key}")
                want = next(k for k in ("eval_probability", "eval_logits") if f"{case['name']}/out/{k}@val" in keys)
                weights = {n: formula(n, shape, scale, offset, case["seed"]) for n, shape, scale, offset in case["weights"]}
                weights = {n: w.astype(np.int64) if n.endswith("num_batches_tracked") else w for n, w in weights.items()}
                save_file(weights, folder / "weights.safetensors")
                image = of("in/x").astype(np.float32)
                values = {**fixture_settings(case), "data.channels": image.shape[1]}
                glia("convert", folder / "weights.safetensors", folder / "made.safetensors", "--recipe", "unet",
                     *settings(values))
                glia("convert", folder / "made.safetensors", folder / "net.onnx")
                [got] = load_model(folder / "net.onnx").run(None, {"image": image})
                expected = of(f"out/{want}@val").astype(np.float64)
                if want == "eval_logits":
                    expected = 1 / (1 + np.exp(-expected))
                close(got.ravel()[of(f"out/{want}@idx").astype(np.int64).ravel()], expected.ravel(), f"PyTorch, {case['name']}")


def side_of(size, margin, depth):
    """The smallest input of unet_original that gives `size` pixels: every pooling sees an even size."""
    side = size + 2 * margin
    while True:
        s, fits = side, True
        for _ in range(depth):
            fits = fits and s % 2 == 0
            s = (s - 4) // 2
        if fits:
            return side
        side += 1


def check_predict(folder):
    """Freshly drawn networks with weights made larger; two sizes with one file."""
    rng = np.random.default_rng(1)
    depth = 2
    small = {"model.base_channels": 4, "model.depth": depth, "data.normalize": "unit"}
    binary = [
        {"model.name": "unet_keras"}, {"model.name": "unet_keras", "model.head": "keras"}, {"model.name": "unet_dsb"},
        {"model.name": "unet_original"}, {"model.name": "unet_milesial", "model.upsample": "bilinear"},
        {"model.name": "unet_milesial", "model.upsample": "transposed"}, {"model.name": "unet_plus_plus"},
    ]
    border = [{"model.name": "unet_milesial", "model.tile": 0}, {"model.name": "unet_original", "model.tile": 0}]
    glia("synth", "--out", folder / "cells", "--images", 2, "--size", "64x64", "--quiet")
    for number, system in enumerate(binary + border):
        recipe = "unet" if number < len(binary) else "unet_border"
        run = folder / f"run{number}"
        values = {**small, **system, "solver.max_iterations": 6, "eval.pictures": 0}
        if recipe == "unet":
            values["data.image_size"] = 64
        else:  # hardly any border, else there are no seeds of cells this early
            values |= {"solver.max_iterations": 40, "loss.class_weights": "[1, 1, 0.001]"}
        glia("train", recipe, "--data", folder / "cells", "--out", run, *settings(values))
        checkpoint, model = run / "checkpoints/last.safetensors", run / "net.onnx"
        glia("convert", checkpoint, model)
        session = load_model(model)
        for height, width in ((48, 72), (84, 40)):
            name = f"glia predict, {recipe} {' '.join(map(str, system.values()))}"
            compare_with_predict(session, checkpoint, system["model.name"], (height, width), depth, rng, run, name)


def compare_with_predict(session, checkpoint, system, size, depth, rng, run, name):
    height, width = size
    coarse = rng.integers(0, 256, (height // 4, width // 4)).astype(np.uint8)
    pixels = np.kron(coarse, np.ones((4, 4), np.uint8))
    images, out = run / f"images{height}", run / f"found{height}"
    images.mkdir()
    Image.fromarray(pixels).save(images / "one.png")
    x = pixels.astype(np.float32) / np.float32(255)
    if system == "unet_original":
        margin = 2 * (3 * 2**depth - 2)
        after = [side_of(s, margin, depth) - s - margin for s in size]
        x = np.pad(x, ((margin, after[0]), (margin, after[1])), mode="reflect")
    [probability] = session.run(None, {"image": x[None, None]})
    probability = probability[0, :, :height, :width].astype(np.float64)
    foreground = probability[0] if len(probability) == 1 else 1 - probability[0]
    options = settings({"data.image_size": f"[{height}, {width}]"}) if len(probability) == 1 else []
    threshold = float(np.median(foreground))
    options += settings({"model.threshold": threshold, "model.min_size": 0})
    if len(probability) > 1:
        options += settings({"model.seed_threshold": float(np.quantile(probability[1], 0.7)), "model.seed_size": 1})
    glia("predict", checkpoint, "--images", images, "--out", out, "--write", "labels,cells", *options)
    labels = np.array(Image.open(next((out / "labels").iterdir())))
    assert labels.shape == size and labels.max() > 0, (name, labels.shape, labels.max())
    if len(probability) == 1:
        clear = np.abs(foreground - threshold) > TOLERANCE
        assert np.array_equal((labels > 0)[clear], (foreground > threshold)[clear]), name
    rows = list(csv.DictReader(open(out / "cells.csv")))
    assert len(rows) == labels.max(), (name, len(rows), labels.max())
    for row in rows:
        inside = labels == int(row["instance"])
        close(float(row["score"]), foreground[inside].mean(), name)


BACKBONE_KEYS = {"DEPTH": "depth", "STEM_OUT_CHANNELS": "stem_channels", "RES2_OUT_CHANNELS": "res2_channels",
                 "WIDTH_PER_GROUP": "width_per_group", "STRIDE_IN_1X1": "stride_in_1x1"}


def backbone_checkpoint(folder, number, values, weights=None):
    """A Mask R-CNN with small heads after one small step; `weights` replace its own."""
    run, data = folder / f"backbone{number}", folder / "one_class"
    if not data.exists():
        glia("synth", "--out", data, "--images", 2, "--size", "64x64", "--classes", 1, "--quiet")
    values = {"roi_heads.box_fc_dim": 8, "roi_heads.mask_conv_dim": 8, "input.crop": 64, "eval.pictures": 0, **values}
    glia("train", "mask_rcnn_cells", "--data", data, "--out", run, *settings(values), "--set", "solver.max_iterations=1",
         "--set", "solver.lr=1e-6", "--set", "solver.batch_size=1")
    checkpoint = run / "checkpoints/last.safetensors"
    if weights:
        glia("convert", checkpoint, folder / "all.safetensors")
        merged = load_file(folder / "all.safetensors")
        assert set(weights) <= set(merged), sorted(set(weights) - set(merged))
        save_file(merged | weights, folder / "merged.safetensors")
        checkpoint = folder / "made.safetensors"
        glia("convert", folder / "merged.safetensors", checkpoint, "--recipe", "mask_rcnn_cells", *settings(values),
             "--set", "model.num_classes=1", "--set", 'data.classes=["cell"]')
    glia("convert", checkpoint, folder / "net.onnx")
    return checkpoint, load_model(folder / "net.onnx")


def check_backbone_fixtures(folder):
    """Weights by formula; the features of detectron2."""
    with safe_open(FIXTURES / "mask_rcnn_backbone.safetensors", "numpy") as file:
        keys = set(file.keys())
        for number, case in enumerate(json.loads(file.metadata()["cases"])):
            config = case["params"]["config"]
            of = lambda key: file.get_tensor(f"{case['name']}/{key}")
            values = {f"backbone.{ours}": str(config[f"MODEL.RESNETS.{theirs}"]).lower() for theirs, ours in BACKBONE_KEYS.items()}
            values |= {"backbone.fpn_channels": config["MODEL.FPN.OUT_CHANNELS"], "backbone.norm": "frozen_bn"}
            weights = {n: formula(n, shape, scale, offset, case["seed"]) for n, shape, scale, offset in case["weights"]}
            _, session = backbone_checkpoint(folder, number, values, weights)
            mean, deviation = (np.array(config[f"MODEL.PIXEL_{k}"], np.float32)[:, None, None] for k in ("MEAN", "STD"))
            image = ((of("in/image").astype(np.float32) - mean) / deviation)[None]
            for level, got in zip(range(2, 7), session.run(None, {"image": image})):
                key = f"out/p{level}"
                want, at = (of(key + "@val"), of(key + "@idx")) if f"{case['name']}/{key}@val" in keys else (of(key), None)
                got = got.ravel() if at is None else got.ravel()[at.astype(np.int64).ravel()]
                want = want.astype(np.float64).ravel()
                close(got, want, f"detectron2, {case['name']}", np.abs(want).max())


def check_backbone_torchvision(folder):
    """Norms with statistics of their own; several sizes and images with one file."""
    try:
        import torch
        import torchvision
    except ImportError:
        print("torch or torchvision is not installed: the backbone was not compared with torchvision's")
        return
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    rng = np.random.default_rng(2)
    norms = {"bn": torch.nn.BatchNorm2d, "gn": lambda channels: torch.nn.GroupNorm(32, channels)}
    for norm, layer in norms.items():
        values = {"backbone.stride_in_1x1": "false", "backbone.norm": norm, "roi_heads.box_fc_dim": 1024, "roi_heads.mask_conv_dim": 256}
        checkpoint, session = backbone_checkpoint(folder, norm, values)
        glia("convert", checkpoint, folder / "net.pth", "--names", "torchvision")
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=layer).eval()
        state = torch.load(folder / "net.pth", weights_only=True)
        backbone.load_state_dict({k.removeprefix("backbone."): v for k, v in state.items() if k.startswith("backbone.")})
        for shape in ((1, 3, 64, 96), (2, 3, 160, 32)):
            image = rng.normal(size=shape).astype(np.float32)
            with torch.no_grad():
                want = [level.numpy() for level in backbone(torch.from_numpy(image)).values()]
            for got, level in zip(session.run(None, {"image": image}), want, strict=True):
                assert got.shape == level.shape, (got.shape, level.shape)
                close(got, level.astype(np.float64), f"torchvision, backbone of {norm}", np.abs(level).max())


with tempfile.TemporaryDirectory() as scratch:
    check_backbone_fixtures(Path(scratch))
    check_backbone_torchvision(Path(scratch))
    check_fixtures(Path(scratch))
    check_predict(Path(scratch))
for name, difference in worst.items():
    print(f"{difference:.1e}  {name}")
print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}: {len(worst)} networks agree to {TOLERANCE}")
