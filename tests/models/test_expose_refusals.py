"""What `expose` refuses: one sentence that says what was expected, what came, what to do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfrobust.models import expose


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def model(*end, size=(8, 8, 3), **kwargs):
    x = inputs = keras.Input(size, **kwargs)
    for layer in end:
        x = layer(x)
    return keras.Model(inputs, x, name="given")


def pooled(*end):
    return model(layers.GlobalAveragePooling2D(), *end)


def two_inputs():
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([a, b], layers.Dense(3)(layers.Flatten()(a + b)))


def two_outputs():
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(inputs)
    return keras.Model(inputs, [layers.Dense(3)(x), layers.Dense(3)(x)])


def residual():
    inputs = keras.Input((8, 8, 3))
    x = layers.Dense(4)(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Add()([x, layers.Dense(4)(x)]))


REFUSED = {
    "no model": (lambda: np.tanh, r"expected a keras.Model\. Received"),
    "subclassed": (
        Subclassed,
        r"expected a functional or Sequential model\. Received: the subclassed model Subclassed",
    ),
    "unbuilt": (lambda: keras.Sequential([layers.Flatten(), layers.Dense(3)]), r"Add keras\.Input.*model\.build"),
    "two inputs": (two_inputs, "one input and one output. Received: 2 inputs and 1 outputs"),
    "two outputs": (two_outputs, "Received: 1 inputs and 2 outputs"),
    "vectors": (
        lambda: model(layers.Dense(3), size=(8,)),
        r"expected images .*Received: an input of shape \(None, 8\)",
    ),
    "integers": (lambda: model(ops.relu, layers.Flatten(), layers.Dense(3), dtype="uint8"), "of floats.*dtype uint8"),
    "channels first": (
        lambda: model(layers.GlobalAveragePooling2D(data_format="channels_first", name="pool"), layers.Dense(3)),
        "expected channels last. Received: the layer 'pool' with data_format='channels_first'",
    ),
    "no dense": (
        lambda: model(layers.DepthwiseConv2D(8), layers.Reshape((3,)), layers.Activation("softmax")),
        r"ends in a Dense layer.*Received: it ends in DepthwiseConv2D -> Reshape -> Activation\(softmax\)\. Put",
    ),
    "subclassed end": (lambda: pooled(Subclassed()), "-> GlobalAveragePooling2D -> Subclassed. Put"),
    "several tensors": (lambda: pooled(layers.Dense(4), lambda z: ops.split(z, 2, axis=-1)[0]), r"Split\. Dropping"),
    "residual": (residual, "it ends in Add"),
    "dense on a map": (lambda: model(layers.GlobalAveragePooling2D(keepdims=True), layers.Dense(3)), r"\(batch, D\)"),
    "relu": (lambda: pooled(layers.Dense(3, activation="relu")), r"-> Dense\(relu\)\. Dropping"),
    "tanh layer": (lambda: pooled(layers.Dense(3), layers.Activation("tanh")), r"-> Activation\(tanh\)\. Dropping"),
    "temperature": (lambda: pooled(layers.Dense(3), lambda z: z / 2.0), r"-> TrueDivide\. Dropping"),
    "two softmaxes": (lambda: pooled(layers.Dense(3, "softmax"), layers.Softmax()), "Softmax. Dropping"),
    "batch norm": (lambda: pooled(layers.Dense(3), layers.BatchNormalization()), "BatchNormalization. Dropping"),
    "dropout": (lambda: pooled(layers.Dense(3), layers.Dropout(0.5)), "Dropout. Dropping"),
    "labels": (lambda: pooled(layers.Dense(3, activation="sigmoid")), "a sigmoid on each of 3 units. Several labels"),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(make, words):
    with pytest.raises(ValueError, match=words):
        expose(make())


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis:UserWarning")
def test_softmax_of_one_unit_is_refused():
    with pytest.raises(ValueError, match="which has 1 unit"):
        expose(pooled(layers.Dense(1, activation="softmax")))


def test_preprocess_must_be_a_layer():
    with pytest.raises(ValueError, match=r"expected a Keras layer or model, such as keras\.layers\.Rescaling"):
        expose(pooled(layers.Dense(3)), preprocess=lambda x: 255 * x)
