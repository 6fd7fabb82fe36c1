"""Scores adversaries: what the classifier predicts for them, and whether they lie in the ball and the pixel range."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from tfrobust.attacks import Ball
from tfrobust.classifiers import in_inference
from tfrobust.data import batch
from tfrobust.evaluation.vote import voted
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.graph import traced

Tensor = Any
Classify = Callable[[Tensor], Mapping[str, Any]]

SLACK = 1e-4  # relative share of a radius that rounding may add
ROUNDING = 1e-6  # absolute change that rounding may add, in pixel ranges
LEVELS = 255  # steps between black and white in an image of 8 bits


class Score(NamedTuple):
    """The outcome of one batch of adversaries; every field but `logits` is `(B,)`.

    Args:
        logits: `(B, C)` float32; of several draws the mean.
        margin: by how much the label is missed, see `losses.missed_by`; of several draws the mean.
        predicted: the class; -1 where there is no prediction, see `losses.predicted`; of several draws by a vote.
        right: whether the predicted class is the label.
        inside: whether the adversary lies in the ball and leaves masked pixels unchanged.
        in_range: whether its pixels are finite and within the bounds.
    """

    logits: np.ndarray
    margin: np.ndarray
    predicted: np.ndarray
    right: np.ndarray
    inside: np.ndarray
    in_range: np.ndarray

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
        raise InvalidArgument(f"Invalid result of the attack {name!r}: expected shape {x.shape}. Received: {z.shape}")
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


class Scorer:
    """Scores adversaries, `(x, y, z) -> Score`, in one graph for all batch sizes.

    Args:
        classify: a classifier, or a function pixels -> dict with "logits".
        ball: where adversaries may lie, up to rounding.
        shape: of a batch of images; its first dimension is not used.
        draws: passes that vote on each row.
    """

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
