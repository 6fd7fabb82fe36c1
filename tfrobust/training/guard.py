"""Checks each update before it is applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrobust.data.batch import Batch
from tfrobust.utils.errors import demand
from tfrobust.utils.files import replacing
from tfrobust.utils.types import Tensor


class Guard(NamedTuple):
    """Returns gradients if the loss terms are finite and within a limit, else writes the batch to a file and raises.

    Each replica checks its own part of the batch, without communication. The error in the graph is a
    `tf.errors.InvalidArgumentError`, which `plain_errors` converts to a `FloatingPointError`.
    """

    directory: str
    limit: float

    def __call__(
        self, gradients: Sequence[Tensor], terms: Mapping[str, Tensor], update: Tensor, batch: Batch, x_adv: Tensor
    ) -> list[Tensor]:
        """Returns the gradients after a check of the terms, name -> scalar, of an update, which has a number."""
        values = tf.stack([tf.cast(value, tf.float32) for value in terms.values()])
        finite = tf.reduce_all(tf.abs(values) <= self.limit)  # False for NaN
        images = {"x": batch.x, "y": batch.y} | ({} if x_adv is None else {"x_adv": x_adv})

        def report(update: np.ndarray, values: np.ndarray, *arrays: np.ndarray) -> bytes:
            found = next((n, v) for n, v in zip(terms, values, strict=True) if not abs(v) <= self.limit)
            saved = self._save(int(update), dict(zip(images, arrays, strict=True)))
            return (
                f"Diverged at update {update}: expected all terms finite and at most {self.limit:g}. "
                f"Received: {found[0]}={found[1]:g}; {saved}"
            ).encode()

        sentence = tf.cond(
            finite,
            lambda: tf.constant(""),
            lambda: tf.numpy_function(report, [update, values, *images.values()], tf.string),
        )
        with tf.control_dependencies([demand(finite, sentence)]):
            return [None if gradient is None else tf.identity(gradient) for gradient in gradients]

    def _save(self, update: int, arrays: Mapping[str, np.ndarray]) -> str:
        path = Path(self.directory) / f"diverged-{update}.npz"
        try:
            with replacing(path) as beside, beside.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            return f"its batch could not be saved ({error})"
        return f"its batch is in {path}"
