"""Scores adversaries: computes predictions, and checks that adversaries lie in the ball and the pixel range."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from tfrobust import losses
from tfrobust.attacks import Ball
from tfrobust.classifiers import in_inference
from tfrobust.data import batch
from tfrobust.utils.errors import invalid
from tfrobust.utils.graph import traced
from tfrobust.utils.types import Classify, Tensor

SLACK = 1e-4  # relative share of a radius that rounding may add
ROUNDING = 1e-6  # absolute change that rounding may add, in pixel ranges
LEVELS = 255  # steps between black and white in an image of 8 bits


class Score(NamedTuple):
    """The outcome of a batch of adversaries; every field but `logits`, `(B, C)`, is `(B,)`."""

    logits: np.ndarray  # the mean over the draws
    margin: np.ndarray  # `losses.missed_by`, the mean over the draws
    predicted: np.ndarray  # the predicted class, or -1 where there is no prediction, see `voted`
    right: np.ndarray  # whether the predicted class is the label
    inside: np.ndarray  # whether the adversary lies in the ball and leaves masked pixels unchanged
    in_range: np.ndarray  # whether its pixels are finite and within the bounds

    @classmethod
    def joined(cls, scores: Iterable[Score]) -> Score:
        """Returns the scores of several batches as one."""
        return cls(*map(np.concatenate, zip(*scores, strict=True)))

    @property
    def allowed(self) -> np.ndarray:
        """Whether the adversary lies inside the ball and the pixel range."""
        return self.inside & self.in_range

    @property
    def fooled(self) -> np.ndarray:
        """Whether the classifier is wrong on an adversary that is allowed."""
        return self.allowed & ~self.right


def check_result(name: str, x_adv: Any, x: Any) -> np.ndarray:
    """Returns the pixels that an attack returned for the images x, as `(B, H, W, C)` float32.

    Raises:
        ValueError: if their shape is not that of x.
    """
    z = np.asarray(x_adv)
    if z.shape != x.shape:
        raise invalid(f"result of the attack {name!r}", f"shape {x.shape}", z.shape)
    return z.astype("float32", copy=False)


def score(classify: Classify, ball: Ball, x: Tensor, y: Tensor, z: Tensor, draws: int = 1) -> Score:
    """Returns the `Score` of pixels z for the images x and labels y, as tensors; `draws` passes vote; in graph code."""
    logits, margin, predicted = voted(classify, z, y, draws)
    pixels = (1, 2, 3)
    rounding = ROUNDING * ball.width
    inside = ball.distance(z, x) <= ball.radius * (1 + SLACK) + rounding
    kept = ops.where(ball.mask, 0.0, ops.abs(z - x)) if ball.mask is not None else ops.zeros_like(x)
    low, high = ball.bounds
    slack = batch.SLACK * ball.width  # the tolerance that the clean images have as well
    return Score(
        logits=logits,
        margin=margin,
        predicted=predicted,
        right=predicted == y,
        inside=inside & (ops.max(kept, axis=pixels) <= rounding),
        in_range=ops.all((z >= low - slack) & (z <= high + slack), axis=pixels),  # False for NaN
    )


def voted(classify: Classify, z: Tensor, y: Tensor, draws: int) -> tuple[Tensor, ...]:
    """Returns logits `(B, C)` and margins `(B,)`, both averaged over the passes, and the predicted classes `(B,)`.

    Every pass votes for the class of its largest logit; a pass with NaN in its logits votes for no class. The class
    with the most votes is predicted, and among classes with equal votes the one with the largest mean logit. The
    prediction is -1 if at least as many of the `draws` passes voted for no class.
    """

    def once() -> tuple[Tensor, Tensor, Tensor]:
        logits = ops.cast(classify(z)["logits"], "float32")
        classes, choice = logits.shape[-1], losses.predicted(logits)
        return logits, losses.missed_by(logits, y), ops.one_hot(ops.where(choice < 0, classes, choice), classes + 1)

    def add(_: Tensor, sums: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(total + part for total, part in zip(sums, once(), strict=True))

    sums = once() if draws == 1 else ops.fori_loop(1, draws, add, once())
    logits, margin = sums[0] / draws, sums[1] / draws
    for_classes, for_none = sums[2][:, :-1], sums[2][:, -1]
    most = ops.max(for_classes, axis=-1)
    least = -3e38  # a finite lower bound of the logits: -inf marks the classes with fewer votes
    ranked = ops.maximum(ops.where(ops.isnan(logits), least, logits), least)
    leading = ops.where(for_classes == most[:, None], ranked, -float("inf"))
    predicted = ops.cast(ops.argmax(leading, axis=-1), "int32")
    return logits, margin, ops.where(for_none >= most, -1, predicted)


class Scorer:
    """Scores adversaries, `(x, y, z) -> Score`, in one graph for all batch sizes; `shape` is that of a batch."""

    def __init__(self, classify: Classify, ball: Ball, shape: tuple[int, ...], draws: int = 1) -> None:
        self.given, self.classify = classify, in_inference(classify)  # an attack that is a callable gets `given`
        self.ball = ball
        self.draws = draws
        pixels = tf.TensorSpec((None, *shape[1:]), tf.float32)
        scored = functools.partial(score, self.classify, ball, draws=draws)
        self._graph = traced(lambda x, y, z: tuple(scored(x, y, z)), pixels, tf.TensorSpec((None,), tf.int32), pixels)

    def __call__(self, x: Any, y: Any, z: Any) -> Score:
        return Score(*(np.asarray(part) for part in self._graph(x, y, z)))

    def allowed_and_fooled(self, x: Any, y: Any, z: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns which adversaries are allowed and which fool the classifier, both `(B,)` bool."""
        found = self(x, y, z)
        return found.allowed, found.fooled


def rounded(z: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Returns the pixels after rounding to the 256 levels of an 8-bit image."""
    low, high = bounds
    size = (high - low) / LEVELS
    return (low + np.round((z - low) / size) * size).astype("float32")
