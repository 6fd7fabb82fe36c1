"""AutoAttack: four kinds of attack in a row, each on what the ones before left right."""

from __future__ import annotations

from typing import Any, NamedTuple

from tfrobust.attacks import registry
from tfrobust.attacks.apgd import LOSSES
from tfrobust.attacks.base import Cascade, Evasion
from tfrobust.attacks.expectation import expectation
from tfrobust.attacks.threat_model import EPS
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.validation import check_integer


class Entry(NamedTuple):
    """An attack of a suite: its name there, the factory that makes it, with what, and in the mean of how many draws."""

    name: str
    factory: str
    arguments: dict[str, Any]
    samples: int = 1


APGD_CE = Entry("apgd_ce", "apgd", {"loss": "ce"})
APGD_DLR = Entry("apgd_dlr", "apgd", {"loss": "dlr"})
APGD_T = Entry("apgd_t", "apgd", {"loss": "dlr_targeted", "targets": 9})
APGD_MARGIN = Entry("apgd_margin", "apgd", {"loss": "margin"})
FAB = Entry("fab", "fab", {})
FAB_T = Entry("fab_t", "fab", {"targets": 9})
SQUARE = Entry("square", "square", {"queries": 5000})


def _times(entry: Entry, restarts: int) -> Entry:
    return entry._replace(arguments={**entry.arguments, "restarts": restarts})


VERSIONS = {
    "standard": (APGD_CE, APGD_T, FAB_T, SQUARE),
    "plus": (_times(APGD_CE, 5), _times(APGD_DLR, 5), _times(FAB, 5), SQUARE, APGD_T, FAB_T),
    "rand": (APGD_CE._replace(samples=20), APGD_DLR._replace(samples=20)),
}
INSTEAD = {"dlr_targeted": APGD_DLR, "dlr": APGD_MARGIN}  # of a loss that is not defined for so few classes


@registry.register
def autoattack(
    eps: float = EPS,
    *,
    norm: str = "linf",
    version: str = "standard",
    classes: int = 10,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> Cascade:
    """AutoAttack: APGD on cross entropy, APGD and FAB towards 9 classes each, and Square, on the survivors in turn.

    Croce and Hein 2020 (Reliable Evaluation of Adversarial Robustness), section 6, with the versions of the authors'
    implementation. With few classes other losses take the place of those that are not defined: see `substitutes`.

    Args:
        eps: radius in units of the pixels; by itself 8/255 of the pixel range.
        norm: "linf" or "l2".
        version: "standard"; "plus": APGD on cross entropy and on DLR and untargeted FAB with 5 restarts each, Square,
            then the two targeted ones; "rand", for classifiers that are random: APGD on cross entropy and on DLR, their
            gradients the mean of 20 draws.
        classes: that the classifier tells apart.
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change, 0 where not, `(H, W, C)` or `(H, W, 1)`; None: all may. See `Ball`.

    Returns:
        A `Cascade`, with notes on what takes another's place.

    Raises:
        ValueError: for an unknown version, fewer than 2 classes, and what its members refuse.

    Example:

    >>> tfrobust.attacks.autoattack(eps=0.15).names
    ('apgd_ce', 'apgd_t', 'fab_t', 'square')
    >>> tfrobust.attacks.autoattack(eps=0.15, classes=2).names
    ('apgd_ce', 'apgd_margin', 'fab_t', 'square')
    """
    ours = {"eps": eps, "norm": norm, "bounds": bounds, "mask": mask}
    entries: dict[str, Entry] = {}
    for _, entry in _entries(version, classes):
        entries.setdefault(entry.name, entry)  # what takes another's place may be there already
    members = [_make(entry, ours) for entry in entries.values()]
    return Cascade(members, list(entries), substitutes(classes, version))


def substitutes(classes: int, version: str = "standard") -> tuple[str, ...]:
    """Returns sentences on what `autoattack` puts in place of attacks that are not defined for so few classes.

    Args:
        classes: that the classifier tells apart.
        version: of `autoattack`.

    Raises:
        ValueError: see `autoattack`.

    Example:

    >>> substitutes(classes=3)
    ('apgd_dlr in place of apgd_t, whose loss is defined for at least 4 classes. Here: 3 classes',)
    """
    return tuple(
        f"{entry.name} in place of {wanted.name}, whose loss is defined for at least "
        f"{LOSSES[wanted.arguments['loss']].least_classes} classes. Here: {classes} classes"
        for wanted, entry in _entries(version, classes)
        if entry.name != wanted.name
    )


def _entries(version: str, classes: int) -> list[tuple[Entry, Entry]]:
    """Returns the version's entries, each with the one that runs: itself where it is defined for so many classes."""
    if version not in VERSIONS:
        raise unknown("version of autoattack", version, VERSIONS)
    if check_integer("classes", classes) < 2:
        raise InvalidArgument(f"Invalid value for `classes`: expected at least 2. Received: {classes}")
    return [(entry, _defined(entry, classes)) for entry in VERSIONS[version]]


def _defined(entry: Entry, classes: int) -> Entry:
    loss = entry.arguments.get("loss")
    if loss is None or LOSSES[loss].least_classes <= classes:
        return entry
    other = _times(INSTEAD[loss], entry.arguments.get("restarts", 1))
    return _defined(other._replace(samples=entry.samples), classes)


def _make(entry: Entry, ours: dict[str, Any]) -> Evasion:
    attack = registry.get(entry.factory, **ours, **entry.arguments)
    return attack if entry.samples == 1 else expectation(attack, samples=entry.samples)
