"""Differences of logits, which are -inf for a class that the classifier rules out."""

from __future__ import annotations

import numpy as np


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest |difference| of two arrays of logits; equal ones differ by 0, infinite or not.

    It is NaN if one of them is NaN, which no tolerance allows.
    """
    differences = np.subtract(found, expected, out=np.zeros(np.shape(expected)), where=found != expected)
    return float(np.abs(differences).max())


def largest(logits: np.ndarray) -> float:
    """Returns the largest finite |logit|, 0 without one."""
    return float(np.abs(logits[np.isfinite(logits)]).max(initial=0.0))
