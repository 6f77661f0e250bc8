"""Files that `glia convert` writes for Keras, loaded by Keras into UNets of its own: the same probabilities, in Keras and in onnxruntime
on the ONNX file of the same checkpoint.

Needs keras 3 with any backend, h5py, onnxruntime, numpy and safetensors; not part of the tests that always run.
usage: check_keras.py PATH_OF_GLIA
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import keras
import numpy as np
import onnxruntime
from keras import layers
from safetensors.numpy import load_file

GLIA = sys.argv[1]
TOLERANCE = 1e-5


def glia(*arguments, code=0):
    done = subprocess.run([GLIA, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr


def unet_keras(base, depth):
    """zhixuhao's, the study's: 3x3 twice per level, 2x2 after upsampling, 3x3 with 2 channels and 1x1 at the end."""
    def conv(x, channels, kernel):
        return layers.Conv2D(channels, kernel, padding="same", activation="relu")(x)

    image = x = layers.Input((None, None, 1))
    skips = []
    for level in range(depth + 1):
        x = layers.MaxPooling2D()(x) if level else x
        x = conv(conv(x, base << level, 3), base << level, 3)
        skips.append(x)
    skips.pop()
    for level in reversed(range(depth)):
        x = layers.concatenate([skips.pop(), conv(layers.UpSampling2D()(x), base << level, 2)])
        x = conv(conv(x, base << level, 3), base << level, 3)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(conv(x, 2, 3)))


def unet_dsb(base, depth):
    """keras-unet of the Data Science Bowl 2018: ELU, transposed 2x2 on the way up."""
    def pair(x, channels):
        for _ in range(2):
            x = layers.Conv2D(channels, 3, padding="same", activation="elu")(x)
        return x

    image = x = layers.Input((None, None, 1))
    skips = []
    for level in range(depth + 1):
        x = pair(layers.MaxPooling2D()(x) if level else x, base << level)
        skips.append(x)
    skips.pop()
    for level in reversed(range(depth)):
        x = layers.concatenate([layers.Conv2DTranspose(base << level, 2, strides=2)(x), skips.pop()])
        x = pair(x, base << level)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


def check(folder, name, make, base, depth, head):
    settings = [f"--set=model.{k}={v}" for k, v in (("name", name), ("base_channels", base), ("depth", depth), ("head", head))]
    run = folder / name
    glia("train", "unet", "--data", folder / "cells", "--out", run, *settings, "--set", "solver.max_iterations=3",
         "--set", "data.image_size=32", "--set", "eval.pictures=0")
    checkpoint = run / "checkpoints" / "last.safetensors"
    file = folder / f"{name}.weights.h5"
    glia("convert", checkpoint, file)
    keras.utils.set_random_seed(1)
    first = make(base, depth)  # layers of a later model of a process have higher numbers
    second = make(base, depth)
    image = np.random.default_rng(depth).random((2, 32, 48, 1)).astype("float32")
    before = first.predict(image, verbose=0)
    for model in (first, second):
        model.load_weights(file)
    got = first.predict(image, verbose=0)
    assert (got == second.predict(image, verbose=0)).all() and np.abs(got - before).max() > 1e-3
    glia("convert", checkpoint, folder / "net.onnx")
    session = onnxruntime.InferenceSession(str(folder / "net.onnx"), providers=["CPUExecutionProvider"])
    [want] = session.run(None, {"image": image.transpose(0, 3, 1, 2)})
    difference = float(np.abs(got.transpose(0, 3, 1, 2) - want).max())
    assert difference <= TOLERANCE, (name, difference)
    # and what Keras saves of it is the checkpoint again, to the bit
    second.save_weights(folder / "back.weights.h5")
    glia("convert", folder / "back.weights.h5", folder / "back.safetensors", "--recipe", "unet", *settings)
    want, back = (load_file(f) for f in (checkpoint, folder / "back.safetensors"))
    names = [n for n in want if not n.startswith(("optimizer.", "ema."))]
    assert names and all(np.array_equal(want[n], back[n]) for n in names)
    print(f"{name}: {len(names)} tensors; probabilities within {difference:.1e}")


def check_many(folder):
    """As many layers as fill several nodes of a group's tree, and a library that adds to the file."""
    weights = {f"conv2d_{i}.weight" if i else "conv2d.weight": np.full((1, 2, 3, 1), i, "float32") for i in range(300)}
    np.savez(folder / "many.npz", **weights)
    file = folder / "many.weights.h5"
    glia("convert", folder / "many.npz", file)
    with h5py.File(file, "a") as h:
        assert len(h["layers"]) == 300
        for i in range(300):
            assert (h[f"layers/conv2d_{i}/vars/0" if i else "layers/conv2d/vars/0"][()] == i).all()
        for i in range(100):
            h.create_dataset(f"layers/dense_{i}/vars/0", data=np.zeros((2, 3), "float32"))
    assert "400 tensors" in glia("inspect", file)


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    glia("synth", "--out", folder / "cells", "--images", 6, "--size", "64x64", "--quiet")
    check(folder, "unet_keras", unet_keras, 4, 4, "keras")
    check(folder, "unet_dsb", unet_dsb, 4, 4, "direct")
    check_many(folder)
