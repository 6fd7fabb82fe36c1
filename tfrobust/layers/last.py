"""Calls a user's own layer as the last one of a classifier, without its activation."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Tensor

Shape = tuple[int, ...]

LAST = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv2D)


def check_features(layer: keras.layers.Layer, shape: Any, width: int | None) -> None:
    """Checks that the input of a head is `(B, width)`; without a width any known one is right."""
    if len(shape) != 2 or shape[-1] is None or shape[-1] != (width or shape[-1]):
        raise InvalidArgument(
            f"Invalid `features` of `{type(layer).__name__}`: expected shape (batch, {width or 'features'}). "
            f"Received: shape={tuple(shape)}"
        )


def before_activation(layer: keras.layers.Layer, inputs: Tensor) -> Tensor:
    """Returns the layer's output for `inputs` before its activation.

    The layer itself is called, so that a custom `call`, a quantized kernel and LoRA act as in the user's model. An
    `activity_regularizer` is applied to the output after the activation, as in Keras. Under mixed precision the layer
    computes in the dtype of its weights, since losses subtract and exponentiate its output.
    """
    activation, regularizer = layer.activation, layer.activity_regularizer
    penalty = None if regularizer is None else lambda z: regularizer(activation(z))
    with _without_activation(layer, penalty):
        return layer(inputs)


def shape_for(layer: keras.layers.Layer, width: int) -> Shape:
    """Returns the shape in which a layer reads features `(B, width)` of an image: a convolution as one position."""
    return (1, 1, width) if isinstance(layer, keras.layers.Conv2D) else (width,)


def kernel_of(layer: keras.layers.Layer, shape: Shape) -> Tensor:
    """Returns W, `(D, C)`, of a linear layer `f W + b` whose input `(B, *shape)` has D values per image."""
    if layer.dtype_policy.quantization_mode is None and type(layer) is keras.layers.Dense:
        return layer.kernel
    if layer.dtype_policy.quantization_mode is None and _is_pointwise(layer) and shape[:-1] == (1, 1):
        return ops.reshape(layer.kernel, (shape[-1], -1))
    # W is the layer's output for unit vectors, in whatever form it is stored.
    width = math.prod(shape)
    units = ops.concatenate([ops.eye(width), ops.zeros((1, width))])
    with _without_activation(layer, None):
        images = layer(ops.reshape(units, (width + 1, *shape)))
    images = ops.reshape(images, (width + 1, -1))
    return images[:-1] - images[-1]


def is_linear(layer: keras.layers.Layer, shape: Shape) -> bool:
    """Returns whether the layer, before its activation, is f W + b, by its class or by calls on random inputs."""
    if type(layer) in LAST:
        return True
    draw = np.random.default_rng(0).uniform(-3.0, 3.0, (2, 4, *shape)).astype("float32")
    with _without_activation(layer, None):
        f_a, f_b, f_sum, f_triple, f_zero = (
            np.asarray(ops.convert_to_numpy(ops.cast(layer(ops.convert_to_tensor(x)), "float32")))
            for x in (draw[0], draw[1], draw[0] + draw[1], 3 * draw[0], 0 * draw[0])
        )
    tolerance = 1e-4 if layer.dtype_policy.quantization_mode is None else 5e-2
    tolerance *= np.abs(f_triple).max()
    additive = np.abs(f_a + f_b - f_zero - f_sum).max() <= tolerance
    return bool(additive and np.abs(3 * f_a - 2 * f_zero - f_triple).max() <= tolerance)


def _is_pointwise(layer: keras.layers.Layer) -> bool:
    return type(layer) is keras.layers.Conv2D and layer.kernel_size == (1, 1) and layer.groups == 1


@contextlib.contextmanager
def in_dtype_of_weights(layer: keras.layers.Layer) -> Iterator[None]:
    """Makes a layer compute in the dtype of its weights, float32 under mixed precision, unless it is quantized."""
    policy = layer.dtype_policy
    if policy.quantization_mode is not None or policy.compute_dtype == policy.variable_dtype:
        yield
        return
    try:
        layer.dtype_policy = keras.DTypePolicy(policy.variable_dtype)
        yield
    finally:
        layer.dtype_policy = policy


@contextlib.contextmanager
def _without_activation(layer: keras.layers.Layer, penalty: Any) -> Iterator[None]:
    """Removes the activation of a layer and replaces its activity regularizer within the block."""
    # A built layer refuses `setattr` of a layer, and an activation may be one.
    own = vars(layer)
    changes = {"activation": keras.activations.linear, "activity_regularizer": penalty}
    before = {name: own[name] for name in changes if name in own}
    try:
        own.update({name: changes[name] for name in before})
        with in_dtype_of_weights(layer):
            yield
    finally:
        own.update(before)
