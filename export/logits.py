"""Differences of logits, which may be -inf: a class that the classifier rules out."""

from __future__ import annotations

import numpy as np


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest |difference| of two arrays of logits; equal ones differ by 0, infinite or not.

    It is NaN where one of them is NaN, which no tolerance allows.
    """
    differences = np.subtract(found, expected, out=np.zeros(np.shape(expected)), where=found != expected)
    return float(np.abs(differences).max())


def largest(logits: np.ndarray) -> float:
    """Returns the largest |logit| among those that are finite; 0 where none is."""
    return float(np.abs(logits[np.isfinite(logits)]).max(initial=0.0))
