"""The attention layers: the weights are a softmax over positions, the descriptor is the weighted sum."""

import keras
import numpy as np
import pytest
from keras import ops

from tfrobust.layers import LinearAttention, NonlinearAttention

RNG = np.random.default_rng(0)
LOCAL = RNG.normal(size=(3, 4, 5, 6)).astype("float32")
SAME = RNG.normal(size=(3, 6)).astype("float32")
OTHER = RNG.normal(size=(3, 9)).astype("float32")

MAKERS = {
    "nonlinear": NonlinearAttention,
    "sum": LinearAttention,
    "dot": lambda **kwargs: LinearAttention("dot", **kwargs),
}


def softmax(scores):
    exponents = np.exp(scores - scores.max(axis=(1, 2), keepdims=True))
    return exponents / exponents.sum(axis=(1, 2), keepdims=True)


def check_outputs(outputs, scores, local=LOCAL):
    weights = softmax(scores)
    np.testing.assert_allclose(outputs["weights"], weights, rtol=1e-4)
    np.testing.assert_allclose(outputs["descriptor"], np.einsum("bhw,bhwd->bd", weights, local), atol=1e-5)


def test_nonlinear_is_the_network_on_the_concatenation():
    layer = NonlinearAttention(hidden=7)
    layer(LOCAL, OTHER)
    layer.bias.assign(RNG.normal(size=7))
    kernel, bias, score = layer.get_weights()
    assert (kernel.shape, bias.shape, score.shape) == ((6 + 9, 7), (7,), (7, 1))
    repeated = np.broadcast_to(OTHER[:, None, None], (3, 4, 5, 9))
    hidden = np.maximum(np.concatenate([LOCAL, repeated], axis=-1) @ kernel + bias, 0)
    check_outputs(layer(LOCAL, OTHER), (hidden @ score)[..., 0])


def test_nonlinear_starts_as_a_dense_layer_on_the_concatenation_does():
    layer = NonlinearAttention()
    layer(np.zeros((1, 2, 2, 64), "float32"), np.zeros((1, 32), "float32"))
    limit = np.sqrt(6 / (64 + 32 + 64))  # Glorot: the number of inputs is that of both parts
    largest = np.abs(layer.get_weights()[0]).max()
    assert 0.99 * limit < largest <= limit


def test_nonlinear_by_hand():
    # l = 1, 2, g = 1, kernel (1, -1), bias 0, v = ln 2: relu(l - g) = 0, 1, so weights 1/3, 2/3 and h = 1/3 + 4/3.
    layer = NonlinearAttention(hidden=1)
    local, g = np.array([1.0, 2.0], "float32").reshape(1, 1, 2, 1), np.array([[1.0]], "float32")
    layer(local, g)
    layer.set_weights([np.array([[1.0], [-1.0]]), np.zeros(1), np.array([[np.log(2.0)]])])
    outputs = layer(local, g)
    np.testing.assert_allclose(np.ravel(outputs["weights"]), [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(outputs["descriptor"], [[5 / 3]], rtol=1e-6)


@pytest.mark.parametrize("g", [SAME, OTHER], ids=["same width", "other width"])
def test_sum_is_the_definition(g):
    layer = LinearAttention("sum")
    layer(LOCAL, g)
    *projection, u = layer.get_weights()
    assert [w.shape for w in projection] == ([(9, 6)] if g is OTHER else [])
    projected = g @ projection[0] if projection else g
    check_outputs(layer(LOCAL, g), ((LOCAL + projected[:, None, None]) @ u)[..., 0])


def test_sum_does_not_see_the_global_feature(gradient):
    # u . g is the same at every position, and a softmax does not see what is: a property of the definition.
    layer = LinearAttention("sum")
    np.testing.assert_allclose(layer(LOCAL, SAME)["weights"], layer(LOCAL, -3 * SAME)["weights"], rtol=1e-5)
    received = gradient(lambda g: ops.sum(layer(LOCAL, g)["descriptor"] ** 2), SAME)
    np.testing.assert_allclose(received, 0.0, atol=1e-5)


@pytest.mark.parametrize("g", [SAME, OTHER], ids=["same width", "other width"])
def test_dot_is_the_definition(g):
    layer = LinearAttention("dot")
    layer(LOCAL, g)
    projection = layer.get_weights()
    assert [w.shape for w in projection] == ([(9, 6)] if g is OTHER else [])
    projected = g @ projection[0] if projection else g
    check_outputs(layer(LOCAL, g), np.einsum("bhwd,bd->bhw", LOCAL, projected))


@pytest.mark.parametrize("form", ["nonlinear", "dot"])
def test_these_see_the_global_feature(form, gradient):
    layer = MAKERS[form]()
    assert np.abs(gradient(lambda g: ops.sum(layer(LOCAL, g)["descriptor"] ** 2), OTHER)).max() > 1e-3


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_equal_positions_have_equal_weights(make):
    local = np.broadcast_to(LOCAL[:, :1, :1], LOCAL.shape)
    outputs = make()(local, OTHER)
    np.testing.assert_allclose(outputs["weights"], 1 / 20, rtol=1e-5)
    np.testing.assert_allclose(outputs["descriptor"], local[:, 0, 0], rtol=1e-4)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_images_do_not_mix_and_positions_have_no_order(make):
    layer = make()
    expected = layer(LOCAL, OTHER)
    alone = layer(LOCAL[1:2], OTHER[1:2])
    np.testing.assert_allclose(alone["descriptor"], expected["descriptor"][1:2], atol=1e-5)
    turned = layer(LOCAL[:, ::-1], OTHER)
    np.testing.assert_allclose(turned["descriptor"], expected["descriptor"], atol=1e-5)
    np.testing.assert_allclose(np.array(turned["weights"])[:, ::-1], expected["weights"], atol=1e-6)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_huge_scores_stay_finite(make, gradient):
    layer = make()
    outputs = layer(1e4 * LOCAL, 1e4 * SAME)
    np.testing.assert_allclose(ops.sum(outputs["weights"], axis=(1, 2)), 1.0, rtol=1e-6)
    assert np.isfinite(gradient(lambda x: ops.sum(layer(x, 1e4 * SAME)["descriptor"]), 1e4 * LOCAL)).all()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_weights_are_float32_under_mixed_precision(make):
    # 256 positions, as in block 3: in bfloat16 weights near 1/256 would sum to anything between 0.98 and 1.02.
    keras.config.set_dtype_policy("mixed_bfloat16")
    local = RNG.normal(size=(4, 16, 16, 8)).astype("float32")
    outputs = make()(local, local[:, 0, 0])
    assert {keras.backend.standardize_dtype(t.dtype) for t in outputs.values()} == {"float32"}
    np.testing.assert_allclose(ops.sum(outputs["weights"], axis=(1, 2)), 1.0, atol=1e-6)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_maps_of_any_size(make):
    symbols = keras.Input((None, None, 6)), keras.Input((9,))
    layer = make()
    model = keras.Model(symbols, layer(*symbols))
    for local in (LOCAL, LOCAL[:, :2]):
        received, expected = model((local, OTHER)), layer(local, OTHER)
        np.testing.assert_allclose(received["weights"], expected["weights"], rtol=1e-5)
        np.testing.assert_allclose(received["descriptor"], expected["descriptor"], atol=1e-6)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_refusals_say_what_to_do(make):
    layer = make()
    for arguments, words in {
        (2, 2): "Give it the last convolution's output instead of pooled features",
        (4, 4): "Pool a map to one vector first",
    }.items():
        arrays = [{2: SAME, 4: LOCAL}[rank] for rank in arguments]
        with pytest.raises(ValueError, match=words):
            layer(*arrays)
    with pytest.raises(ValueError, match="one vector for each of the 3 images"):
        layer(LOCAL, SAME[:1])
    layer(LOCAL, OTHER)
    with pytest.raises(ValueError, match=r"expected shape \(batch, height, width, 6\).*Received: shape=\(3, 4, 5, 5\)"):
        layer(LOCAL[..., :5], OTHER)
    with pytest.raises(ValueError, match=r"expected shape \(batch, 9\).*Received: shape=\(3, 6\)"):
        layer(LOCAL, SAME)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NonlinearAttention(0), "`hidden`: expected an integer of at least 1. Received: 0"),
        (lambda: NonlinearAttention(6.5), "`hidden`"),
        (lambda: NonlinearAttention(True), "`hidden`"),
        (lambda: LinearAttention("dots"), "expected one of dot, sum.*Did you mean 'dot'"),
        (lambda: LinearAttention("nonlinear"), "Unknown form of `LinearAttention`"),
    ],
)
def test_wrong_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()
