"""Makes suites of attacks, by functions of `eps, norm, bounds, classes, mask, source`, or of some of these.

A suite returns a list (each attack runs on the images that those before it left right), a mapping label -> attack
(columns: each runs on all images that are right clean), a `Cascade`, or a `Suite` of one of these with notes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from tfrobust import attacks
from tfrobust.attacks import EPS, Cascade, GradientAttack, cw_linf, pgd
from tfrobust.attacks.view_losses import margin, margin_to_target
from tfrobust.objectives.terms import adversarial_cross_entropy
from tfrobust.utils.registry import Registry
from tfrobust.utils.types import Bounds

SUITES = Registry("suite", list)
register, get, names = SUITES.register, SUITES.get, SUITES.names


SEARCH: dict[str, Any] = {"steps": 50, "start": "uniform", "early_stop": True}
ON_CROSS_ENTROPY: Callable[..., Any] = functools.partial(pgd, **SEARCH, restarts=3, loss=adversarial_cross_entropy)
TARGETS = 9  # number of wrong classes that a search in L1 targets in turn


def _on_margin_to_each(eps: float, **where: Any) -> GradientAttack:
    """Returns targeted PGD in L1 on one wrong class after the other, since each is reached by other pixels.

    On digits networks it finds 2 to 4 points more than one search on the margin.
    """
    return pgd(eps, **SEARCH, norm="l1", **where).maximizing(margin_to_target, targets=TARGETS)


ON_MARGIN: dict[str, Callable[..., Any]] = {
    "linf": functools.partial(cw_linf, **SEARCH),
    "l2": functools.partial(pgd, **SEARCH, norm="l2", loss=margin),
    "l1": _on_margin_to_each,
}
WALKS = 2  # restarts of HopSkipJump, since another start may find a nearer part of the boundary
STEP = 1 / 4  # fraction of eps for every number of steps, 2/255 at 8/255, as in FPR and InfoFeature


QUERIES = 5000  # of Square, as in AutoAttack


class Suite(NamedTuple):
    """The attacks of a suite, and notes on those that it left out or replaced."""

    attacks: Any
    notes: tuple[str, ...] = ()


@register
def quick(eps: float = EPS, norm: str = "linf", bounds: Bounds = (0.0, 1.0), mask: Any = None) -> list[GradientAttack]:
    """PGD-50 on cross entropy from 3 random starts, and 50 steps on the margin (CW in the Linf ball).

    In the L1 ball the margin is that to each of the 9 likeliest wrong classes in turn. The suite is for development: it
    overestimates the robustness of classifiers that hide their gradients, and in L1 that of most others by some points,
    as an alarm says. A search stops at the first point that fools.

    Args:
        eps: radius in units of the pixels.
        norm: norm of the ball: "linf", "l2" or "l1".
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change; None: all may.

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

    Papers and releases should report this suite. The walks succeed on classifiers that hide their gradients from all
    four attacks of `attacks.autoattack`: `attacks.boundary` if the softmax is saturated, `attacks.hop_skip_jump` if the
    classifier gives labels alone. For other classifiers they cost one gradient for each image that is left.

    Args:
        eps, norm, bounds, mask: as in `quick`, without the norm "l1".
        classes: number of classes; with few classes, losses that are not defined are replaced by others.

    Returns:
        A cascade, with notes on replaced losses.

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

    The attacks return their last iterates. Steps are eps / 4 at every count (2/255 at 8/255) from uniform starts, and
    those of MIM eps / 10 from the image itself. CW is PGD on the margin.

    Args:
        eps, norm, bounds, classes, mask: as in `standard`.

    Example:

    >>> list(tfrobust.evaluation.suites.paper())[:5]
    ['FGSM', 'PGD-7', 'PGD-20', 'PGD-100', 'PGD-200']
    """
    where: dict[str, Any] = {"eps": eps, "norm": norm, "bounds": bounds, "mask": mask}
    steps: dict[str, Any] = {"step_size": STEP * eps or None, "start": "uniform"}  # the default in a ball of radius 0
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
    """Attacks by queries: random noise, Square, SPSA, in the Linf ball local search, and HopSkipJump.

    HopSkipJump reads only predicted classes, the others read the logits. They do not depend on gradients: a classifier
    with a lower accuracy here than under gradient attacks hides its gradients. For adversaries of other classifiers put
    `attacks.transfer` in a list.

    Args:
        eps, norm, bounds, mask: as in `quick`, without the norm "l1".

    Returns:
        A `Suite`, with a note if an attack is not defined in this ball.

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


@register
def shipped(
    eps: float = EPS,
    norm: str = "linf",
    bounds: Bounds = (0.0, 1.0),
    classes: int = 10,
    mask: Any = None,
    source: Any = None,
) -> Suite | Cascade:
    """Attacks on a classifier in a file or on a server, see `tfrobust.classifiers.open`: an upper bound of robustness.

    A quantized network hides its gradients, so that each kind of attack alone leaves too many images. With a `source`,
    the float classifier that the file was made of, PGD on the source transfers, then APGD on cross entropy and
    towards 9 classes, FAB and a walk along the boundary follow the source's gradients at the logits of the file
    (straight-through). Square and HopSkipJump query the file itself.

    Args:
        eps, norm, bounds, classes, mask: as in `standard`.
        source: the float classifier; None: queries alone.

    Returns:
        A cascade; without a source a `Suite` with a note.

    Example:

    >>> tfrobust.evaluation.suites.shipped(source=tfrobust.models.get("digits")).names
    ('transfer', 'apgd_ce', 'apgd_t', 'fab_t', 'square', 'boundary', 'hop_skip_jump')
    """
    where: dict[str, Any] = {"norm": norm, "bounds": bounds, "mask": mask}
    walk = attacks.hop_skip_jump(eps, restarts=WALKS, **where)
    if source is None:
        note = (
            "Without the float classifier that the file was made of, all attacks are queries, which leave more images "
            "than gradients do: give it as tfrobust.classifiers.open(path, source=classifier)."
        )
        return Suite([attacks.square(eps, queries=QUERIES, **where), walk], (note,))
    search = attacks.pgd(eps, steps=SEARCH["steps"], start=SEARCH["start"], **where)
    four = attacks.autoattack(eps, classes=classes, **where)
    members = [attacks.transfer(source, search), *four.members, attacks.boundary(eps, **where), walk]
    return Cascade(members, ["transfer", *four.names, "boundary", walk.name], four.notes)
