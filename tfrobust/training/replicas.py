"""Reductions over the replicas of a step: means over the rows that a loss applies to, and clipped gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfrobust.utils import graph as backend
from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Tensor


class Mean:
    """Per-example values, the rows that count, and the weight of their mean in the loss."""

    def __init__(self, values: Tensor, rows: Tensor, weight: Tensor = 1.0) -> None:
        self.weight = weight
        self.count = tf.reduce_sum(rows)
        self._sum = tf.reduce_sum(tf.where(rows > 0, values, 0.0))

    # No cached properties: replicas share their lock, and one that waits in a collective operation holds it.

    @property
    def local_mean(self) -> Tensor:
        """The mean over this replica's rows, which a Keras metric averages by count."""
        return self._sum / tf.maximum(self.count, 1.0)

    @property
    def global_mean(self) -> Tensor:
        """This replica's part of the mean over the global batch: the parts are summed with the gradients."""
        return self._sum / tf.maximum(backend.global_sum(self.count), 1.0)


def side(name: str, sides: set[str], attacked: Tensor | None) -> Tensor:
    """Returns a mask of the rows that a loss applies to: with a share below 1, the clean or the attacked rows."""
    if attacked is None or not sides:
        return 1.0
    if len(sides) > 1:
        raise InvalidArgument(
            f"With a share below 1 clean and attacked rows are different images: expected a loss that reads one side. "
            f"Received: {name!r}, which reads {sorted(sides)}"
        )
    return tf.cast(attacked if "adv" in sides else ~attacked, tf.float32)


def clipped(gradients: Sequence[Tensor], optimizer: Any) -> list[Tensor]:
    """Returns gradients for which the optimizer's own clipping has the same result on any number of replicas as on one.

    Keras clips the part of each replica and then sums them. Here the sum is clipped, and each replica returns an equal
    share of it, which is too small to be clipped again. The gradients are those of the local batch, None for an unused
    variable, as `optimizer.apply_gradients` takes them.
    """
    inner = backend.unscaled(optimizer)
    clips = inner.clipnorm or inner.global_clipnorm or inner.clipvalue
    if backend.replicas() == 1 or not clips:
        return list(gradients)
    scale = optimizer.scale_loss(1.0)
    given = [gradient is not None for gradient in gradients]
    sums = [backend.global_sum(gradient) / scale for gradient in gradients if gradient is not None]
    shares = iter([gradient * scale / backend.replicas() for gradient in keras_private.clip_gradients(inner, sums)])
    return [next(shares) if there else None for there in given]
