"""Formats shares, durations and values for reports, pages and commands."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np


def percent(share: float) -> str:
    """Returns a share in percent: `97.25 %`."""
    return f"{100 * share:.2f} %"


def duration(seconds: float, decimals: int = 0) -> str:
    """Returns a duration in its usual units: `40 s`, `12 min`, `2 d 1 h 05 min`.

    Args:
        seconds: number of seconds, at least 0.
        decimals: decimals of the seconds, if there are fewer than 90.
    """
    if seconds < 90:
        return f"{seconds:.{decimals}f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d"] * bool(days) + [f"{hours} h"] * bool(days or hours)
    return " ".join([*parts, f"{minutes:02d} min" if parts else f"{minutes} min"])


def short(value: Any, most: int, digits: int = 6) -> str:
    """Returns a value as at most `most` characters; a float has `digits` digits."""
    text = f"{value:.{digits}g}" if isinstance(value, float) else str(value)
    return text if len(text) <= most else text[: most - 1] + "…"


def for_json(value: Any) -> Any:
    """Returns a value that JSON can hold; objects become their names, without addresses in memory."""
    if isinstance(value, Mapping):
        return {str(key): for_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [for_json(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # "inf" or "nan", for which JSON has no numbers
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        return f"array{value.shape}"
    # An object's default repr holds its address, which differs from run to run.
    text = type(value).__name__ if type(value).__repr__ is object.__repr__ else re.sub(r" at 0x\w+", "", repr(value))
    return getattr(value, "__name__", text)
