"""Weights that `glia convert` writes, loaded by PyTorch, safetensors, NumPy and detectron2; and PyTorch's, inspected by Glia.

Needs torch, numpy and safetensors, and torchvision and detectron2 for one part each, which says so where it is not there; not part
of the tests that always run.
usage: weights.py PATH_OF_GLIA [FOLDER_OF_SAMPLES]
"""
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

GLIA = sys.argv[1]
SAMPLES = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parents[1] / "fixtures" / "checkpoints"
checks = 0


def glia(*arguments, code=0):
    done = subprocess.run([GLIA, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout


def same(got, want, name):
    global checks
    checks += 1
    assert got.dtype == want.dtype and got.shape == want.shape, (name, got.dtype, want.dtype, got.shape, want.shape)
    assert torch.equal(got.contiguous().view(-1).view(torch.uint8), want.contiguous().view(-1).view(torch.uint8)), name


def same_dict(got, want):
    assert sorted(got) == sorted(want), sorted(set(got) ^ set(want))
    for name in want:
        same(got[name], want[name], name)


def as_numpy(state):  # NumPy has no bfloat16
    return {k: v.float() if v.dtype == torch.bfloat16 else v for k, v in state.items()}


def tensors(arrays):
    return {k: torch.from_numpy(np.array(v, order="C", copy=True).reshape(v.shape)) for k, v in arrays.items()}


def samples(folder):
    for source in ("state_zip.pth", "state_legacy.pth", "mixed.safetensors"):
        want = load_file(SAMPLES / (Path(source).stem + ".expected.safetensors"))
        for ending in ("pth", "safetensors", "pkl", "npz"):
            glia("convert", SAMPLES / source, folder / f"w.{ending}")
        same_dict(torch.load(folder / "w.pth", weights_only=True), want)
        same_dict(load_file(folder / "w.safetensors"), want)
        zoo = pickle.load(open(folder / "w.pkl", "rb"), encoding="latin1")  # as DetectionCheckpointer does
        assert set(zoo) == {"model", "__author__"}
        same_dict(tensors(zoo["model"]), as_numpy(want))
        same_dict(tensors(dict(np.load(folder / "w.npz"))), as_numpy(want))


def pytorch(folder):
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Linear(8, 4)).to(memory_format=torch.channels_last)
    state = net.state_dict()
    state["view"] = state["0.weight"][1:, :, 1]
    want = {k: v.detach().clone().contiguous() for k, v in state.items()}
    save_file(want, folder / "want.safetensors")
    for protocol in (2, 3, 4, 5):
        for zipped in (True, False):
            torch.save(state, folder / "net.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
            assert "0 of" in glia("inspect", folder / "want.safetensors", folder / "net.pth")
            glia("convert", folder / "net.pth", folder / "back.pth")
            net.load_state_dict({k: v for k, v in torch.load(folder / "back.pth", weights_only=True).items() if k != "view"})
    arrays = {k: v.numpy() for k, v in want.items()}
    arrays["big"] = arrays["0.weight"].astype(">f4")
    arrays["fortran"] = np.asfortranarray(arrays["2.weight"])
    save_file(tensors({k: v.astype(v.dtype.newbyteorder("=")) for k, v in arrays.items()}), folder / "want.safetensors")
    for protocol in range(6):
        pickle.dump({"model": arrays, "__author__": "test", "lr": np.float32(0.5)}, open(folder / "net.pkl", "wb"), protocol=protocol)
        glia("convert", folder / "net.pkl", folder / "back.safetensors")
        assert "0 of" in glia("inspect", folder / "want.safetensors", folder / "back.safetensors")
        assert "lr                   0.5" in glia("inspect", folder / "net.pkl")
    np.savez_compressed(folder / "net.npz", **arrays)
    assert "0 of" in glia("inspect", folder / "want.safetensors", folder / "net.npz")


def torchvision_model(folder):
    try:
        import torchvision
    except ImportError:
        print("torchvision is not installed: its Mask R-CNN was not checked")
        return
    for make in (torchvision.models.detection.maskrcnn_resnet50_fpn, torchvision.models.detection.maskrcnn_resnet50_fpn_v2):
        torch.manual_seed(2)
        net = make(weights=None, weights_backbone=None, num_classes=4).eval()
        torch.save(net.state_dict(), folder / "there.pth")
        glia("convert", folder / "there.pth", folder / "here.safetensors", "--names", "detectron2")
        glia("convert", folder / "here.safetensors", folder / "back.pth", "--names", "torchvision")
        image = [torch.rand(3, 120, 160)]
        with torch.no_grad():
            want = net(image)[0]
        other = make(weights=None, weights_backbone=None, num_classes=4).eval()
        other.load_state_dict(torch.load(folder / "back.pth", weights_only=True))
        with torch.no_grad():
            got = other(image)[0]
        same_dict(got, want)  # the exact same detections
        assert len(want["boxes"]) > 0


def detectron2_model(folder):
    try:
        from detectron2 import model_zoo
        from detectron2.checkpoint import DetectionCheckpointer
        from detectron2.config import get_cfg
        from detectron2.modeling import build_model
    except ImportError as e:
        print(f"detectron2 is not installed ({e}): its Mask R-CNN was not checked")
        return
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 3, 0.0

    def detections(net, image):
        with torch.no_grad():
            return {k: getattr(v, "tensor", v) for k, v in net([{"image": image}])[0]["instances"].get_fields().items()}

    def loaded(file):  # into a network of other random weights
        net = build_model(cfg).eval()
        DetectionCheckpointer(net).load(str(file))
        return net

    torch.manual_seed(3)
    net, image = build_model(cfg).eval(), torch.rand(3, 128, 160) * 255
    want = detections(net, image)
    assert len(want["scores"]) > 0
    torch.save({"model": net.state_dict()}, folder / "there.pth")
    glia("convert", folder / "there.pth", folder / "here.safetensors", "--names", "torchvision")
    for ending in ("pkl", "pth"):
        glia("convert", folder / "here.safetensors", folder / f"back.{ending}", "--names", "detectron2")
        same_dict(detections(loaded(folder / f"back.{ending}"), image), want)  # the exact same detections

    # A network that Glia trained is there what it is here.
    settings = ["model.num_classes=3", f"init.weights={folder / 'back.pth'}", "solver.max_iterations=2", "solver.batch_size=1",
                "solver.milestones=[]", "solver.schedule=constant", "data.val_fraction=0.34", "data.workers=0", "eval.every=1000",
                "input.min_size_train=[]", "input.max_size_train=0"]
    glia("synth", "--out", folder / "cells", "--images", 3, "--size", "128x160", "--quiet")
    glia("train", "mask_rcnn_r50_fpn", "--data", folder / "cells", "--out", folder / "run", "--quiet",
         *[part for word in settings for part in ("--set", word)])
    for ending in ("pkl", "safetensors"):
        glia("convert", folder / "run" / "checkpoints" / "last.safetensors", folder / f"trained.{ending}", "--names", "detectron2")
    trained, state = load_file(folder / "trained.safetensors"), loaded(folder / "trained.pkl").state_dict()
    same_dict({k: v for k, v in state.items() if k in trained}, trained)
    assert any(not torch.equal(v, net.state_dict()[k]) for k, v in trained.items())  # it was trained
    constants = ("pixel_", "proposal_generator.anchor_generator.")
    assert all(k.startswith(constants) for k in set(state) - set(trained)), set(state) - set(trained)


with tempfile.TemporaryDirectory() as name:
    samples(Path(name))
    pytorch(Path(name))
    torchvision_model(Path(name))
    detectron2_model(Path(name))
print(f"{checks} tensors are the same to the bit")
