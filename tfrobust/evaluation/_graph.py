"""What an evaluation needs of TensorFlow: graphs traced once for every batch size, noise that follows the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrobust import _tensorflow as backend

Tensor = Any


def traced(function: Callable[..., Any], *specs: tf.TensorSpec) -> Callable[..., Any]:
    """Returns the function as one graph, traced here and never again; every batch size goes through it."""
    compiled: Any = backend.compiled(function)
    graph = compiled.get_concrete_function(*specs)
    return lambda *args: graph(*(tf.convert_to_tensor(a, s.dtype) for a, s in zip(args, specs, strict=True)))


def in_flight() -> int:
    """Returns how many batches to compute at a time: two on a CPU; a GPU is full with one, and its memory counts."""
    return 1 if tf.config.list_logical_devices("GPU") else 2


def specs(x: Any) -> tuple[tf.TensorSpec, ...]:
    """Returns the specifications of (pixels, labels, image numbers, seed) of a batch of any size."""
    labels, numbers = (tf.TensorSpec((None,), tf.int32) for _ in range(2))
    return tf.TensorSpec((None, *x.shape[1:]), tf.float32), labels, numbers, tf.TensorSpec((2,), tf.int32)


def stream(seed: int, *counters: int) -> Tensor:
    """Returns the `(2,)` seed of one stream of random numbers, one for each tuple of counters."""
    folded = tf.constant([seed, 0], tf.int32)
    for counter in counters:
        folded = tf.random.experimental.stateless_fold_in(folded, counter)
    return folded


class ImageNoise(backend.Noise):
    """Random numbers that are a function of (seed, folded-in counters, number of the image in the data).

    An image then meets the same random starts in whichever batch it is packed: neither `batch_size` nor what other
    images survived changes a figure, unless the attack's loss couples the rows (feature_scatter, adv_interpolation).

    Args:
        seed: a `(2,)` integer tensor.
        numbers: of the images in the batch, `(B,)` integers.
    """

    def __init__(self, seed: Tensor, numbers: Tensor) -> None:
        super().__init__(seed)
        self._numbers = numbers

    def fold(self, counter: Any) -> ImageNoise:
        return ImageNoise(
            tf.random.experimental.stateless_fold_in(self._seed, tf.cast(counter, tf.int32)), self._numbers
        )

    def _draw(self, distribution: Callable[..., Tensor], x: Tensor) -> Tensor:
        def row(number: Tensor) -> Tensor:
            seed = tf.random.experimental.stateless_fold_in(self._seed, number)
            return distribution(tf.shape(x)[1:], seed=seed, dtype=x.dtype, alg="philox")

        drawn = tf.map_fn(row, self._numbers, fn_output_signature=tf.TensorSpec(x.shape[1:], x.dtype))
        return tf.ensure_shape(drawn, x.shape)
