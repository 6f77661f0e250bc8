"""Writes tests/fixtures/mask_scoring.safetensors: the MaskIoU head of Mask Scoring R-CNN (Huang et al., CVPR 2019) by PyTorch's layers in
float64, from the paper's description: predicted IoUs, targets, loss and gradients.

Needs numpy and torch; the tests read the file alone.
usage: make_mask_scoring_fixture.py OUT.safetensors
"""
import json
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

R, C, S, K, CONV, FC = 5, 3, 6, 2, 4, 7  # regions, channels, pooled side, classes, widths of the head


def parameters():
    rng = np.random.default_rng(3)
    shapes = {}
    for i in range(4):
        shapes[f"maskiou_fcn{i + 1}.weight"] = (CONV, C + 1 if i == 0 else CONV, 3, 3)
        shapes[f"maskiou_fcn{i + 1}.bias"] = (CONV,)
    for name, out, inside in (("maskiou_fc1", FC, CONV * 9), ("maskiou_fc2", FC, FC), ("maskiou", K, FC)):
        shapes[name + ".weight"] = (out, inside)
        shapes[name + ".bias"] = (out,)
    return {n: torch.tensor(rng.normal(0, 1.5 / np.sqrt(np.prod(s[1:]) if len(s) > 1 else 25), s).astype(np.float32)).double() for n, s in shapes.items()}


def head(w, pooled, logits, classes):
    x = torch.cat([pooled, F.max_pool2d(torch.sigmoid(logits)[:, None], 2)], 1)
    for i in range(1, 5):
        x = F.relu(F.conv2d(x, w[f"maskiou_fcn{i}.weight"], w[f"maskiou_fcn{i}.bias"], 2 if i == 4 else 1, 1))
    x = x.flatten(1)
    for n in ("maskiou_fc1", "maskiou_fc2"):
        x = F.relu(F.linear(x, w[n + ".weight"], w[n + ".bias"]))
    return F.linear(x, w["maskiou.weight"], w["maskiou.bias"])[torch.arange(len(classes)), classes]


def main(out):
    rng = np.random.default_rng(4)
    pooled = torch.tensor(rng.normal(0, 1, (R, C, S, S)).astype(np.float32)).double()
    yy, xx = np.mgrid[: 2 * S, : 2 * S]
    masks = np.stack([np.hypot(yy - 5 - r % 2, xx - 4 - r) < 3.6 for r in range(R)])
    logits = torch.tensor((np.where(masks, 1.2, -1.2) + rng.normal(0, 1.5, masks.shape)).astype(np.float32)).double()
    logits[4] = -logits[4].abs() - 0.1  # predicts nothing: no IoU, left out of the loss
    targets = torch.tensor(masks).double()
    inside = torch.tensor([1, 0.75, 0.5, 0.9, 1.0], dtype=torch.float64)
    classes = torch.tensor([0, 1, 1, 0, 1])
    w = parameters()
    leaves = {"pooled": pooled, "logits": logits, **{"param." + n: t for n, t in w.items()}}
    for t in leaves.values():
        t.requires_grad_()
    ious = head(w, pooled, logits, classes)
    with torch.no_grad():
        p, g = logits > 0, targets > 0.5
        both = (p & g).sum((1, 2)).double()
        target = both / (p.sum((1, 2)) + g.sum((1, 2)) / inside - both).clamp(min=1)
    some = target > 0
    loss = 0.5 * ((ious - target)[some] ** 2).mean()
    loss.backward()
    tensors = {"in/" + n: t.detach() for n, t in leaves.items()}
    tensors |= {"in/targets": targets, "in/inside": inside, "in/classes": classes}
    tensors |= {"out/ious": ious.detach(), "out/target": target, "out/loss": loss.detach()}
    tensors |= {"gin/" + n: t.grad for n, t in leaves.items()}
    params = dict(mask_conv_dim=CONV, fc_dim=FC, num_classes=K, size=S)
    case = dict(name="maskiou", op="mask_iou_head", params=params, atol=2e-6, rtol=1e-4)
    metadata = {"format": "glia-fixture-1", "source": "torch " + torch.__version__ + " float64", "cases": json.dumps([case])}
    header, data = {"__metadata__": metadata}, b""
    for name, t in tensors.items():
        a = t.numpy() if t.dtype == torch.int64 else t.numpy().astype(np.float32)
        header["maskiou/" + name] = {"dtype": "I64" if a.dtype == np.int64 else "F32", "shape": list(a.shape), "data_offsets": [len(data), len(data) + a.nbytes]}
        data += a.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(out, "wb").write(struct.pack("<Q", len(text)) + text + data)


main(sys.argv[1])
