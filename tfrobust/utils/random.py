"""Draws seeded noise that does not depend on how a batch is packed or spread over replicas."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrobust.utils.types import Tensor


class Noise:
    """Random numbers that are a function of (seed, folded-in counters, row in the global batch) alone.

    Args:
        seed: an int or a `(2,)` integer tensor.
        first: the first local row's number in the global batch, so that two replicas draw the numbers of one.
    """

    def __init__(self, seed: Any = 0, first: Any = 0) -> None:
        # The `(2,)` seed of this stream.
        self.seed = tf.stack([tf.cast(seed, tf.int32), 0]) if len(tf.convert_to_tensor(seed).shape) == 0 else seed
        self._first = first

    @classmethod
    def of(cls, seed: Any) -> Noise:
        """Returns the noise of a seed; a `Noise` is returned unchanged."""
        return seed if isinstance(seed, Noise) else cls(seed)

    def fold(self, counter: Any) -> Noise:
        """Returns another stream, one for each value of an integer counter."""
        return Noise(tf.random.experimental.stateless_fold_in(self.seed, tf.cast(counter, tf.int32)), self._first)

    def uniform(self, x: Tensor) -> Tensor:
        """Returns uniform numbers in [-1, 1), of the shape of `x`."""
        return self._draw(functools.partial(tf.random.stateless_uniform, minval=-1.0, maxval=1.0), x)

    def normal(self, x: Tensor) -> Tensor:
        """Returns standard normal numbers of the shape of `x`."""
        return self._draw(tf.random.stateless_normal, x)

    def _draw(self, distribution: Callable[..., Tensor], x: Tensor) -> Tensor:
        shape = tf.shape(x)
        if isinstance(self._first, int) and self._first == 0:
            drawn = distribution(shape, seed=self.seed, dtype=x.dtype, alg="philox")
        else:  # a counter-based generator fills in row order: the rows before the local ones are drawn and dropped
            rows = tf.concat([shape[:1] + self._first, shape[1:]], axis=0)
            drawn = distribution(rows, seed=self.seed, dtype=x.dtype, alg="philox")[self._first :]
        return tf.ensure_shape(drawn, x.shape)


class SharedNoise(Noise):
    """One draw `(1, ...)` for all rows of a batch, a function of the seed and the counters alone."""

    def fold(self, counter: Any) -> SharedNoise:
        return SharedNoise(super().fold(counter).seed)

    def _draw(self, distribution: Callable[..., Tensor], x: Tensor) -> Tensor:
        return super()._draw(distribution, x[:1])


class NumberedNoise(Noise):
    """Random numbers that are a function of (seed, folded-in counters, number of the row).

    An image then has the same random starts in every batch: neither `batch_size` nor the other images of its batch
    change a figure, unless the attack's loss couples the rows (feature_scatter, adv_interpolation).

    Args:
        seed: a `(2,)` integer tensor.
        numbers: numbers of the rows, `(B,)` integers, such as those of the images in the data.
    """

    def __init__(self, seed: Tensor, numbers: Tensor) -> None:
        super().__init__(seed)
        self._numbers = numbers

    def fold(self, counter: Any) -> NumberedNoise:
        return NumberedNoise(super().fold(counter).seed, self._numbers)

    def _draw(self, distribution: Callable[..., Tensor], x: Tensor) -> Tensor:
        def row(number: Tensor) -> Tensor:
            seed = tf.random.experimental.stateless_fold_in(self.seed, number)
            return distribution(tf.shape(x)[1:], seed=seed, dtype=x.dtype, alg="philox")

        drawn = tf.map_fn(row, self._numbers, fn_output_signature=tf.TensorSpec(x.shape[1:], x.dtype))
        return tf.ensure_shape(drawn, x.shape)


def stream(seed: int, *counters: int) -> Tensor:
    """Returns the `(2,)` seed of one stream of random numbers, one for each tuple of counters."""
    folded = tf.constant([seed, 0], tf.int32)
    for counter in counters:
        folded = tf.random.experimental.stateless_fold_in(folded, counter)
    return folded


ImageNoise = NumberedNoise  # the rows are images
