"""The aim of a search: the score that the tuner maximizes, and the constraint that the winner meets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tfrobust.utils.validation import check_number
from tuning.trials import Result

ROUNDING = 1e-6  # of accuracies: a history stores float32, in which 0.9 is less than 0.9
WORST = -1.0  # the lowest score, and that of a trial that failed


class Aim(NamedTuple):
    """Robust accuracy, or a weighted sum of both accuracies, with a constraint on clean accuracy."""

    clean_weight: float = 0.0  # w in w * clean + (1 - w) * robust
    min_clean_accuracy: float | None = None  # smallest clean accuracy of the winner; None: any

    def value(self, result: Result) -> float:
        """Returns w * clean + (1 - w) * robust, which the winner maximizes."""
        if result.clean_accuracy is None or result.robust_accuracy is None:
            return WORST
        return self.clean_weight * result.clean_accuracy + (1 - self.clean_weight) * result.robust_accuracy

    def lacks(self, result: Result) -> float:
        """Returns by how much the clean accuracy violates the constraint, at least 0."""
        if self.min_clean_accuracy is None or result.clean_accuracy is None:
            return 0.0
        lacks = self.min_clean_accuracy - result.clean_accuracy
        return lacks if lacks > ROUNDING else 0.0

    def score(self, result: Result) -> float:
        """Returns the value minus the violation of the constraint, which the tuner maximizes."""
        return WORST if result.failed else self.value(result) - self.lacks(result)

    def meets(self, result: Result) -> bool:
        """Returns whether a trial may win."""
        return not result.failed and self.lacks(result) == 0


def aim_of(search: Mapping[str, Any]) -> Aim:
    """Returns the aim of a config's `search`; raises `InvalidArgument` if a number is not in [0, 1]."""
    aim = Aim(search["clean_weight"], search["min_clean_accuracy"])
    for name, value in aim._asdict().items():
        if value is not None:
            check_number(f"search.{name}", value, 0, 1)
    return aim


def ranked(results: Iterable[Result], aim: Aim) -> list[int]:
    """Returns the indices of the results that meet the constraint, the best first, of equal ones the earlier."""
    results = list(results)
    return sorted((i for i, r in enumerate(results) if aim.meets(r)), key=lambda i: (-aim.value(results[i]), i))


def front(results: Sequence[Result]) -> list[int]:
    """Returns the indices of the Pareto front: no other result is better in one accuracy and no worse in the other."""
    done = {i: (result.clean_accuracy, result.robust_accuracy) for i, result in enumerate(results) if not result.failed}

    def beaten(clean: Any, robust: Any) -> bool:
        return any(c >= clean and r >= robust and (c, r) != (clean, robust) for c, r in done.values())

    return [i for i, accuracies in done.items() if not beaten(*accuracies)]
