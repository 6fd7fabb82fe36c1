"""Objectives that begin as another one: two sets of terms, of which one counts at a time."""

from collections.abc import Mapping

from tfrobust.objectives.objective import Loss, Term
from tfrobust.schedules import From
from tfrobust.utils.validation import check_nonnegative

Weighted = Mapping[str, tuple[Loss, float]]  # name -> loss and weight


def after_warmup(warmup: float, plain: Weighted, full: Weighted) -> dict[str, Term]:
    """Returns the terms of `plain` until the epoch `warmup` and those of `full` from then on; at 0 `full` alone.

    Raises:
        ValueError: for a negative warmup.
    """
    check_nonnegative("warmup", warmup, "a number of epochs")
    if warmup == 0:
        return {name: Term(loss, weight) for name, (loss, weight) in full.items()}
    return {
        **{name: Term(loss, From(warmup, 0.0, before=weight)) for name, (loss, weight) in plain.items()},
        **{name: Term(loss, From(warmup, weight)) for name, (loss, weight) in full.items()},
    }
