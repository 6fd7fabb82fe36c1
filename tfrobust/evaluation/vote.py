"""Predictions by a vote of several passes, for classifiers that are random."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from tfrobust import losses

Tensor = Any


def voted(classify: Callable[[Tensor], Mapping[str, Any]], z: Tensor, y: Tensor, draws: int) -> tuple[Tensor, ...]:
    """Returns logits `(B, C)` and margins `(B,)`, both averaged over the passes, and the predicted classes `(B,)`.

    Every pass votes for the class of its largest logit; a pass with NaN in its logits votes for no class. The class
    with the most votes is predicted, and among classes with equal votes the one with the largest mean logit. The
    prediction is -1 if at least as many passes voted for no class.

    Args:
        classify: pixels -> dict with "logits".
        z: pixels, `(B, H, W, C)`.
        y: labels, `(B,)`.
        draws: passes, at least 1.
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
