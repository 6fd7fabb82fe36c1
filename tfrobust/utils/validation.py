"""Checks arguments; each function returns the value or raises `InvalidArgument`."""

import math
from typing import Any

import numpy as np

from tfrobust.utils.errors import invalid_value


def is_number(value: Any, kind: Any = (int, float, np.number)) -> bool:
    """Returns whether a value is a finite number of Python or NumPy, and not a bool."""
    return isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)


def check_integer(name: str, value: Any, least: int | None = 1, most: int | None = None) -> int:
    """Returns an integer of Python or NumPy as an int, or raises `InvalidArgument` if it is not from `least` to `most`.

    None as a bound allows any value; `most` needs `least`.
    """
    if not is_number(value, (int, np.integer)) or not _inside(value, least, most):
        allowed = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
        raise invalid_value(name, f"an integer{allowed}", value)
    return int(value)


def check_number(
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    *,
    above: bool = False,
    below: bool = False,
    expected: str = "a number",
) -> float:
    """Returns a finite number of Python or NumPy, or raises `InvalidArgument` if it is not from `least` to `most`.

    Args:
        name: name of the argument, for the error.
        value: a number, not a schedule.
        least: smallest allowed value; None: any.
        most: greatest allowed value; None: any. It needs `least`.
        above: whether `value` must be greater than `least`; without `most`, `least` is 0.
        below: whether `value` must be less than `most`.
        expected: description of the number, for the error.

    Example:

    >>> check_number("rate", 0.5, 0, 1, below=True)
    0.5
    """
    valid = is_number(value) and _inside(value, least, most)
    if not valid or (above and value == least) or (below and value == most):
        if least is not None and most is not None:
            expected += f" in {'(' if above else '['}{least:g}, {most:g}{')' if below else ']'}"
        elif above:
            expected = f"a positive {expected.removeprefix('a ')}"
        elif least is not None:
            expected += f" of at least {least:g}"
        raise invalid_value(name, expected, value)
    return value


def check_nonnegative(name: str, value: Any, expected: str = "a number") -> float:
    """Returns `value`, a finite number of at least 0; see `check_number`."""
    return check_number(name, value, 0, expected=expected)


def _inside(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)
