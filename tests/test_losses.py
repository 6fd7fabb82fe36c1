"""Losses against numbers worked out here by NumPy, and where gradients easily are not finite."""

import keras
import numpy as np
import pytest
from keras import ops

from tfrobust import losses

Z = np.array([[1.0, 2.0, -0.5], [0.0, 0.3, 0.2]], "float32")
W = np.array([[0.2, 1.0, 0.7], [-1.0, 2.0, 0.0]], "float32")
Y = np.array([1, 2])


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def gradient(function, value):
    """By central differences."""
    value = np.asarray(value, "float64")
    result = np.zeros_like(value)
    for index in np.ndindex(value.shape):
        step = np.zeros_like(value)
        step[index] = 1e-3
        result[index] = (function(value + step) - function(value - step)) / 2e-3
    return result


def test_cross_entropy():
    expected = -np.log(softmax(Z)[[0, 1], Y])
    np.testing.assert_allclose(losses.cross_entropy(Z, Y), expected, rtol=1e-5)


def test_kl_divergence_is_summed_over_classes():
    p, q = softmax(Z), softmax(W)
    np.testing.assert_allclose(losses.kl_divergence(Z, W), (p * np.log(p / q)).sum(-1), rtol=1e-5)


def test_kl_divergence_of_itself_is_zero():
    np.testing.assert_allclose(losses.kl_divergence(Z, Z), 0, atol=1e-7)


def test_margin():
    np.testing.assert_allclose(losses.margin(Z, Y), [1.0 - 2.0, 0.3 - 0.2], rtol=1e-5)


FOUR = np.array([[4.0, 1.0, 2.5, -1.0], [0.5, 3.0, 3.5, 0.0], [-2.0, 0.0, 1.0, 5.0]], "float32")


def test_dlr():
    # The three largest are (4, 2.5, 1), (3.5, 3, 0.5), (5, 1, 0); the labels stand first, second and last.
    expected = [-(4 - 2.5) / (4 - 1), -(3 - 3.5) / (3.5 - 0.5), -(-2 - 5) / (5 - 0)]
    np.testing.assert_allclose(losses.dlr(FOUR, [0, 1, 0]), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.dlr(1e4 * FOUR + 7, [0, 1, 0]), expected, rtol=1e-5)  # no scale, no shift
    assert float(losses.dlr([[2.0, 2.0, 1.0]], [0])[0]) == 0  # a tie


def test_dlr_targeted():
    expected = [-(4 - -1) / (4 - 0.0), -(3 - 0.5) / (3.5 - 0.25), -(-2 - 5) / (5 - -1.0)]
    np.testing.assert_allclose(losses.dlr_targeted(FOUR, [0, 1, 0], [3, 0, 3]), expected, rtol=1e-6)
    np.testing.assert_allclose(losses.dlr_targeted(1e4 * FOUR + 7, [0, 1, 0], [3, 0, 3]), expected, rtol=1e-5)


def test_dlr_has_a_floor_under_its_denominator():
    close = np.array([[0.0, 0.0, 1e-12, 0.0, 0.0]], "float32")
    np.testing.assert_allclose(losses.dlr(close, [2]), -1e-12 / (1e-12 + 1e-12), rtol=1e-5)
    np.testing.assert_allclose(losses.dlr_targeted(close, [2], [0]), -1e-12 / (1e-12 + 1e-12), rtol=1e-5)
    for loss in (lambda v: losses.dlr(v, [1, 2]), lambda v: losses.dlr_targeted(v, [1, 2], [0, 3])):
        equal = np.array([[3.0] * 5, [7.0, 7.0, 0.0, 7.0, 7.0]], "float32")  # of the second, all others tie above it
        assert np.isfinite(np.asarray(loss(equal))).all()
        assert np.isfinite(tape_gradient(loss, equal)).all()


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (lambda z: losses.dlr(z[:, :2], [0, 1, 0]), "at least 3 classes, or the loss 'margin'. Received: 2 classes"),
        (
            lambda z: losses.dlr_targeted(z[:, :3], [0, 1, 0], [1, 0, 1]),
            "at least 4 classes, or the loss 'dlr'. Received: 3 classes",
        ),
    ],
)
def test_dlr_refuses_too_few_classes(loss, text):
    with pytest.raises(ValueError, match=text):
        loss(FOUR)


def test_l2_distance_flattens():
    a, b = np.ones((2, 2, 3), "float32"), np.zeros((2, 2, 3), "float32")
    np.testing.assert_allclose(losses.l2_distance(a, b), np.sqrt([6, 6]), rtol=1e-6)


def test_correct_counts_the_largest_logit():
    np.testing.assert_array_equal(losses.correct(Z, Y), [1.0, 0.0])


NAN, INF = float("nan"), float("inf")
ODD = np.array(
    [[1, 3, 2], [NAN, 0, 0], [0, 1, NAN], [-INF, 0, -1], [-INF, -INF, -INF], [INF, INF, 0], [INF, NAN, 0], [2, 2, 1]],
    "float32",
)
PREDICTED = [1, -1, -1, 1, -1, 0, -1, 0]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_without_a_prediction_nothing_is_right(dtype):
    """A NaN anywhere, or nothing but -inf; a class that is ruled out and ties are legal."""
    logits = ops.cast(ODD, dtype)
    np.testing.assert_array_equal(losses.predicted(logits), PREDICTED)
    for label in range(3):
        expected = np.equal(PREDICTED, label)
        np.testing.assert_array_equal(losses.correct(logits, np.full(8, label)), expected)
    np.testing.assert_array_equal(losses.predicted(np.array([[0, 1, 0]])), [1])  # labels as one-hot integers


def test_missed_by_is_the_margin_and_never_nan():
    np.testing.assert_allclose(losses.missed_by(Z, Y), losses.margin(Z, Y))
    np.testing.assert_array_equal(losses.missed_by(ODD, np.zeros(8, int)), [2, INF, INF, INF, INF, 0, INF, 0])


def tape_gradient(function, value):
    """Input gradient under whichever backend Keras runs."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda v: ops.sum(function(v)))(ops.convert_to_tensor(value)))
    import tensorflow as tf

    value = tf.convert_to_tensor(value)
    with tf.GradientTape() as tape:
        tape.watch(value)
        total = ops.sum(function(value))
    return tape.gradient(total, value).numpy()


@pytest.mark.parametrize(
    "function",
    [
        lambda z: losses.cross_entropy(z, Y),
        lambda z: losses.kl_divergence(z, W),
        lambda z: losses.kl_divergence(W, z),
        lambda z: losses.margin(z, Y),
        lambda z: losses.dlr(z, Y),
        lambda z: losses.dlr_targeted(ops.concatenate([z, W + 0.15], axis=-1), Y, [0, 5]),
        lambda z: losses.l2_distance(z, W),
    ],
)
def test_gradients_are_those_of_finite_differences(function):
    numeric = gradient(lambda z: float(np.sum(np.asarray(function(z.astype("float32")), "float64"))), Z)
    np.testing.assert_allclose(tape_gradient(function, Z), numeric, atol=2e-3)


def test_distance_zero_has_gradient_zero():
    np.testing.assert_array_equal(tape_gradient(lambda z: losses.l2_distance(z, Z), Z), np.zeros_like(Z))


@pytest.mark.parametrize("extreme", [200.0, -200.0])
def test_gradients_are_finite_where_probabilities_are_zero_or_one(extreme):
    z = np.array([[extreme, 0.0, 0.0], [0.0, extreme, 0.0]], "float32")
    for function in (
        lambda v: losses.cross_entropy(v, Y),
        lambda v: losses.kl_divergence(v, -z),
        lambda v: losses.kl_divergence(-z, v),
        lambda v: losses.margin(v, Y),
        lambda v: losses.dlr(v, Y),
    ):
        assert np.isfinite(np.asarray(function(z))).all()
        assert np.isfinite(tape_gradient(function, z)).all()


RULED_OUT = np.array([[1.0, -INF, 0.5, 0.2], [0.3, -INF, 1.0, -0.5]], "float32")
WITHOUT = RULED_OUT[:, [0, 2, 3]]


@pytest.mark.parametrize(
    "function",
    [
        lambda z, y, other: losses.cross_entropy(z, y),
        lambda z, y, other: losses.kl_divergence(z, 2 * other),
        lambda z, y, other: losses.kl_divergence(2 * other, z),
        lambda z, y, other: losses.margin(z, y),
        lambda z, y, other: losses.dlr(z, y),
        lambda z, y, other: losses.l2_distance(z, 2 * other),
        lambda z, y, other: losses.l1_distance(z, 2 * other),
    ],
)
def test_a_class_that_is_ruled_out_counts_for_nothing(function):
    """Value and gradient are those of the other classes alone; that of a distance to itself is 0."""
    with_it, without = (
        (lambda z, y=y, other=other: function(z, y, other), logits)
        for logits, y, other in ((RULED_OUT, [0, 3], RULED_OUT), (WITHOUT, [0, 2], WITHOUT))
    )
    np.testing.assert_allclose(with_it[0](with_it[1]), without[0](without[1]), rtol=1e-6)
    found = tape_gradient(*with_it)
    np.testing.assert_allclose(found[:, [0, 2, 3]], tape_gradient(*without), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found[:, 1], 0)


@pytest.mark.parametrize("scale", [1e30, 1e38])
def test_huge_logits_are_finite(scale):
    z = np.float32(scale) * np.array([[1, 0, -1], [0.5, 1, 0]], "float32")
    for function in (
        lambda v: losses.cross_entropy(v, [0, 1]),
        lambda v: losses.margin(v, [0, 1]),
        lambda v: losses.dlr(v, [0, 1]),
    ):
        assert np.isfinite(np.asarray(function(z))).all()
        assert np.isfinite(tape_gradient(function, z)).all()


def test_label_smoothing_is_that_of_keras():
    expected = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3, reduction=None)
    received = losses.cross_entropy(Z, Y, label_smoothing=0.3)
    np.testing.assert_allclose(received, expected(np.eye(3, dtype="float32")[Y], Z), rtol=1e-5)


def test_off_label_smoothing_keeps_its_share_for_the_label():
    expected = -0.7 * np.log(softmax(Z))[[0, 1], Y] - 0.15 * (np.log(softmax(Z)) * (1 - np.eye(3)[Y])).sum(-1)
    np.testing.assert_allclose(losses.cross_entropy(Z, Y, off_label_smoothing=0.3), expected, rtol=1e-5)
    with pytest.warns(DeprecationWarning, match="`smoothing` of `cross_entropy` is deprecated"):
        np.testing.assert_allclose(losses.cross_entropy(Z, Y, smoothing=0.3), expected, rtol=1e-5)
