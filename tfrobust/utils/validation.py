"""Checks of arguments: each returns the value that it was given, or raises in a sentence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tfrobust.utils.errors import InvalidArgument


def is_number(value: Any, kind: Any = (int, float, np.number)) -> bool:
    """Returns whether a value is a finite number of Python or NumPy, not a truth value and not a text."""
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def check_integer(name: str, value: Any, least: int = 1) -> int:
    """Returns `value` as an int.

    Args:
        name: of the argument, for the error.
        value: an integer of Python or NumPy.
        least: smallest value that is allowed.

    Raises:
        ValueError: if `value` is not an integer of at least `least`.
    """
    if not is_number(value, (int, np.integer)) or value < least:
        raise InvalidArgument(
            f"Invalid value for `{name}`: expected an integer of at least {least}. Received: {value!r}"
        )
    return int(value)


def check_nonnegative(name: str, value: float) -> float:
    """Returns `value`.

    Args:
        name: of the argument, for the error.
        value: a number, not a schedule.

    Raises:
        ValueError: if `value` is not a finite number of at least 0.
    """
    if not (is_number(value) and value >= 0):
        raise InvalidArgument(f"Invalid value for `{name}`: expected a number of at least 0. Received: {value!r}")
    return value
