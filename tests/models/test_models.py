"""Every network by name: what it gives, its size worked by hand, its file."""

from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
from keras import ops

from tfrobust import models


def conv(size, channels, filters, bias=True):
    return size * size * channels * filters + bias * filters


def dense(inputs, outputs):
    return inputs * outputs + outputs


def norm(channels):
    return 4 * channels  # gamma, beta, mean, variance


class Row(NamedTuple):
    """A network as it comes by its name alone."""

    size: int
    shapes: dict[str, Any]  # of one image's outputs, in their order
    heavy: bool = False  # tens of millions of parameters: its file is a matter of the slow suite


NETWORKS = {
    "digits": Row(
        conv(3, 1, 32) + conv(3, 32, 64) + conv(3, 64, 128) + conv(3, 128, 256) + dense(256, 10),
        {"logits": (10,), "features": (256,), "feature_map": (2, 2, 256), "cam": (2, 2, 10)},
    ),
    "fpr_mnist": Row(
        conv(5, 1, 32) + conv(5, 32, 64) + dense(7 * 7 * 64, 1024) + dense(1024, 10),
        {"logits": (10,), "features": (1024,)},
    ),
    "madry_resnet": Row(
        conv(3, 3, 16, bias=False)
        + 5 * 2 * (norm(16) + conv(3, 16, 16, bias=False))
        + (norm(16) + conv(3, 16, 32, bias=False) + 9 * (norm(32) + conv(3, 32, 32, bias=False)))
        + (norm(32) + conv(3, 32, 64, bias=False) + 9 * (norm(64) + conv(3, 64, 64, bias=False)))
        + (norm(64) + dense(64, 10)),
        {"logits": (10,), "features": (64,), "feature_map": (8, 8, 64), "cam": (8, 8, 10)},
    ),
    "lenet5": Row(
        conv(5, 1, 6) + conv(5, 6, 16) + dense(5 * 5 * 16, 120) + dense(120, 84) + dense(84, 10),
        {"logits": (10,), "features": (84,)},
    ),
    "spat_mnist": Row(
        conv(3, 1, 32)
        + conv(3, 32, 32)
        + conv(3, 32, 64)
        + conv(3, 64, 64)
        + dense(4 * 4 * 64, 200)
        + dense(200, 200)
        + dense(200, 10),
        {"logits": (10,), "features": (200,)},
    ),
    "dra_mnist": Row(
        conv(5, 1, 10) + conv(5, 10, 20) + dense(4 * 4 * 20, 50) + dense(50, 10),
        {"logits": (10,), "features": (50,)},
    ),
    "cnn_b": Row(
        (conv(3, 3, 64, bias=False) + norm(64) + conv(3, 64, 64, bias=False) + norm(64))
        + (conv(3, 64, 128, bias=False) + norm(128) + conv(3, 128, 128, bias=False) + norm(128))
        + (conv(3, 128, 256, bias=False) + norm(256) + conv(3, 256, 256, bias=False) + norm(256))
        + dense(256, 10),
        {"logits": (10,), "features": (256,), "feature_map": (8, 8, 256), "cam": (8, 8, 10)},
    ),
    # Published numbers that are trained, which `test_resnets.py` works by hand, and a mean and a variance for every
    # channel of every BatchNorm.
    "resnet18": Row(
        11_173_962 + 2 * (64 + 2 * 2 * (64 + 128 + 256 + 512) + 128 + 256 + 512),
        {"logits": (10,), "features": (512,), "feature_map": (4, 4, 512), "cam": (4, 4, 10)},
        heavy=True,
    ),
    "resnet34": Row(
        21_282_122 + 2 * (64 + 2 * (3 * 64 + 4 * 128 + 6 * 256 + 3 * 512) + 128 + 256 + 512),
        {"logits": (10,), "features": (512,), "feature_map": (4, 4, 512), "cam": (4, 4, 10)},
        heavy=True,
    ),
    "resnet50": Row(
        23_520_842 + 2 * (64 + 6 * (3 * 64 + 4 * 128 + 6 * 256 + 3 * 512) + 4 * (64 + 128 + 256 + 512)),
        {"logits": (10,), "features": (2048,), "feature_map": (4, 4, 2048), "cam": (4, 4, 10)},
        heavy=True,
    ),
    "resnet101": Row(
        42_512_970 + 2 * (64 + 6 * (3 * 64 + 4 * 128 + 23 * 256 + 3 * 512) + 4 * (64 + 128 + 256 + 512)),
        {"logits": (10,), "features": (2048,), "feature_map": (4, 4, 2048), "cam": (4, 4, 10)},
        heavy=True,
    ),
    "preact_resnet18": Row(
        11_172_170 + 2 * (64 + 4 * (64 + 128 + 256 + 512)),
        {"logits": (10,), "features": (512,), "feature_map": (4, 4, 512), "cam": (4, 4, 10)},
        heavy=True,
    ),
    "wide_resnet": Row(
        36_479_194 + 2 * (16 + 2 * 4 * (160 + 320 + 640)),
        {"logits": (10,), "features": (640,), "feature_map": (8, 8, 640), "cam": (8, 8, 10)},
        heavy=True,
    ),
    "wrn_28_10": Row(
        36_479_194 + 2 * (16 + 2 * 4 * (160 + 320 + 640)),
        {"logits": (10,), "features": (640,), "feature_map": (8, 8, 640), "cam": (8, 8, 10)},
        heavy=True,
    ),
    "wrn_34_10": Row(
        46_160_474 + 2 * (16 + 2 * 5 * (160 + 320 + 640)),
        {"logits": (10,), "features": (640,), "feature_map": (8, 8, 640), "cam": (8, 8, 10)},
        heavy=True,
    ),
    "wrn_40_10": Row(
        55_841_754 + 2 * (16 + 2 * 6 * (160 + 320 + 640)),
        {"logits": (10,), "features": (640,), "feature_map": (8, 8, 640), "cam": (8, 8, 10)},
        heavy=True,
    ),
}
# Other sizes, by option.
VARIANTS = [
    (
        "digits",
        {"input_shape": (9, 7, 3), "classes": 4, "features": 24},
        conv(3, 3, 3) + conv(3, 3, 6) + conv(3, 6, 12) + conv(3, 12, 24) + dense(24, 4),
    ),
    (
        "fpr_mnist",
        {"input_shape": (9, 9, 3), "classes": 2},  # 9 -> 5 -> 3
        conv(5, 3, 32) + conv(5, 32, 64) + dense(3 * 3 * 64, 1024) + dense(1024, 2),
    ),
    (
        "fpr_mnist",
        {"input_shape": (9, 9, 3), "classes": 2, "head": "cosine"},  # no bias
        conv(5, 3, 32) + conv(5, 32, 64) + dense(3 * 3 * 64, 1024) + 1024 * 2,
    ),
]
LIGHT = [name for name, row in NETWORKS.items() if not row.heavy]
HEAVY = [name for name, row in NETWORKS.items() if row.heavy]


DEEPER = ("resnet101", "wrn_28_10", "wrn_34_10", "wrn_40_10")  # of the same blocks as others, only more of them
SOME = [pytest.param(name, marks=pytest.mark.slow) if name in DEEPER else name for name in NETWORKS]


# Pytest runs the tests of one network together: each is made once, and let go before the next one.
@pytest.fixture(scope="module", params=SOME)
def network(request):
    return request.param, models.get(request.param)


@pytest.fixture(scope="module", params=LIGHT)
def light(request):
    return models.get(request.param)


def images(classifier):
    return np.random.default_rng(0).uniform(0, 1, (2, *classifier.input_shape[1:])).astype("float32")


def check_file(classifier, path):
    x = images(classifier)
    expected = classifier(x)
    classifier.save(path)
    received = keras.models.load_model(path)(x)
    assert list(received) == list(expected)
    for a, b in zip(keras.tree.flatten(expected), keras.tree.flatten(received), strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_name_is_tested():
    assert set(models.names()) == set(NETWORKS)


def test_parameters_by_hand(network):
    name, classifier = network
    assert classifier.count_params() == NETWORKS[name].size


@pytest.mark.parametrize(("name", "options", "count"), VARIANTS)
def test_parameters_by_hand_with_options(name, options, count):
    assert models.get(name, **options).count_params() == count


def test_contract(network):
    name, classifier = network
    outputs = classifier(images(classifier))
    shapes = {key: tuple(t.shape[1:]) for key, t in outputs.items()}
    assert shapes == NETWORKS[name].shapes and list(shapes) == list(NETWORKS[name].shapes)
    assert {key: tuple(t.shape[1:]) for key, t in classifier.output.items()} == shapes
    assert classifier.name == name and classifier.get_layer("head").count_params() > 0
    assert models.expose(classifier) is classifier and models.get(classifier) is classifier
    # An attack reads the gradient before anything is learned: nothing overflows or saturates, and images differ.
    logits = ops.convert_to_numpy(outputs["logits"])
    assert np.isfinite(logits).all() and 1e-3 < np.abs(logits).max() < 100
    assert np.abs(logits[0] - logits[1]).max() > 1e-5


def test_batch_norm(network):
    name, classifier = network
    found = [layer for layer in classifier.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert bool(found) == (name not in ("digits", "dra_mnist", "fpr_mnist", "lenet5", "spat_mnist"))
    assert {(layer.momentum, layer.epsilon) for layer in found} <= {(0.9, 1e-5)}


def test_file(light, tmp_path):
    check_file(light, tmp_path / "classifier.keras")


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_file_of_a_heavy_network(name, tmp_path):
    check_file(models.get(name), tmp_path / "classifier.keras")


@pytest.mark.parametrize("name", LIGHT)
def test_cosine_head(name, tmp_path):
    classifier = models.get(name, head={"name": "cosine", "scale": 8.0})
    shapes = {key: shape for key, shape in NETWORKS[name].shapes.items() if key != "cam"}
    outputs = classifier(images(classifier))
    assert {key: tuple(t.shape[1:]) for key, t in outputs.items()} == {**shapes, "cosine": (10,)}
    np.testing.assert_allclose(outputs["logits"], 8.0 * np.array(outputs["cosine"]), rtol=1e-6)
    unit = np.array(outputs["features"]) / np.linalg.norm(outputs["features"], axis=1, keepdims=True)
    kernel = classifier.get_layer("head").get_weights()[0]
    np.testing.assert_allclose(outputs["cosine"], unit @ (kernel / np.linalg.norm(kernel, axis=0)), atol=1e-5)
    check_file(classifier, tmp_path / "classifier.keras")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 1}, r"Invalid value for `classes`: expected an integer of at least 2\. Received: 1"),
        ({"classes": 2.5}, "`classes`"),
        ({"input_shape": (8, 8)}, r"Invalid value for `input_shape`: expected \(height, width, channels\)"),
        ({"input_shape": (8, 0, 1)}, "`input_shape`"),
        ({"input_shape": 8}, "`input_shape`"),
        ({"class": 3}, "Unknown argument of model"),
        ({"head": "cosin"}, "Unknown head: expected one of cosine, dense.*Did you mean 'cosine'"),
        ({"head": {"name": "cosine", "scal": 3}}, "Unknown argument of head 'cosine'.*Did you mean 'scale'"),
    ],
)
def test_wrong_options(name, options, words):
    with pytest.raises(ValueError, match=words):
        models.get(name, **options)


@pytest.mark.parametrize("name", ["digits", "fpr_mnist"])
def test_a_dense_layer_is_no_head(name):
    with pytest.raises(
        ValueError, match=r"expected a layer that returns a dict with 'logits', such as .*Received: <Dense"
    ):
        models.get(name, head=keras.layers.Dense(10))


def test_a_layer_as_the_head():
    head = models.heads.make({"name": "dense", "form": "signed"}, classes=3)
    classifier = models.get("digits", classes=3, head=head)
    assert classifier.get_layer("head") is head
    outputs = classifier(images(classifier))
    bias = head.get_weights()[1]
    np.testing.assert_allclose(np.mean(outputs["cam"], axis=(1, 2)) + bias, outputs["logits"], atol=1e-5)


def test_width_of_digits():
    with pytest.raises(ValueError, match="`features`"):
        models.get("digits", features=7)


def test_activation_of_digits():
    x = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 1)).astype("float32")
    relu, leaky = models.get("digits"), models.get("digits", activation="leaky_relu")
    leaky.set_weights(relu.get_weights())
    assert np.min(relu(x)["feature_map"]) == 0 > np.min(leaky(x)["feature_map"])
    # A network with one convolution that counts, the last: its negative values are a tenth of what they were.
    last = [layer for layer in leaky.layers if isinstance(layer, keras.layers.Conv2D)][-1]
    before = keras.Model(leaky.input, last.output)(x)
    np.testing.assert_allclose(leaky(x)["feature_map"], np.where(before > 0, before, 0.1 * np.array(before)), rtol=1e-6)
    with pytest.raises(ValueError, match=r"Unknown activation: expected one of leaky_relu, relu.*Did you mean 'relu'"):
        models.get("digits", activation="rely")


def test_unknown_name():
    with pytest.raises(ValueError, match=r"Unknown model.*Did you mean 'digits'"):
        models.get("digit")


def test_a_members_own_function():
    @models.register
    def tiny_of_the_test(classes: int = 3) -> keras.Model:
        inputs = keras.Input((4, 4, 1))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))
        return models.expose(keras.Model(inputs, keras.layers.Dense(classes)(x)))

    try:
        assert models.get("tiny_of_the_test", classes=5).output["cam"].shape == (None, 2, 2, 5)
    finally:
        del models.registry.MODELS._factories["tiny_of_the_test"]
