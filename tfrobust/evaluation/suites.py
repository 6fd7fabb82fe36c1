"""Suites of attacks by name: functions of (some of) `eps, norm, bounds, classes, mask`.

A suite returns a list (each attack goes on with what those before it left right), a mapping label -> attack (columns:
each starts from all images that are right clean), a `Cascade`, or a `Suite` of one of these with notes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from tfrobust import attacks
from tfrobust.attacks import EPS, Cascade, GradientAttack, cw_linf, pgd
from tfrobust.attacks.view_losses import margin, margin_to_target
from tfrobust.objectives.terms import adversarial_cross_entropy
from tfrobust.utils.registry import Registry

SUITES = Registry("suite", list)
register, get, names = SUITES.register, SUITES.get, SUITES.names

Bounds = tuple[float, float]

SEARCH: dict[str, Any] = {"steps": 50, "start": "uniform", "early_stop": True}
ON_CROSS_ENTROPY: Callable[..., Any] = functools.partial(pgd, **SEARCH, restarts=3, loss=adversarial_cross_entropy)
TARGETS = 9  # wrong classes that a search in L1 reaches for in turn


def _on_margin_to_each(eps: float, **where: Any) -> GradientAttack:
    """Returns PGD in L1 that reaches for one wrong class after the other, for each is reached by few values of its own.

    On digits networks it finds 2 to 4 points more than one search on the margin.
    """
    return pgd(eps, **SEARCH, norm="l1", **where).maximizing(margin_to_target, targets=TARGETS)


ON_MARGIN: dict[str, Callable[..., Any]] = {
    "linf": functools.partial(cw_linf, **SEARCH),
    "l2": functools.partial(pgd, **SEARCH, norm="l2", loss=margin),
    "l1": _on_margin_to_each,
}
WALKS = 2  # of HopSkipJump: another start may lie at a nearer part of the boundary
STEP = 1 / 4  # of eps, 2/255 at 8/255, at every count: FPR and InfoFeature


class Suite(NamedTuple):
    """What a suite runs, and what it left out or put in its place."""

    attacks: Any
    notes: tuple[str, ...] = ()


@register
def quick(eps: float = EPS, norm: str = "linf", bounds: Bounds = (0.0, 1.0), mask: Any = None) -> list[GradientAttack]:
    """PGD-50 on cross entropy from 3 random starts, and 50 steps on the margin (CW in the Linf ball).

    In the L1 ball the margin is that to each of the 9 likeliest wrong classes in turn. What one looks at while
    developing. It overrates classifiers that hide their gradients, and in L1 most others by some points: an alarm says
    so. A search ends with the first point that fools.

    Args:
        eps: radius in units of the pixels.
        norm: "linf", "l2" or "l1".
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change; None: all may.

    Returns:
        A list of adversaries.

    Example:

    >>> [adversary.name for adversary in tfrobust.evaluation.suites.quick(eps=8 / 255)]
    ['pgd', 'cw_linf']
    """
    where = {"bounds": bounds, "mask": mask}
    return [ON_CROSS_ENTROPY(eps, norm=norm, **where), ON_MARGIN[norm](eps, **where)]


@register
def standard(
    eps: float = EPS, norm: str = "linf", bounds: Bounds = (0.0, 1.0), classes: int = 10, mask: Any = None
) -> Cascade:
    """AutoAttack, standard version, and for images that have no gradient two walks along the decision boundary.

    What a figure in a paper or a release should be. The walks find what a classifier hides from all four attacks of
    `attacks.autoattack`: `attacks.boundary` where it is saturated, `attacks.hop_skip_jump` where it gives labels alone.
    Of an honest one they cost a gradient for each image left.

    Args:
        eps: radius in units of the pixels.
        norm: "linf" or "l2".
        bounds: least and greatest pixel value.
        classes: of the classifier; with few, other losses take the place of those that are not defined.
        mask: 1 where a pixel may change; None: all may.

    Returns:
        A cascade, and notes on what takes another's place.

    Example:

    >>> tfrobust.evaluation.suites.standard(classes=2).names
    ('apgd_ce', 'apgd_margin', 'fab_t', 'square', 'boundary', 'hop_skip_jump')
    """
    where: dict[str, Any] = {"norm": norm, "bounds": bounds, "mask": mask}
    four = attacks.autoattack(eps, classes=classes, **where)
    walks = [walk(eps, restarts=4, flat_only=True, **where) for walk in (attacks.boundary, attacks.hop_skip_jump)]
    return Cascade([*four.members, *walks], [*four.names, *(walk.name for walk in walks)], four.notes)


@register
def paper(
    eps: float = EPS, norm: str = "linf", bounds: Bounds = (0.0, 1.0), classes: int = 10, mask: Any = None
) -> dict[str, Any]:
    """The columns of the papers: FGSM, PGD-7/20/100/200, MIM-20, CW-20/30/100, FAB and AutoAttack, each by itself.

    Last iterates; steps of eps / 4 at every count (2/255 at 8/255) from uniform starts, MIM's of eps / 10 from the
    image itself. CW is PGD on the margin.

    Args:
        eps: radius in units of the pixels.
        norm: "linf" or "l2".
        bounds: least and greatest pixel value.
        classes: of the classifier; see `standard`.
        mask: 1 where a pixel may change; None: all may.

    Returns:
        A mapping label -> attack.

    Example:

    >>> list(tfrobust.evaluation.suites.paper())[:5]
    ['FGSM', 'PGD-7', 'PGD-20', 'PGD-100', 'PGD-200']
    """
    where: dict[str, Any] = {"eps": eps, "norm": norm, "bounds": bounds, "mask": mask}
    steps: dict[str, Any] = {"step_size": STEP * eps or None, "start": "uniform"}  # in a ball of radius 0 any will do
    return {
        "FGSM": attacks.fgsm(**where),
        **{f"PGD-{count}": pgd(steps=count, **steps, **where) for count in (7, 20, 100, 200)},
        "MIM-20": attacks.mim(step_size=eps / 10 or None, steps=20, **where),
        **{f"CW-{count}": pgd(steps=count, **steps, **where, loss=margin) for count in (20, 30, 100)},
        "FAB": attacks.fab(**where),
        "AutoAttack": attacks.autoattack(classes=classes, **where),
    }


@register
def black_box(eps: float = EPS, norm: str = "linf", bounds: Bounds = (0.0, 1.0), mask: Any = None) -> Suite:
    """What asks for outputs alone: random noise, Square, SPSA, in the Linf ball local search, and HopSkipJump.

    HopSkipJump reads predicted classes alone, the others the logits. They find what hidden gradients hide; a classifier
    that does worse here than under gradient attacks hides its own. For adversaries of other classifiers put
    `attacks.transfer` in a list.

    Args:
        eps: radius in units of the pixels.
        norm: "linf" or "l2".
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change; None: all may.

    Returns:
        A list of attacks, and a note on what this ball leaves out.

    Example:

    >>> [attack.name for attack in tfrobust.evaluation.suites.black_box(norm="l2").attacks]
    ['random_noise', 'square', 'spsa', 'hop_skip_jump']
    """
    where = {"eps": eps, "bounds": bounds, "mask": mask}
    members = [attacks.get(name, norm=norm, **where) for name in ("random_noise", "square", "spsa")]
    walk = attacks.hop_skip_jump(eps, norm=norm, restarts=WALKS, bounds=bounds, mask=mask)
    if norm == "linf":
        return Suite([*members, attacks.get("local_search", **where), walk])
    return Suite([*members, walk], (f"local_search is left out: it works in the Linf ball. Here: norm={norm!r}",))
