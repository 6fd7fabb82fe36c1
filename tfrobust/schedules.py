"""Numbers that may change while training goes on: a number, or a Keras schedule called with the fractional epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Schedule = float | Callable[[Any], Any]

END = 1e9  # an epoch after the end of every schedule


def value_at(schedule: Schedule, epoch: Any) -> Any:
    """Returns the value of a number or of a schedule at an epoch.

    Args:
        schedule: a number, or a callable such as a `keras.optimizers.schedules.LearningRateSchedule`. It is called with
            the fractional epoch, not with the step: papers give epochs.
        epoch: fractional epoch, a number or a scalar tensor.

    Example:

    >>> ramp = keras.optimizers.schedules.PolynomialDecay(0.0, decay_steps=10, end_learning_rate=0.5)
    >>> value_at(0.3, epoch=7), float(value_at(ramp, epoch=5))
    (0.3, 0.25)
    """
    return schedule(epoch) if callable(schedule) else schedule


def nonnegative(name: str, weight: Schedule) -> Schedule:
    """Returns a weight as it is.

    Raises:
        ValueError: for a negative number or NaN; a schedule is not looked into.
    """
    if not callable(weight) and not weight >= 0:
        raise ValueError(f"Invalid value for `{name}`: expected at least 0, or a schedule. Received: {weight}")
    return weight
