"""Networks by hand, whose answers are known."""

import types

import keras
import numpy as np
import pytest
from keras import ops

SIDE = 4
PIXEL = (1, 2)  # the one that a network reads


def linear(kernel, bias=None, shape=(SIDE, SIDE, 1)):
    """Logits x W + b of all pixels."""
    kernel = np.asarray(kernel, "float32")
    dense = keras.layers.Dense(kernel.shape[1])
    inputs = keras.Input(shape)
    features = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, {"logits": dense(features), "features": features})
    dense.set_weights([kernel, np.zeros(kernel.shape[1]) if bias is None else np.asarray(bias)])
    return model


def one_pixel(at=PIXEL, slope=4.0, least=0.5):
    """Two classes: 0 where the pixel is bright, logits slope * (x - least) and 0."""
    kernel = np.zeros((SIDE, SIDE, 2))
    kernel[at] = slope, 0
    return linear(kernel.reshape(-1, 2), [-slope * least, 0])


class Glance(keras.layers.Layer):
    """Attention that goes to one pixel by itself, all of it."""

    def call(self, x):
        place = np.full((SIDE, SIDE, 1), -30.0, "float32")
        place[PIXEL] = 30.0
        scores = ops.reshape(0.0 * x + place, (-1, SIDE * SIDE))
        return ops.reshape(ops.softmax(scores), (-1, SIDE, SIDE))


class Bright(keras.layers.Layer):
    """Attention w = softmax(3 x) over the positions."""

    def call(self, x):
        return ops.reshape(ops.softmax(3 * ops.reshape(x, (-1, SIDE * SIDE))), (-1, SIDE, SIDE))


def attended(layer, size=(SIDE, SIDE)):
    """Local features are the pixels; two classes by the attended one. Input of another `size` is cut to 4 by 4."""
    inputs = keras.Input((*size, 1))
    local = inputs[:, :SIDE, :SIDE]
    weights = layer(local)
    features = ops.sum(weights[..., None] * local, axis=(1, 2))
    logits = keras.layers.Dense(2)(features)
    outputs = {"logits": logits, "features": features, "attention": {"all": weights}, "local_features": {"all": local}}
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="session")
def hand():
    """What makes the networks above."""
    return types.SimpleNamespace(
        linear=linear, one_pixel=one_pixel, attended=attended, Glance=Glance, Bright=Bright, PIXEL=PIXEL, SIDE=SIDE
    )


@pytest.fixture(scope="module")
def pixels():
    """12 images in [0.1, 0.9]; the label is 0 where the pixel that networks read is bright."""
    x = np.random.default_rng(3).uniform(0.1, 0.9, (12, SIDE, SIDE, 1)).astype("float32")
    return x, (x[:, PIXEL[0], PIXEL[1], 0] < 0.5).astype("int32")
