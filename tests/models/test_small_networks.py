"""LeNet-5, the networks of the thesis on MNIST, CNN_B: what their definitions say."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import stats

from tfrobust import models
from tfrobust.models.graph import Step

X = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3)).astype("float32")
MNIST = X[:, 2:30, 2:30, :1]


def arrays(outputs):
    return {name: ops.convert_to_numpy(tensor) for name, tensor in outputs.items()}


def kinds(classifier):
    """What stands behind the input, layer by layer, with what matters of each."""
    said = {
        layers.Conv2D: lambda c: (*c.kernel_size, c.filters, c.padding, c.activation.__name__),
        layers.Dense: lambda d: (d.units, d.activation.__name__),
        layers.MaxPooling2D: lambda p: (*p.pool_size, *p.strides, p.padding),
        layers.Dropout: lambda d: (d.rate,),
        layers.SpatialDropout2D: lambda d: (d.rate,),
    }
    return [(type(x).__name__, *said[type(x)](x)) for x in classifier.layers if type(x) in said]


POOL = ("MaxPooling2D", 2, 2, 2, 2, "valid")


def test_lenet5():
    assert kinds(models.get("lenet5")) == [
        ("Conv2D", 5, 5, 6, "same", "relu"),
        POOL,
        ("Conv2D", 5, 5, 16, "valid", "relu"),
        POOL,
        ("Dense", 120, "relu"),
        ("Dense", 84, "relu"),
    ]


def test_fpr_mnist_starts_as_madrys_own_where_it_is_asked_to():
    small = {"input_shape": (8, 8, 1), "classes": 10}
    classifier = models.get("fpr_mnist", **small, original=True)
    kernels, biases = classifier.get_weights()[::2], classifier.get_weights()[1::2]
    assert [kernel.ndim for kernel in kernels] == [4, 4, 2, 2] and len(biases) == 4
    normal = stats.truncnorm(-2, 2, scale=0.1)  # cut off at two standard deviations, as TensorFlow's truncated_normal
    for kernel in kernels:
        assert stats.kstest(kernel.ravel()[:10_000], normal.cdf).pvalue > 1e-3
    assert all((bias == np.float32(0.1)).all() for bias in biases)
    usual = models.get("fpr_mnist", **small).get_weights()
    assert not any(bias.any() for bias in usual[1::2])
    assert np.abs(usual[4]).max() <= np.sqrt(6 / (256 + 1024))  # Glorot's rule


def test_spat_mnist():
    def layers_of(**options):
        return kinds(models.get("spat_mnist", **options))

    convolutions = [("Conv2D", 3, 3, filters, "valid", "relu") for filters in (32, 32, 64, 64)]
    dense = ("Dense", 200, "relu")
    expected = [*convolutions[:2], POOL, *convolutions[2:], POOL, dense, ("Dropout", 0.5), dense]
    assert layers_of() == expected
    assert layers_of(dropout=0.0) == [layer for layer in expected if layer[0] != "Dropout"]


def test_dra_mnist():
    classifier = models.get("dra_mnist")
    assert kinds(classifier) == [
        ("Conv2D", 5, 5, 10, "valid", "linear"),
        POOL,
        ("Conv2D", 5, 5, 20, "valid", "linear"),
        ("SpatialDropout2D", 0.5),
        POOL,
        ("Dense", 50, "relu"),
        ("Dropout", 0.5),
    ]
    assert sum(isinstance(layer, layers.ReLU) for layer in classifier.layers) == 2
    assert not [layer for layer in kinds(models.get("dra_mnist", dropout=0.0)) if "Dropout" in layer[0]]


@pytest.mark.parametrize("name", ["spat_mnist", "dra_mnist"])
def test_dropout_only_in_training(name):
    for rate in (0.0, 0.5):
        classifier = models.get(name, dropout=rate)
        for training in (False, True):
            one, two = (ops.convert_to_numpy(classifier(MNIST, training=training)["logits"]) for _ in range(2))
            assert (np.abs(one - two).max() > 1e-4) == (training and rate > 0)


def test_cnn_b_is_what_its_docstring_says():
    classifier = models.get("cnn_b")
    stages = [[("Conv2D", 3, 3, filters, "same", "linear")] * 2 for filters in (64, 128, 256)]
    assert kinds(classifier) == [*stages[0], POOL, *stages[1], POOL, *stages[2]]
    for layer in classifier.layers:
        if isinstance(layer, layers.Conv2D):
            assert not layer.use_bias
        if isinstance(layer, layers.LeakyReLU):
            assert layer.negative_slope == 0.1
            norm = Step.of(layer.input).operation
            assert isinstance(norm, layers.BatchNormalization)
            assert isinstance(Step.of(norm.input).operation, layers.Conv2D)
    trainable = sum(int(np.prod(v.shape)) for v in classifier.trainable_variables)
    channels = [3, 64, 64, 128, 128, 256, 256]
    by_hand = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(channels)) + 256 * 10 + 10
    assert trainable == by_hand == 1_148_874


@pytest.mark.parametrize(("activation", "negative"), [("leaky_relu", True), ("relu", False)])
def test_cnn_b_features_follow_the_activation(activation, negative):
    classifier = models.get("cnn_b", activation=activation)
    for layer in classifier.layers:
        if isinstance(layer, layers.BatchNormalization):
            # Far below zero, the leaky activation gives a tenth; ReLU gives nothing at all.
            layer.set_weights([w * 0 + v for w, v in zip(layer.get_weights(), (1, -3, 0, 1e6), strict=True)])
    outputs = arrays(classifier(X))
    assert (outputs["features"] < 0).all() == negative
    np.testing.assert_allclose(outputs["features"], -0.3 if negative else 0.0, atol=0.05)
    assert type(Step.of(classifier.output["feature_map"]).operation) is (layers.LeakyReLU if negative else layers.ReLU)


def test_cnn_b_signed_map_averages_to_the_logits():
    classifier = models.get("cnn_b", head={"name": "dense", "form": "signed"})
    kernel, bias = classifier.get_layer("head").get_weights()
    classifier.get_layer("head").set_weights([kernel, bias + np.arange(10)])
    outputs = arrays(classifier(X))
    expected = outputs["cam"].mean((1, 2)) + np.arange(10)
    np.testing.assert_allclose(expected, outputs["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8, 1), (28, 28, 1), (9, 13, 3), (32, 32, 1)])
def test_cnn_b_of_other_images(size):
    classifier = models.get("cnn_b", input_shape=size, classes=4)
    outputs = arrays(classifier(X[:, : size[0], : size[1], : size[2]]))
    assert outputs["cam"].shape == (2, size[0] // 4, size[1] // 4, 4)
    assert np.isfinite(outputs["logits"]).all() and np.abs(outputs["logits"]).max() < 100


@pytest.mark.parametrize(
    ("name", "least", "width"), [("lenet5", 12, 84), ("spat_mnist", 16, 200), ("dra_mnist", 16, 50), ("cnn_b", 8, 256)]
)
def test_smallest_image(name, least, width):
    classifier = models.get(name, input_shape=(least, least, 3))
    assert classifier(X[:, :least, :least])["features"].shape == (2, width)
    with pytest.raises(ValueError, match=rf"`input_shape`: expected .* height and width >= {least}\. Received"):
        models.get(name, input_shape=(least, least - 1, 3))


@pytest.mark.parametrize("head", ["dense", "cosine"])
@pytest.mark.parametrize("name", ["lenet5", "spat_mnist", "dra_mnist", "cnn_b"])
def test_mixed_precision_gives_float32_logits(name, head):
    keras.config.set_dtype_policy("mixed_bfloat16")
    classifier = models.get(name, input_shape=(16, 16, 1), head=head)
    outputs = classifier(X[:, :16, :16, :1])
    assert keras.backend.standardize_dtype(outputs["logits"].dtype) == "float32"
    assert keras.backend.standardize_dtype(outputs["features"].dtype) == "bfloat16"
    assert np.isfinite(ops.convert_to_numpy(outputs["logits"])).all()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("spat_mnist", {"dropout": 1}, r"Invalid value for `dropout`: expected a number in \[0, 1\)\. Received"),
        ("dra_mnist", {"dropout": True}, "`dropout`"),
        ("cnn_b", {"activation": "elu"}, "Unknown activation: expected one of leaky_relu, relu"),
        ("cnn_b", {"head": "dens"}, "Unknown head.*Did you mean 'dense'"),
        ("lenet5", {"head": {"name": "cosine", "scale": 0.0}}, "`scale`: expected a positive number"),
    ],
)
def test_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        models.get(name, **options)
