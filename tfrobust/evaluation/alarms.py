"""Signs that an evaluation says less than it seems to: functions of the evidence that return a sentence or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

PASSES = 5


class Evidence(NamedTuple):
    """What the checks look at.

    Args:
        classify: the classifier as it was given.
        x: pixels of the first batch, `(B, H, W, C)`.
        y: its labels, `(B,)`.
        logits: of all clean images, `(N, C)`.
        not_numbers: where logits were NaN ("clean", or an attack's name) -> for how many inputs.
    """

    classify: Callable[[Any], Mapping[str, Any]]
    x: np.ndarray
    y: np.ndarray
    logits: np.ndarray
    not_numbers: Mapping[str, int]


def right(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns where the largest logit is the label's, `(B,)` bool. A prediction with NaN in it is none: it is wrong."""
    return (np.argmax(logits, axis=-1) == y) & ~np.isnan(logits).any(axis=-1)


def nan(evidence: Evidence) -> str | None:
    """Logits that are NaN: gradients are then too, and no attack finds its way."""
    if not evidence.not_numbers:
        return None
    where = ", ".join(f"{count} under {name}" for name, count in evidence.not_numbers.items())
    return f"Logits were NaN for some inputs ({where}); they count as wrong, and gradients there lead no attack."


def probabilities(evidence: Evidence, tolerance: float = 1e-5) -> str | None:
    """Logits that are really probabilities: in [0, 1], with rows that sum to 1. The losses of attacks are flat on them.

    Args:
        evidence: logits of the clean images.
        tolerance: of the sum; AutoAttack's own check (Croce and Hein 2020, their repository).
    """
    logits = evidence.logits
    inside = (logits >= 0).all() and (logits <= 1).all()
    if not inside or not (np.abs(logits.sum(axis=-1) - 1) <= tolerance).all():
        return None
    return "The logits look like probabilities (in [0, 1], sums of 1): attacks are weak on them. Give the logits."


def random(evidence: Evidence, tolerance: float = 1e-4) -> str | None:
    """A classifier that answers differently when asked again: attacks of one look each do not see what it does.

    Args:
        evidence: the first batch, which is classified 5 times.
        tolerance: of the L2 distance of normalized logits; AutoAttack's own check, with its 5 passes.
    """
    passes = [np.asarray(evidence.classify(evidence.x)["logits"], "float32") for _ in range(PASSES)]
    counts = {int(right(logits, evidence.y).sum()) for logits in passes}
    units = [logits / (np.linalg.norm(logits, axis=-1, keepdims=True) + 1e-10) for logits in passes]
    furthest = max(np.linalg.norm(a - b, axis=-1).max() for i, a in enumerate(units) for b in units[:i])
    if len(counts) == 1 and not furthest > tolerance:
        return None
    return (
        f"The classifier is random: {PASSES} passes of one batch differ by up to {furthest:.2g} in normalized logits "
        f"(right: {sorted(counts)} of {len(evidence.y)}). Its accuracies are those of single draws."
    )


CHECKS: dict[str, Callable[[Evidence], str | None]] = {check.__name__: check for check in (nan, probabilities, random)}


def alarms(evidence: Evidence) -> tuple[str, ...]:
    """Returns the sentences of all checks that found something."""
    return tuple(sentence for check in CHECKS.values() if (sentence := check(evidence)))
