"""A weight that learns: the multiplier of a constraint."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfrobust.schedules import is_number

Tensor = Any


class Multiplier:
    """The weight mu of a term under the constraint mean(loss) <= bound: mu <- max(mu + rate * (mean - bound), 0).

    The trainer calls `observe` after each update; mu is one of its variables, so that a checkpoint keeps it.

    Args:
        bound: what the mean of the term's loss may be.
        rate: step of the ascent.
        initial: mu at the start.

    Raises:
        ValueError: for negative numbers.
    """

    def __init__(self, bound: float, rate: float = 0.01, initial: float = 1.0) -> None:
        for name, value in (("bound", bound), ("rate", rate), ("clean_weight", initial)):
            if not (is_number(value) and value >= 0):
                raise ValueError(f"Invalid value for `{name}`: expected a number of at least 0. Received: {value!r}")
        self.bound = bound
        self.rate = rate
        self.initial = initial
        self.variable: Any = None

    def build(self) -> Any:
        """Returns the variable, made at the first call: a trainer calls it where its own variables are made."""
        if self.variable is None:
            self.variable = keras.Variable(
                float(self.initial),
                dtype="float32",
                trainable=False,
                aggregation="only_first_replica",
                name="multiplier",
            )
        return self.variable

    def __call__(self, epoch: Any) -> Tensor:
        """Returns mu, whatever the epoch."""
        return ops.convert_to_tensor(self.initial if self.variable is None else self.variable)

    def observe(self, mean: Tensor) -> None:
        """Takes one step of the ascent on the mean of the term's loss over the global batch."""
        self.variable.assign(ops.maximum(self.variable + self.rate * (mean - self.bound), 0.0))
