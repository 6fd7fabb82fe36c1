import keras
import numpy as np
from keras import ops

from tfrobust.layers import Standardize


def test_by_hand():
    # Mean 1/2; deviation 1/2; floor 1/sqrt(4) = 1/2: both the same here.
    x = np.array([0.0, 0.0, 1.0, 1.0], "float32").reshape(1, 2, 2, 1)
    np.testing.assert_allclose(np.ravel(Standardize()(x)), [-1, -1, 1, 1], atol=1e-6)
    # Deviation 1/8 is below the floor of 1/2: (x - 3/8) * 2.
    x = np.array([0.25, 0.25, 0.5, 0.5], "float32").reshape(1, 2, 2, 1)
    np.testing.assert_allclose(np.ravel(Standardize()(x)), [-0.25, -0.25, 0.25, 0.25], atol=1e-6)


def test_images_do_not_mix_and_have_mean_zero_and_deviation_one():
    x = np.random.default_rng(0).uniform(0, 1, (3, 8, 8, 3)).astype("float32")
    y = np.array(Standardize()(x))
    np.testing.assert_allclose(y.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=(1, 2, 3)), 1, atol=1e-5)
    np.testing.assert_allclose(y[1:2], Standardize()(x[1:2]), atol=1e-6)


def test_equals_tensorflows_function():
    import tensorflow as tf

    x = np.random.default_rng(1).normal(0.5, 0.01, (4, 6, 5, 3)).astype("float32")
    x[0] = 0.3
    np.testing.assert_allclose(Standardize()(x), tf.image.per_image_standardization(x), atol=2e-5)


def test_statistics_are_float32_under_mixed_precision():
    # A difference of 1/1000 about 1/2 is lost in bfloat16, whose spacing there is 1/256.
    x = np.full((1, 16, 16, 3), 0.5, "float32")
    x[:, ::2] += 0.001
    mixed = Standardize(dtype="mixed_bfloat16")(x)
    assert keras.backend.standardize_dtype(mixed.dtype) == "bfloat16"
    np.testing.assert_allclose(ops.cast(mixed, "float32"), Standardize()(x), rtol=0.01)


def test_a_constant_image_has_finite_gradients(gradient):
    layer = Standardize()
    received = gradient(lambda x: ops.sum(layer(x) ** 3 + layer(x)), np.full((1, 4, 4, 3), 0.3, "float32"))
    assert np.isfinite(received).all()


def test_images_of_any_size():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, Standardize()(inputs))
    x = np.random.default_rng(0).uniform(0, 1, (2, 5, 7, 3)).astype("float32")
    np.testing.assert_allclose(model(x), Standardize()(x), atol=1e-6)
