"""Suites of attacks by name: functions `(eps, norm, bounds) -> list of adversaries`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tfrobust._registry import Registry
from tfrobust.attacks import Adversary, cw_linf, pgd
from tfrobust.attacks.cw_linf import margin
from tfrobust.objectives.terms import adversarial_cross_entropy

SUITES = Registry("suite", list)
register, get, names = SUITES.register, SUITES.get, SUITES.names

Bounds = tuple[float, float]

SEARCH: dict[str, Any] = {"steps": 50, "start": "uniform", "keep": "best"}
ON_CROSS_ENTROPY: Callable[..., Any] = functools.partial(pgd, **SEARCH, restarts=3, loss=adversarial_cross_entropy)
ON_MARGIN: dict[str, Callable[..., Any]] = {
    "linf": functools.partial(cw_linf, **SEARCH),
    "l2": functools.partial(pgd, **SEARCH, norm="l2", loss=margin),
    "l1": functools.partial(pgd, **SEARCH, norm="l1", loss=margin),
}


@register
def quick(eps: float = 8 / 255, norm: str = "linf", bounds: Bounds = (0.0, 1.0)) -> list[Adversary]:
    """PGD-50 on cross entropy from 3 random starts, and 50 steps on the margin (CW in the Linf ball).

    What one looks at while developing. It overrates classifiers that hide their gradients.

    Args:
        eps: radius as a fraction of the pixel range.
        norm: "linf", "l2" or "l1".
        bounds: least and greatest pixel value.

    Returns:
        A list of adversaries.

    Example:

    >>> [adversary.name for adversary in tfrobust.evaluation.suites.quick(eps=8 / 255)]
    ['pgd', 'cw_linf']
    """
    return [ON_CROSS_ENTROPY(eps, norm=norm, bounds=bounds), ON_MARGIN[norm](eps, bounds=bounds)]
