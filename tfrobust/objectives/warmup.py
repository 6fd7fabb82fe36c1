"""Objectives that begin as another one: two sets of terms, of which one counts at a time."""

from collections.abc import Mapping

from tfrobust.objectives.objective import Loss, Term
from tfrobust.schedules import From
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.validation import is_number

Weighted = Mapping[str, tuple[Loss, float]]  # name -> loss and weight


def after_warmup(warmup: float, plain: Weighted, full: Weighted) -> dict[str, Term]:
    """Returns the terms of `plain` until the epoch `warmup` and those of `full` from then on; at 0 `full` alone.

    Raises:
        ValueError: for a negative warmup.
    """
    if not (is_number(warmup) and warmup >= 0):
        raise InvalidArgument(
            f"Invalid value for `warmup`: expected a number of epochs of at least 0. Received: {warmup!r}"
        )
    if warmup == 0:
        return {name: Term(loss, weight) for name, (loss, weight) in full.items()}
    return {
        **{name: Term(loss, From(warmup, 0.0, before=weight)) for name, (loss, weight) in plain.items()},
        **{name: Term(loss, From(warmup, weight)) for name, (loss, weight) in full.items()},
    }
