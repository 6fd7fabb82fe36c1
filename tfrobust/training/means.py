"""Means over the rows that a loss applies to, on this replica and over the global batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument

Tensor = Any


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
