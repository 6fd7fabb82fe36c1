"""Checks that an exposed classifier agrees with its model on random images."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import scipy.special
from keras import ops

from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Tensor

IMAGES = 2
SIZES = (32, 96, 224)  # sizes of random images for a model of any size; the first that it accepts is used
LEAST = 1e-6  # smaller probabilities count as zero


def check_same(
    model: keras.Model, classifier: keras.Model, preprocess: keras.layers.Layer | None, activation: str
) -> None:
    """Compares a classifier's logits with the output of its model, on random images in [0, 1].

    Both are called in inference mode, with the same seeds. Two kinds of model are not compared: one for images of any
    size that accepts none of `SIZES`, and one that is random in inference. `activation` is the one that was split off:
    "linear", "softmax" or "sigmoid".

    Raises:
        ValueError: if they do not agree, or the logits are probabilities.
    """

    def given(x: Tensor) -> Tensor:
        output = model(x if preprocess is None else preprocess(x), training=False)
        return output["logits"] if isinstance(output, dict) else output

    x, expected = _probe(classifier, given)
    if x is None:
        return
    logits = _values(classifier, lambda x: classifier(x, training=False)["logits"], x)
    received = logits if activation == "linear" else scipy.special.softmax(logits, axis=-1)
    received = received[:, 1:] if expected.shape[-1] == 1 else received
    tolerance = (1e-3 if _exact(classifier) else 5e-2) * max(1.0, float(np.abs(logits).max()))
    if not _agree(received, expected, activation, tolerance):
        if not _agree(_values(classifier, given, x), expected, activation, tolerance):
            return  # random in inference
        raise InvalidArgument(
            f"Cannot expose the model {model.name!r}: expected logits from which {activation!r} computes "
            f"the model's output. Received: another output on random images, {received[0]} in place of {expected[0]}. "
            "A subclass with an own `call`, or a last layer that is called with further arguments, cannot be "
            "split: build a keras.Model(inputs, outputs) with named outputs, 'logits' among them."
        )
    if activation == "linear" and _are_probabilities(received):
        raise InvalidArgument(
            f"Cannot expose the model {model.name!r}: expected a softmax that can be split off. Received: a last layer "
            "that returns probabilities. Make the softmax its `activation`, or add a keras.layers.Softmax "
            "after it."
        )


def _probe(classifier: keras.Model, given: Callable[[Tensor], Tensor]) -> tuple[Tensor | None, np.ndarray]:
    """Returns random images and the model's output for them; None in place of images if no size fits."""
    shape = classifier.input_shape[1:]
    for size in SIZES:
        sizes = (IMAGES, *(size if length is None else length for length in shape[:2]), shape[2] or 3)
        x = ops.convert_to_tensor(np.random.default_rng(0).uniform(0.0, 1.0, sizes).astype("float32"))
        try:
            return x, _values(classifier, given, x)
        except Exception:  # each backend has another error for an image that is too small
            if None not in shape:
                raise
    return None, np.zeros(0)


@contextlib.contextmanager
def unmoved(model: keras.Model) -> Iterator[None]:
    """Restores statistics and seeds that calls of a model within the block change; some do so in inference, too."""
    before = [(variable, _array(variable)) for variable in model.non_trainable_variables]
    yield
    for variable, value in before:
        if not np.array_equal(value, _array(variable)):
            variable.assign(value)


def _array(values: Any) -> np.ndarray:
    # A copy as a tensor first, or NumPy warns of TensorFlow's variables.
    return np.array(ops.convert_to_numpy(ops.copy(ops.convert_to_tensor(values))))


def _values(classifier: keras.Model, function: Callable[[Tensor], Tensor], x: Tensor) -> np.ndarray:
    with unmoved(classifier):
        return _array(ops.cast(function(x), "float32"))


def _exact(classifier: keras.Model) -> bool:
    policies = (layer.dtype_policy for layer in keras_private.layers_inside(classifier))
    return all(p.quantization_mode is None and p.compute_dtype not in ("float16", "bfloat16") for p in policies)


def _agree(received: np.ndarray, expected: np.ndarray, activation: str, tolerance: float) -> bool:
    if activation != "linear":  # a wrong temperature changes small probabilities
        received, expected = (np.log(np.maximum(values, LEAST)) for values in (received, expected))
    same_shape = received.shape == expected.shape
    return same_shape and np.allclose(received, expected, rtol=0.0, atol=tolerance, equal_nan=True)


def _are_probabilities(scores: np.ndarray) -> bool:
    inside = (scores >= 0).all() and (scores <= 1).all() and scores.shape[-1] > 1
    return bool(inside and np.abs(scores.sum(-1) - 1).max() < 1e-2)
