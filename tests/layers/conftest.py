"""What every layer of the library has to keep; Keras exports no helper for it."""

import json

import keras
import numpy as np
import pytest


def _floats(tensors):
    return [keras.ops.convert_to_numpy(keras.ops.cast(t, "float32")) for t in keras.tree.flatten(tensors)]


def _check_config(layer):
    again = type(layer).from_config(layer.get_config())
    assert json.dumps(again.get_config(), sort_keys=True) == json.dumps(layer.get_config(), sort_keys=True)
    assert keras.saving.get_registered_name(type(layer)) == f"tfrobust>{type(layer).__name__}"


def _check_file(layer, inputs, path):
    symbols = [keras.Input(x.shape[1:], dtype=x.dtype) for x in inputs]
    model = keras.Model(symbols, layer(*symbols))
    expected = layer(*inputs)
    model.save(path)
    loaded = keras.models.load_model(path)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    received = loaded(list(inputs))
    keras.tree.assert_same_structure(expected, received)
    for a, b in zip(_floats(expected), _floats(received), strict=True):
        np.testing.assert_array_equal(a, b)


def _check_mixed_precision(make, layer, inputs):
    keras.config.set_dtype_policy("mixed_bfloat16")
    mixed = make()
    mixed(*inputs)
    mixed.set_weights(layer.get_weights())
    for a, b in zip(_floats(layer(*inputs)), _floats(mixed(*inputs)), strict=True):
        np.testing.assert_allclose(a, b, atol=0.02 * max(1.0, np.abs(a).max()))
    assert all(v.dtype == "float32" for v in mixed.variables)
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def gradient():
    """`gradient(function, x)`: of a scalar function of an array, with either backend."""

    def gradient(function, x):
        if keras.backend.backend() == "jax":
            import jax

            return np.array(jax.grad(function)(keras.ops.convert_to_tensor(x)))
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x).numpy()

    return gradient


@pytest.fixture
def check_layer(tmp_path):
    """`check_layer(make, inputs, wrong, words)`: config and file round trips, mixed precision, shape errors in words.

    `make()` gives a new layer, `inputs` are arrays for its call, `wrong` is a list of such tuples that it must refuse
    with an error that matches `words`, both before and after it is built.
    """

    def check(make, inputs, wrong, words):
        layer = make()
        layer(*inputs)
        _check_config(layer)
        _check_file(layer, inputs, tmp_path / "layer.keras")
        _check_mixed_precision(make, layer, inputs)
        for arrays in wrong:
            for refusing in (make(), layer):
                with pytest.raises(ValueError, match=words):
                    refusing(*arrays)

    return check
