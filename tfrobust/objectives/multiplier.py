"""A learned weight: the multiplier of a constraint."""

import dataclasses
from typing import Any

from keras import ops

from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_nonnegative


@dataclasses.dataclass(frozen=True)
class Multiplier:
    """Holds the weight mu of a term under a constraint: mu <- max(mu + rate * (mean(loss) - bound), 0).

    The trainer holds mu as a variable, which checkpoints contain, and updates it after each step. The numbers are at
    least 0.

    Args:
        bound: Greatest allowed mean of the term's loss.
        rate: Step of the ascent.
        initial: mu at the start.
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

        `share` is 1/k where an optimizer accumulates the gradients of k batches.
        """
        return ops.maximum(mu + share * self.rate * (mean - self.bound), 0.0)
