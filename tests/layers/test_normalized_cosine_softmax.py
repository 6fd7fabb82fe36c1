import keras
import numpy as np
import pytest
from keras import ops

from tfrobust.layers import NormalizedCosineSoftmax

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(3, 6)).astype("float32")


def with_kernel(kernel, **kwargs):
    kernel = np.array(kernel, "float32")
    head = NormalizedCosineSoftmax(kernel.shape[1], **kwargs)
    head.build((None, kernel.shape[0]))
    head.set_weights([kernel])
    return head


def test_by_hand():
    # w_0 = (3, 4), w_1 = (-2, 0); f = (1, 0): 3/5 and -1. f = (0, 2): 4/5 and 0.
    outputs = with_kernel([[3.0, -2.0], [4.0, 0.0]])(np.array([[1.0, 0.0], [0.0, 2.0]], "float32"))
    assert list(outputs) == ["logits", "cosine"]
    np.testing.assert_allclose(outputs["cosine"], [[0.6, -1.0], [0.8, 0.0]], atol=1e-6)
    np.testing.assert_allclose(outputs["logits"], [[3.0, -5.0], [4.0, 0.0]], atol=1e-6)


def test_equals_the_definition():
    head = NormalizedCosineSoftmax(4, scale=8.0)
    outputs = head(FEATURES)
    kernel = head.get_weights()[0]
    lengths = np.linalg.norm(FEATURES, axis=1)[:, None] * np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(outputs["cosine"], FEATURES @ kernel / lengths, atol=1e-6)
    np.testing.assert_allclose(outputs["logits"], 8.0 * np.array(outputs["cosine"]), rtol=1e-6)


def test_rows_of_a_kernel_of_unit_vectors_are_found_again():
    # Features that are the class vectors themselves: the cosines are their Gram matrix, with ones on the diagonal.
    kernel = RNG.normal(size=(6, 4)).astype("float32")
    unit = kernel / np.linalg.norm(kernel, axis=0)
    cosine = with_kernel(kernel)(3.0 * kernel.T)["cosine"]
    np.testing.assert_allclose(cosine, unit.T @ unit, atol=1e-6)
    np.testing.assert_allclose(np.diag(np.array(cosine)), 1.0, atol=1e-6)


def test_without_a_scale_the_logits_are_plain_products():
    head = NormalizedCosineSoftmax(4, scale=None)
    outputs = head(FEATURES)
    np.testing.assert_allclose(outputs["logits"], FEATURES @ head.get_weights()[0], atol=1e-6)
    np.testing.assert_array_equal(outputs["cosine"], with_kernel(*head.get_weights())(FEATURES)["cosine"])


# Cubes of the outer ones leave the range of float32: a gradient by way of a reciprocal root would be infinite there.
@pytest.mark.parametrize("factor", [1e-14, 0.01, 100.0, 1e14])
def test_lengths_do_not_count(factor, gradient):
    head = NormalizedCosineSoftmax(4)
    expected = head(FEATURES)["cosine"]
    stretched = with_kernel(head.get_weights()[0] * np.float32(factor))
    np.testing.assert_allclose(head(FEATURES * np.float32(factor))["cosine"], expected, atol=1e-6)
    np.testing.assert_allclose(stretched(FEATURES)["cosine"], expected, atol=1e-6)
    # The gradient is as much longer as the vector is shorter, and stands at a right angle to it.
    plain = gradient(lambda f: ops.sum(head(f)["cosine"][:, 0]), FEATURES)
    received = gradient(lambda f: ops.sum(head(f)["cosine"][:, 0]), FEATURES * np.float32(factor))
    np.testing.assert_allclose(received * np.float32(factor), plain, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose((plain * FEATURES).sum(axis=1), 0.0, atol=1e-6)


def test_zero_vectors_have_cosine_zero_and_no_gradient(gradient):
    kernel = np.array([[3.0, 0.0], [4.0, 0.0]], "float32")
    features = np.array([[0.0, 0.0], [1.0, 0.0]], "float32")
    np.testing.assert_allclose(with_kernel(kernel)(features)["cosine"], [[0.0, 0.0], [0.6, 0.0]], atol=1e-6)
    received = gradient(lambda f: ops.sum(with_kernel(kernel)(f)["logits"]), features)
    # Of 5 cos_0 at f = (1, 0): 5 (w - cos f) = 5 ((0.6, 0.8) - 0.6 (1, 0)) = (0, 4).
    np.testing.assert_allclose(received, [[0.0, 0.0], [0.0, 4.0]], atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="reads a variable's gradient from a tape")
def test_a_zero_class_vector_has_no_gradient():
    import tensorflow as tf

    head = with_kernel([[3.0, 0.0], [4.0, 0.0]])
    with tf.GradientTape() as tape:
        total = ops.sum(head(np.array([[0.0, 0.0], [1.0, 0.0]], "float32"))["logits"])
    # Of 5 cos_0 at w = (3, 4): 5 ((1, 0) - 0.6 (0.6, 0.8)) / 5 = (0.64, -0.48).
    np.testing.assert_allclose(tape.gradient(total, head.kernel.value), [[0.64, 0.0], [-0.48, 0.0]], atol=1e-6)


def test_a_feature_map_is_taken_and_not_used():
    head = NormalizedCosineSoftmax(4)
    outputs = head(FEATURES, feature_map=FEATURES[:, None, None])
    assert list(outputs) == ["logits", "cosine"]
    np.testing.assert_array_equal(outputs["logits"], head(FEATURES)["logits"])


def test_leaves_mixed_precision_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    head = NormalizedCosineSoftmax(4)
    outputs = head(ops.cast(FEATURES, "bfloat16"))
    assert {keras.backend.standardize_dtype(t.dtype) for t in outputs.values()} == {"float32"}
    rounded = ops.cast(ops.cast(FEATURES, "bfloat16"), "float32")
    np.testing.assert_allclose(outputs["logits"], head(rounded)["logits"], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"units": 0}, "`units`: expected an integer of at least 1. Received: 0"),
        ({"units": 2.0}, "`units`"),
        ({"units": True}, "`units`"),
        ({"units": 3, "scale": 0.0}, "`scale`: expected a positive number. Received: 0.0"),
        ({"units": 3, "scale": -1}, "`scale`"),
        ({"units": 3, "scale": float("nan")}, "`scale`"),
        ({"units": 3, "scale": "5"}, "`scale`"),
        ({"units": 3, "scale": True}, "`scale`"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        NormalizedCosineSoftmax(**arguments)
