"""What a classifier says of a batch of adversaries, and whether they keep to the rules."""

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

SLACK = 1e-4  # what rounding may add to a radius, relative
ROUNDING = 1e-6  # and absolute, in pixel ranges
LEVELS = 255  # steps between black and white in a picture of 8 bits


class Verdict(NamedTuple):
    """Of each row of a batch, all `(B,)` but the first.

    Args:
        logits: `(B, C)` float32; of several draws the mean.
        margin: by how much the label is missed, see `losses.missed_by`; of several draws the mean.
        predicted: the class; -1 where there is no prediction, see `losses.predicted`; of several draws by a vote.
        right: it is the label.
        inside: in the ball, and unchanged where a mask keeps it.
        in_range: pixels are finite and within the bounds.
    """

    logits: np.ndarray
    margin: np.ndarray
    predicted: np.ndarray
    right: np.ndarray
    inside: np.ndarray
    in_range: np.ndarray

    @property
    def allowed(self) -> np.ndarray:
        """Inside the ball and the range."""
        return self.inside & self.in_range

    @property
    def fooled(self) -> np.ndarray:
        """The classifier is wrong on what is allowed. What is not allowed fools nobody, whatever is said of it."""
        return self.allowed & ~self.right


def returned(name: str, x_adv: Any, x: np.ndarray) -> np.ndarray:
    """Returns what an attack returned for the images x, as `(B, H, W, C)` float32.

    Raises:
        ValueError: for a wrong shape.
    """
    z = np.asarray(x_adv)
    if z.shape != x.shape:
        raise InvalidArgument(f"Invalid result of the attack {name!r}: expected shape {x.shape}. Received: {z.shape}")
    return z.astype("float32", copy=False)


def judged(classify: Classify, ball: Ball, x: Tensor, y: Tensor, z: Tensor, draws: int = 1) -> Verdict:
    """Returns the verdict of so many passes on pixels z for the images x and labels y, as tensors; in graph code."""
    logits, margin, predicted = voted(classify, z, y, draws)
    pixels = (1, 2, 3)
    rounding = ROUNDING * ball.width
    inside = ball.distance(z, x) <= ball.radius * (1 + SLACK) + rounding
    kept = ops.where(ball.mask, 0.0, ops.abs(z - x)) if ball.mask is not None else ops.zeros_like(x)
    low, high = ball.bounds
    slack = batch.SLACK * ball.width  # as much as the images themselves may
    return Verdict(
        logits=logits,
        margin=margin,
        predicted=predicted,
        right=predicted == y,
        inside=inside & (ops.max(kept, axis=pixels) <= rounding),
        in_range=ops.all((z >= low - slack) & (z <= high + slack), axis=pixels),  # False for NaN
    )


class Referee:
    """Judges adversaries: `(x, y, z) -> Verdict`, traced once for all batch sizes.

    Args:
        classify: a classifier, or a function pixels -> dict with "logits".
        ball: where adversaries may lie; as much as rounding adds is let pass.
        shape: of a batch of images; its first dimension does not matter.
        draws: passes that vote on each row.
    """

    def __init__(self, classify: Classify, ball: Ball, shape: tuple[int, ...], draws: int = 1) -> None:
        self.given, self.classify = classify, in_inference(classify)  # a callable attack gets what was given
        self.ball = ball
        self.draws = draws
        pixels = tf.TensorSpec((None, *shape[1:]), tf.float32)
        judge = functools.partial(judged, self.classify, ball, draws=draws)
        self._graph = traced(lambda x, y, z: tuple(judge(x, y, z)), pixels, tf.TensorSpec((None,), tf.int32), pixels)

    def __call__(self, x: Any, y: Any, z: Any) -> Verdict:
        return Verdict(*(np.asarray(part) for part in self._graph(x, y, z)))


def rounded(z: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Returns pixels as a picture of 8 bits a channel keeps them."""
    low, high = bounds
    size = (high - low) / LEVELS
    return (low + np.round((z - low) / size) * size).astype("float32")
