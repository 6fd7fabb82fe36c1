"""A learned weight: the multiplier of a constraint."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras import ops

from tfrobust.utils.validation import check_nonnegative

Tensor = Any


@dataclasses.dataclass(frozen=True)
class Multiplier:
    """The weight mu of a term under the constraint mean(loss) <= bound: mu <- max(mu + rate * (mean - bound), 0).

    The trainer holds mu as a variable, which checkpoints contain, and updates it after each step.

    Args:
        bound: greatest allowed mean of the term's loss.
        rate: step of the ascent.
        initial: mu at the start.

    Raises:
        ValueError: for negative numbers.
    """

    bound: float
    rate: float = 0.01
    initial: float = 1.0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            check_nonnegative(name, value)

    def __call__(self, epoch: Any) -> float:
        """Returns the initial value at any epoch; it is the weight outside a trainer."""
        return self.initial

    def next(self, mu: Tensor, mean: Tensor, share: float = 1.0) -> Tensor:
        """Returns mu after one step of the ascent, on the mean of the term's loss over the global batch.

        Args:
            mu: the multiplier before the step.
            mean: of the term's loss.
            share: 1/k where an optimizer accumulates the gradients of k batches.
        """
        return ops.maximum(mu + share * self.rate * (mean - self.bound), 0.0)
