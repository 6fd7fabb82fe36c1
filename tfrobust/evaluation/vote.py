"""What a classifier says in several passes over the same pixels: a vote, for one that answers differently each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from tfrobust import losses

Tensor = Any


def voted(classify: Callable[[Tensor], Mapping[str, Any]], z: Tensor, y: Tensor, draws: int) -> tuple[Tensor, ...]:
    """Returns logits `(B, C)` and margins `(B,)`, both in the mean of the passes, and the predicted classes `(B,)`.

    Every pass has one vote for the class of its largest logit; one with NaN in its logits votes for no class. The class
    of most votes is predicted, of several classes with equally many the one of the larger mean logit. Where as many
    passes as that voted for no class, none is predicted: -1.

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
    least = -3e38  # of what is compared among those with most votes: no infinity, which marks the others
    ranked = ops.maximum(ops.where(ops.isnan(logits), least, logits), least)
    leading = ops.where(for_classes == most[:, None], ranked, -float("inf"))
    predicted = ops.cast(ops.argmax(leading, axis=-1), "int32")
    return logits, margin, ops.where(for_none >= most, -1, predicted)
