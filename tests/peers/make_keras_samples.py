"""Makes tests/fixtures/keras: a small UNet saved by Keras in both of its HDF5 layouts, its weights as Glia names them, and what it predicts.

Needs keras 3 with any backend, numpy and safetensors.
usage: make_keras_samples.py FOLDER
"""
import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers
from safetensors.numpy import save_file

folder = Path(sys.argv[1])
rng = np.random.default_rng(0)


def conv(channels, kernel):
    return layers.Conv2D(channels, kernel, padding="same", activation="relu")


# The outer convolution of each pair is made first, so that Keras' numbers are not in the order of the model.
image = layers.Input((16, 16, 1))
skip = conv(2, 3)(conv(2, 3)(image))
x = conv(4, 3)(conv(4, 3)(layers.MaxPooling2D()(skip)))
x = layers.concatenate([skip, conv(2, 2)(layers.UpSampling2D()(x))])
x = conv(2, 3)(conv(2, 3)(x))
x = layers.Conv2D(1, 1, activation="sigmoid")(conv(2, 3)(x))
model = keras.Model(image, x)
model.set_weights([rng.normal(0, 0.5, w.shape).astype("float32") for w in model.get_weights()])
model.compile(optimizer="adam", loss="binary_crossentropy")
model.save(folder / "keras_unet.h5")
model.save_weights(folder / "keras_unet.weights.h5")

expected = {"image": rng.random((1, 16, 16, 1)).astype("float32")}
expected["probability"] = np.asarray(model.predict(expected["image"], verbose=0))
for number, layer in enumerate(layer for layer in model.layers if layer.get_weights()):
    name = f"conv2d_{number}" if number else "conv2d"
    kernel, bias = layer.get_weights()
    expected |= {f"{name}.weight": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), f"{name}.bias": bias}
save_file(expected, folder / "keras_unet.expected.safetensors")
