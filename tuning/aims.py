"""What a search wants: a score that guides it, and a filter that picks the winner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tfrobust.utils.validation import check_number
from tuning.trials import Result

ROUNDING = 1e-6  # of a share: a history holds those of float32, in which 0.9 is less than 0.9
WORST = -1.0  # no score is lower, nor has a trial that diverged a better one


class Aim(NamedTuple):
    """Robust accuracy, or a weighted sum of both accuracies, with a least clean accuracy.

    Attributes:
        clean_weight: w in w * clean + (1 - w) * robust.
        min_clean_accuracy: of the winner; None: any.
    """

    clean_weight: float = 0.0
    min_clean_accuracy: float | None = None

    def value(self, result: Result) -> float:
        """Returns w * clean + (1 - w) * robust, what the winner has most of."""
        if result.clean_accuracy is None or result.robust_accuracy is None:
            return WORST
        return self.clean_weight * result.clean_accuracy + (1 - self.clean_weight) * result.robust_accuracy

    def lacks(self, result: Result) -> float:
        """Returns by how much the clean accuracy misses its least value, 0 where it does not."""
        if self.min_clean_accuracy is None or result.clean_accuracy is None:
            return 0.0
        lacks = self.min_clean_accuracy - result.clean_accuracy
        return lacks if lacks > ROUNDING else 0.0

    def score(self, result: Result) -> float:
        """Returns what the tuner maximizes: the value less what the constraint lacks, so that it feels the slope."""
        return WORST if result.failed else self.value(result) - self.lacks(result)

    def meets(self, result: Result) -> bool:
        """Whether a trial may win."""
        return not result.failed and self.lacks(result) == 0


def aim_of(search: Mapping[str, Any]) -> Aim:
    """Returns the aim of a config's `search`.

    Raises:
        InvalidArgument: for numbers that are no shares.
    """
    aim = Aim(search["clean_weight"], search["min_clean_accuracy"])
    for name, value in aim._asdict().items():
        if value is not None:
            check_number(f"search.{name}", value, 0, 1)
    return aim


def ranked(results: Iterable[Result], aim: Aim) -> list[int]:
    """Returns the places of those that meet the constraint, the best first, the earlier one of equals."""
    results = list(results)
    return sorted((i for i, r in enumerate(results) if aim.meets(r)), key=lambda i: (-aim.value(results[i]), i))


def front(results: Sequence[Result]) -> list[int]:
    """Returns the places on the Pareto front: no other is better in one accuracy and at least as good in the other."""

    def beaten(one: Result, other: Result) -> bool:
        pairs = [(other.clean_accuracy, one.clean_accuracy), (other.robust_accuracy, one.robust_accuracy)]
        return all(b is not None and a is not None and b >= a for b, a in pairs) and any(b != a for b, a in pairs)

    return [
        i
        for i, result in enumerate(results)
        if not result.failed and not any(beaten(result, other) for other in results)
    ]
