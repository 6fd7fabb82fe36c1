"""Warm-up: one set of terms until an epoch, another from then on."""

from collections.abc import Mapping

from tfrobust.objectives.objective import Loss, Term
from tfrobust.schedules import From
from tfrobust.utils.validation import check_nonnegative

Weighted = Mapping[str, tuple[Loss, float]]  # name -> loss and weight


def after_warmup(warmup: float, before: Weighted, after: Weighted) -> dict[str, Term]:
    """Returns the terms of `before` until the epoch `warmup` and those of `after` from then on; at 0 only `after`.

    Raises:
        ValueError: for a negative warmup.
    """
    check_nonnegative("warmup", warmup, "a number of epochs")
    if warmup == 0:
        return {name: Term(loss, weight) for name, (loss, weight) in after.items()}
    return {
        **{name: Term(loss, From(warmup, 0.0, before=weight)) for name, (loss, weight) in before.items()},
        **{name: Term(loss, From(warmup, weight)) for name, (loss, weight) in after.items()},
    }
