"""Compares outputs with the logits of a classifier, which are -inf for a class that it rules out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from commands.cli import Mistake


class Difference(NamedTuple):
    """The largest differences of served outputs from a classifier, and the number of different labels.

    A different label is a tie if the classifier's own logits of both labels are within the tolerance.
    """

    images: int
    logits: float
    probabilities: float
    largest: float  # |logit| of the classifier
    labels: int
    ties: int

    def __str__(self) -> str:
        return (
            f"{self.images} images: largest difference of logits {self.logits:.2g} (of {self.largest:.4g}), "
            f"of probabilities {self.probabilities:.2g}; {self.labels} labels differ, {self.ties} of them ties"
        )


def compare(logits: np.ndarray, served: Mapping[str, np.ndarray], tolerance: float) -> Difference:
    """Returns the difference of served outputs from a classifier's logits.

    Args:
        logits: (images, classes) of the classifier.
        served: `logits` and `probabilities` (images, classes), `label` (images,).
        tolerance: greatest distance of two logits in a tie, as a fraction of the largest |logit|.
    """
    if logits.shape != served["logits"].shape:
        received = f"{logits.shape} of the classifier, {served['logits'].shape} of the server"
        raise Mistake(f"Expected logits (images, classes) of the same classes. Received: {received}")
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=-1, keepdims=True)
    most = largest(logits)
    labels = np.asarray(served["label"], int)
    behind = logits.max(axis=-1) - np.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    differ = labels != logits.argmax(axis=-1)
    return Difference(
        len(logits),
        apart(served["logits"], logits),
        float(np.abs(served["probabilities"] - probabilities).max()),
        most,
        int(differ.sum()),
        int((differ & (behind <= tolerance * most)).sum()),
    )


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest |difference| of two arrays of logits: 0 of equal infinities, NaN if a logit is NaN."""
    differences = np.subtract(found, expected, out=np.zeros(np.shape(expected)), where=found != expected)
    return float(np.abs(differences).max())


def largest(logits: np.ndarray) -> float:
    """Returns the largest finite |logit|, 0 without one."""
    return float(np.abs(logits[np.isfinite(logits)]).max(initial=0.0))
