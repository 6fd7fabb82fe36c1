"""What an evaluation needs of TensorFlow: graphs traced once for every batch size, noise that follows the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrobust.utils import graph as backend

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


ImageNoise = backend.NumberedNoise  # an image meets the same random starts in whichever batch it is packed
