"""ResNets, the pre-activation ResNet and Wide ResNets: sizes by hand, every block against plain arithmetic."""

import collections
import inspect
import itertools
import re

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfrobust import models
from tfrobust.models.blocks import convolution
from tfrobust.models.graph import Step

X = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3)).astype("float32")
NARROW = {"depth": 10, "width": 1}


def conv(size, inputs, outputs):
    return size * size * inputs * outputs


def norm(channels):
    return 2 * channels  # gamma, beta


def basic(inputs, outputs):
    shortcut = conv(1, inputs, outputs) + norm(outputs) if inputs != outputs else 0
    return conv(3, inputs, outputs) + norm(outputs) + conv(3, outputs, outputs) + norm(outputs) + shortcut


def bottleneck(inputs, outputs):
    inner = outputs // 4
    shortcut = conv(1, inputs, outputs) + norm(outputs) if inputs != outputs else 0
    body = conv(1, inputs, inner) + conv(3, inner, inner) + 2 * norm(inner) + conv(1, inner, outputs) + norm(outputs)
    return body + shortcut


def preactivated(inputs, outputs):
    shortcut = conv(1, inputs, outputs) if inputs != outputs else 0
    return norm(inputs) + conv(3, inputs, outputs) + norm(outputs) + conv(3, outputs, outputs) + shortcut


def stages(block, stem, widths, counts):
    total, channels = 0, stem
    for width, count in zip(widths, counts, strict=True):
        total += block(channels, width) + (count - 1) * block(width, width)
        channels = width
    return total


def resnet(block, expansion, counts, classes=10):
    widths = [w * expansion for w in (64, 128, 256, 512)]
    return conv(3, 3, 64) + norm(64) + stages(block, 64, widths, counts) + widths[-1] * classes + classes


def wide(depth, width, classes=10):
    widths, n = [16 * width, 32 * width, 64 * width], (depth - 4) // 6
    blocks = stages(preactivated, 16, widths, (n, n, n))
    return conv(3, 3, 16) + blocks + norm(widths[-1]) + widths[-1] * classes + classes


# By hand, and as published.
SIZES = {
    "resnet18": (resnet(basic, 1, (2, 2, 2, 2)), 11_173_962),
    "resnet34": (resnet(basic, 1, (3, 4, 6, 3)), 21_282_122),
    "resnet50": (resnet(bottleneck, 4, (3, 4, 6, 3)), 23_520_842),
    "resnet101": (resnet(bottleneck, 4, (3, 4, 23, 3)), 42_512_970),
    # The one published without the last BatchNorm, and the last BatchNorm.
    "preact_resnet18": (
        conv(3, 3, 64) + stages(preactivated, 64, (64, 128, 256, 512), (2, 2, 2, 2)) + norm(512) + 512 * 10 + 10,
        11_171_146 + norm(512),
    ),
    "wrn_28_10": (wide(28, 10), 36_479_194),
    "wrn_34_10": (wide(34, 10), 46_160_474),
    "wrn_40_10": (wide(40, 10), 55_841_754),
}


def arrays(outputs):
    return {name: ops.convert_to_numpy(tensor) for name, tensor in outputs.items()}


def of_type(classifier, kind):
    """The layers of a type, in the order in which they were made."""
    found = [layer for layer in classifier.layers if isinstance(layer, kind)]
    return sorted(found, key=lambda layer: int(re.search(r"\d*$", layer.name)[0] or 0))


def settle(classifier):
    """Other numbers in every BatchNorm and the head's bias than the first ones, so that a lost one shows."""
    rng = np.random.default_rng(1)
    for layer in of_type(classifier, layers.BatchNormalization):
        layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    head = classifier.get_layer("head")
    head.set_weights([w + rng.normal(0, 0.1, w.shape) for w in head.get_weights()])
    return classifier


@pytest.mark.parametrize(("by_hand", "published"), SIZES.values(), ids=SIZES)
def test_published_sizes_by_hand(by_hand, published):
    # `test_models.py` finds the published ones in the networks themselves.
    assert by_hand == published


@pytest.mark.parametrize(
    ("name", "options", "by_hand"),
    [
        ("resnet18", {"classes": 100}, resnet(basic, 1, (2, 2, 2, 2), 100)),
        ("resnet50", {"classes": 3}, resnet(bottleneck, 4, (3, 4, 6, 3), 3)),
        ("preact_resnet18", {}, SIZES["preact_resnet18"][0]),
        ("wide_resnet", {"depth": 10, "width": 1}, wide(10, 1)),
        ("wide_resnet", {"depth": 16, "width": 4, "classes": 7}, wide(16, 4, 7)),
    ],
)
def test_trainable_numbers(name, options, by_hand):
    classifier = models.get(name, **options)
    assert sum(int(np.prod(v.shape)) for v in classifier.trainable_variables) == by_hand


@pytest.mark.parametrize("name", ["resnet18", "preact_resnet18", "wide_resnet"])
def test_signed_map_averages_to_the_logits(name):
    options = NARROW if name == "wide_resnet" else {}
    classifier = settle(models.get(name, head={"name": "dense", "form": "signed"}, **options))
    outputs = arrays(classifier(X))
    bias = ops.convert_to_numpy(classifier.get_layer("head").dense.bias)
    assert np.abs(bias).min() > 0
    np.testing.assert_allclose(outputs["cam"].mean((1, 2)) + bias, outputs["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "preact_resnet18", "wide_resnet"])
def test_cosine_head_other_classes_and_sizes(name):
    options = {"depth": 16, "width": 2, "dropout": 0.1} if name == "wide_resnet" else {}
    classifier = models.get(name, input_shape=(17, 8, 1), classes=3, head={"name": "cosine", "scale": 8.0}, **options)
    outputs = arrays(classifier(X[:, :17, :8, :1]))
    width = {"resnet50": 2048, "wide_resnet": 128}.get(name, 512)
    # Every stride rounds up: 17 -> 9 -> 5 -> 3, 8 -> 4 -> 2 -> 1.
    rows, columns = (5, 2) if name == "wide_resnet" else (3, 1)
    shapes = {"logits": (3,), "features": (width,), "feature_map": (rows, columns, width), "cosine": (3,)}
    assert {key: value.shape[1:] for key, value in outputs.items()} == shapes
    np.testing.assert_allclose(outputs["logits"], 8 * outputs["cosine"], rtol=1e-5)
    assert (outputs["features"] >= 0).all()


def test_named_wide_resnets_are_the_general_one():
    def defaults(factory):
        return {p.name: p.default for p in inspect.signature(factory).parameters.values()}

    general = defaults(models.wide_resnet)
    assert (general.pop("depth"), general.pop("width")) == (28, 10)
    assert defaults(models.wrn_28_10) == defaults(models.wrn_34_10) == general
    assert defaults(models.wrn_40_10) == {**general, "dropout": 0.2}


def test_kernels_of_every_block():
    def kernels(name):
        found = of_type(models.get(name), layers.Conv2D)
        assert not any(layer.use_bias for layer in found)
        return collections.Counter(layer.kernel.shape for layer in found)

    stem, widths = {(3, 3, 3, 64): 1}, (64, 128, 256, 512)
    first = {(3, 3, a, b): 1 for a, b in itertools.pairwise(widths)}
    shortcuts = {(1, 1, a, b): 1 for a, b in itertools.pairwise(widths)}
    inner = {(3, 3, w, w): 3 for w in widths} | {(3, 3, 64, 64): 4}
    assert kernels("resnet18") == kernels("preact_resnet18") == collections.Counter(stem | first | shortcuts | inner)
    down = {(1, 1, 64, 64): 1, (1, 1, 256, 64): 2, (1, 1, 256, 128): 1, (1, 1, 512, 128): 3, (1, 1, 512, 256): 1}
    down |= {(1, 1, 1024, 256): 5, (1, 1, 1024, 512): 1, (1, 1, 2048, 512): 2}
    middle = {(3, 3, 64, 64): 3, (3, 3, 128, 128): 4, (3, 3, 256, 256): 6, (3, 3, 512, 512): 3}
    # A stage's last convolutions, one a block; the first stage's shortcut is of the same shape, 64 to 256.
    up = {(1, 1, 64, 256): 3 + 1, (1, 1, 128, 512): 4, (1, 1, 256, 1024): 6, (1, 1, 512, 2048): 3}
    across = {(1, 1, 256, 512): 1, (1, 1, 512, 1024): 1, (1, 1, 1024, 2048): 1}
    assert kernels("resnet50") == collections.Counter(stem | down | middle | up | across)


class Plain:
    """The network again, in plain arithmetic: takes the weights of the classifier's layers in the order of making."""

    def __init__(self, classifier):
        self.kernels = iter(of_type(classifier, layers.Conv2D))
        self.norms = iter(of_type(classifier, layers.BatchNormalization))
        self.slope = 0.1 if of_type(classifier, layers.LeakyReLU) else 0.0

    def conv(self, x, strides=1):
        kernel = ops.convert_to_numpy(next(self.kernels).kernel)
        p = kernel.shape[0] // 2
        x = np.pad(x, [(0, 0), (p, p), (p, p), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::strides, ::strides]
        return np.einsum("bhwcij,ijco->bhwo", windows, kernel, optimize=True)

    def norm(self, x):
        gamma, beta, mean, variance = next(self.norms).get_weights()
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta

    def act(self, x):
        return np.maximum(x, self.slope * x)

    def basic(self, x, strides, change):
        y = self.act(self.norm(self.conv(x, strides)))
        y = self.norm(self.conv(y))
        return self.act(y + (self.norm(self.conv(x, strides)) if change else x))

    def bottleneck(self, x, strides, change):
        y = self.act(self.norm(self.conv(x)))
        y = self.act(self.norm(self.conv(y, strides)))
        y = self.norm(self.conv(y))
        return self.act(y + (self.norm(self.conv(x, strides)) if change else x))

    def preactivated(self, x, strides, change):
        a = self.act(self.norm(x))
        shortcut = self.conv(a, strides) if change else x
        return shortcut + self.conv(self.act(self.norm(self.conv(a, strides))))


PLAIN = {
    "resnet18": ("basic", (2, 2, 2, 2), {}),
    "resnet50": ("bottleneck", (3, 4, 6, 3), {}),
    "preact_resnet18": ("preactivated", (2, 2, 2, 2), {}),
    "wide_resnet": ("preactivated", (2, 2, 2), {"depth": 16, "width": 2, "activation": "leaky_relu", "dropout": 0.3}),
}


@pytest.mark.parametrize("name", PLAIN)
def test_against_plain_arithmetic(name):
    block, counts, options = PLAIN[name]
    classifier = settle(models.get(name, input_shape=(10, 16, 3), **options))
    x, plain = X[:1, :10, :16], Plain(classifier)
    y = plain.conv(x.astype("float64"))
    y = plain.act(plain.norm(y)) if name in ("resnet18", "resnet50") else y
    for stage, count in enumerate(counts):
        for i in range(count):
            # The first block of a stage changes the width, but the first of all where the stem has it already.
            change = i == 0 and (stage > 0 or name in ("resnet50", "wide_resnet"))
            y = getattr(plain, block)(y, 2 if stage > 0 and i == 0 else 1, change)
    y = plain.act(plain.norm(y)) if block == "preactivated" else y
    assert next(plain.kernels, None) is None and next(plain.norms, None) is None
    outputs = arrays(classifier(x))
    np.testing.assert_allclose(outputs["feature_map"], y, rtol=1e-3, atol=1e-3 * np.abs(y).max())
    kernel, bias = classifier.get_layer("head").get_weights()
    expected = y.mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_strided_convolutions_stand_on_the_pixels_of_the_shortcut():
    for size in ((8, 8), (9, 7)):
        inputs = keras.Input((*size, 1))
        network = keras.Model(inputs, [convolution(inputs, 1, 3, strides=2), convolution(inputs, 1, 1, strides=2)])
        middle = np.zeros((3, 3, 1, 1), "float32")
        middle[1, 1] = 1.0
        network.set_weights([w if (w := k).shape[0] == 1 else middle for k in network.get_weights()])
        one = next(k for k in network.get_weights() if k.shape[0] == 1)
        x = X[:, : size[0], : size[1], :1]
        wide_one, narrow_one = (ops.convert_to_numpy(t) for t in network(x))
        np.testing.assert_allclose(wide_one, x[:, ::2, ::2], rtol=1e-6)
        np.testing.assert_allclose(narrow_one, x[:, ::2, ::2] * one, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "variance"),
    [
        ("resnet18", {}, lambda k: 1 / (3 * k[0] * k[1] * k[2])),
        ("preact_resnet18", {}, lambda k: 1 / (3 * k[0] * k[1] * k[2])),
        ("wide_resnet", {"depth": 16, "width": 4}, lambda k: 2 / (k[0] * k[1] * k[3])),
        ("cnn_b", {}, lambda k: 2 / (k[0] * k[1] * k[2])),
    ],
)
def test_how_kernels_start(name, options, variance):
    kernels = [ops.convert_to_numpy(layer.kernel) for layer in of_type(models.get(name, **options), layers.Conv2D)]
    for kernel in kernels:
        # The deviation of a variance estimated from n normal numbers is sqrt(2 / n) of it; five of those.
        assert abs(kernel.var() / variance(kernel.shape) - 1) < 5 * np.sqrt(2 / kernel.size)
    firsts = [kernel.ravel()[:2].tobytes() for kernel in kernels]
    assert len(set(firsts)) == len(kernels)  # an initializer shared by layers would repeat itself


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_dropout_lies_between_the_two_convolutions(rate):
    classifier = models.get("wide_resnet", input_shape=(8, 8, 3), depth=16, width=1, dropout=rate)
    found = of_type(classifier, layers.Dropout)
    assert len(found) == (6 if rate else 0)
    for layer in found:
        assert layer.rate == rate
        assert isinstance(Step.of(layer.input).operation, layers.ReLU)
        after = [c for c in of_type(classifier, layers.Conv2D) if c.input is layer.output]
        assert [(c.kernel_size, c.strides) for c in after] == [((3, 3), (1, 1))]
    for training in (False, True):
        one, two = (ops.convert_to_numpy(classifier(X[:, :8, :8], training=training)["logits"]) for _ in range(2))
        assert (np.abs(one - two).max() > 1e-4) == (training and rate > 0)


def test_leaky_relu_throughout():
    leaky = models.get("wide_resnet", activation="leaky_relu", **NARROW)
    assert not of_type(leaky, layers.ReLU)
    assert {layer.negative_slope for layer in of_type(leaky, layers.LeakyReLU)} == {0.1}
    assert len(of_type(leaky, layers.LeakyReLU)) == 2 * 3 + 1
    assert ops.convert_to_numpy(leaky(X)["feature_map"]).min() < 0
    assert ops.convert_to_numpy(models.get("wide_resnet", **NARROW)(X)["feature_map"]).min() == 0


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"input_shape": (8, 8, 3)}),
        ("preact_resnet18", {"input_shape": (8, 8, 3), "head": "cosine"}),
        ("wide_resnet", {"depth": 16, "width": 4, "dropout": 0.2, "activation": "leaky_relu"}),
    ],
)
def test_file_round_trip(name, options, tmp_path):
    classifier = settle(models.get(name, **options))
    x = X[:, : classifier.input_shape[1], : classifier.input_shape[2]]
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    expected, received = arrays(classifier(x)), arrays(loaded(x))
    assert list(expected) == list(received)
    for key in expected:
        np.testing.assert_array_equal(expected[key], received[key])
    assert models.expose(loaded) is loaded


@pytest.mark.parametrize(
    ("name", "head"), [("resnet18", "dense"), ("preact_resnet18", "cosine"), ("wide_resnet", "dense")]
)
def test_mixed_precision_gives_float32_logits(name, head):
    keras.config.set_dtype_policy("mixed_bfloat16")
    classifier = models.get(name, input_shape=(8, 8, 3), head=head, **(NARROW if name == "wide_resnet" else {}))
    assert classifier.output["feature_map"].dtype == "bfloat16"
    logits = classifier(X[:, :8, :8])["logits"]
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    assert np.isfinite(ops.convert_to_numpy(logits)).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 27}, r"`depth`: expected 6n \+ 4.*the nearest are 22 and 28\. Received: depth=27"),
        ({"depth": 4}, r"Invalid value for `depth`: expected an integer of at least 10\. Received: 4"),
        ({"depth": 28.0}, "`depth`"),
        ({"width": 0}, r"Invalid value for `width`: expected an integer of at least 1"),
        ({"dropout": 1.0}, r"Invalid value for `dropout`: expected a number in \[0, 1\)\. Received: 1\.0"),
        ({"dropout": -0.1}, "`dropout`"),
        ({"dropout": "0.2"}, "`dropout`"),
        ({"activation": "leaky"}, r"Unknown activation: expected one of leaky_relu, relu\. Received: 'leaky'"),
        ({"head": "cosin"}, r"Unknown head.*Did you mean 'cosine'"),
    ],
)
def test_wide_resnet_refuses(options, words):
    with pytest.raises(ValueError, match=words):
        models.get("wide_resnet", **{**NARROW, **options})
