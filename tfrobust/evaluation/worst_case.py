"""The evaluation: per image the worst case over all attacks, each started from the clean image."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfrobust
from tfrobust.attacks.balls import ball as ball_of
from tfrobust.evaluation._graph import stream
from tfrobust.evaluation._images import read
from tfrobust.evaluation._judge import Judge
from tfrobust.evaluation._line_up import line_up
from tfrobust.evaluation.alarms import CHECKS, alarms
from tfrobust.evaluation.report import Report, Result

Tensor = Any
Classify = Callable[[Tensor], Mapping[str, Any]]


def evaluate(
    classifier: keras.Model | Classify,
    data: Any,
    *,
    eps: float,
    norm: str = "linf",
    attacks: str | Sequence[Any] | Mapping[str, Any] = "quick",
    bounds: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
    verbose: bool = True,
) -> Report:
    """Measures how often a classifier is right on clean images and under every one of several attacks.

    robust accuracy = mean over images of [argmax z(x) = y and argmax z(x') = y for every x' that any attack, in any of
    its restarts, found]. Each attack starts from the clean images, on all of those that are classified right; what it
    returns is checked against the ball and the bounds.

    Args:
        classifier: a Keras model with named outputs, `logits` among them, or a callable pixels -> dict with "logits"
            `(B, C)`, in TensorFlow or `keras.ops`: it is traced into the attacks' graphs.
        data: `tf.data.Dataset` of (x, y) batches, or a tuple of arrays (x, y): pixels `(N, H, W, C)` within the bounds,
            labels `(N,)`, `(N, 1)` or one-hot `(N, C)`. Read once and kept in host memory.
        eps: radius of the ball as a fraction of the pixel range (8/255).
        norm: "linf", "l2", or "l1" (its radius is the mean absolute change).
        attacks: name of a suite, a list, or a mapping label -> item. Its items: a name or a config of an attack, made
            with this evaluation's eps, norm and bounds; an `Attack`, which maximizes cross entropy; an `Adversary`; or
            any callable `(classify, x, y) -> x_adv`, called outside a graph with the classifier as given, tensors and
            true labels.
        bounds: least and greatest pixel value.
        batch_size: images in a batch.
        seed: of the random starts, which are functions of (seed, place of the attack in the list, restart, number of
            the image): neither `batch_size` nor another attack changes them. A foreign callable has its own; attacks
            that couple the rows of a batch (feature_scatter, adv_interpolation) do depend on who shares it.
        verbose: print a line for each attack.

    Returns:
        A `Report`.

    Raises:
        ValueError: for a classifier, data or arguments that make no evaluation, and for an attack that returns what is
            not finite, not shaped as the images, or outside the ball or the bounds.

    Example:

    >>> inputs = keras.Input((2, 2, 1))
    >>> outputs = {"logits": keras.layers.Dense(2, kernel_initializer="zeros")(keras.layers.Flatten()(inputs))}
    >>> x, y = np.full((4, 2, 2, 1), 0.5, "float32"), np.array([0, 0, 0, 1])
    >>> report = tfrobust.evaluation.evaluate(keras.Model(inputs, outputs), (x, y), eps=0.1, verbose=False)
    >>> report.clean_accuracy, report.robust_accuracy
    (0.75, 0.75)
    """
    _check_numbers(eps, batch_size, seed)
    ball = ball_of(norm, eps, bounds)
    contestants = line_up(attacks, norm, ball)
    images, classes = read(classifier, data, batch_size, ball.bounds)
    judge = Judge(classifier, ball, images, batch_size)
    say = print if verbose else _silence

    robust = judge.right_clean
    clean = np.flatnonzero(robust)
    say(f"clean: {len(clean)} of {len(images.y)} images right", flush=True)
    results = []
    for place, contestant in enumerate(contestants):
        say(f"{contestant.name}: ", end="", flush=True)
        began = time.perf_counter()
        kept = judge.survivors(contestant, clean, functools.partial(stream, seed, place))
        result = Result(
            contestant.name, contestant.settings, len(kept) / len(images.y), round(time.perf_counter() - began, 3)
        )
        say(f"{len(kept)} of {len(images.y)} images right, {result.seconds:.1f} s", flush=True)
        robust = robust & np.isin(np.arange(len(robust)), kept)
        results.append(result)
    return Report(
        clean_accuracy=len(clean) / len(images.y),
        robust_accuracy=int(robust.sum()) / len(images.y),
        attacks=tuple(results),
        alarms=alarms(judge.evidence()),
        checks=tuple(CHECKS),
        eps=float(eps),
        norm=norm,
        bounds=ball.bounds,
        images=len(images.y),
        classes=classes,
        seed=int(seed),
        batch_size=int(batch_size),
        versions={module.__name__: module.__version__ for module in (tf, keras, tfrobust)},
        robust=robust,
    )


def _check_numbers(eps: Any, batch_size: Any, seed: Any) -> None:
    if not isinstance(eps, (int, float, np.floating)) or not np.isfinite(eps):
        raise ValueError(
            f"Invalid value for `eps`: expected a positive fraction of the pixel range. Received: eps={eps!r}"
        )
    if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"Invalid value for `batch_size`: expected an integer of at least 1. Received: {batch_size!r}")
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise ValueError(f"Invalid value for `seed`: expected an integer from 0 to 2**31 - 1. Received: {seed!r}")


def _silence(*_: Any, **__: Any) -> None:
    pass
