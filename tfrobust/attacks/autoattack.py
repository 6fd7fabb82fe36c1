"""AutoAttack: a cascade of four attacks."""

from typing import Any, NamedTuple

from tfrobust.attacks.apgd import LOSSES
from tfrobust.attacks.base import Attack, Cascade
from tfrobust.attacks.gradient import expectation
from tfrobust.attacks.registry import EPS, get, register
from tfrobust.utils.registry import unknown
from tfrobust.utils.validation import check_integer


class Entry(NamedTuple):
    """Describes a member: its name, its factory with arguments, and the number of draws in a mean of gradients."""

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
# The replacement of a loss that is not defined for so few classes.
INSTEAD = {"dlr_targeted": APGD_DLR, "dlr": APGD_MARGIN}


@register
def autoattack(
    eps: float = EPS,
    *,
    norm: str = "linf",
    version: str = "standard",
    classes: int = 10,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> Cascade:
    """Runs AutoAttack: APGD on cross entropy, APGD and FAB towards 9 classes each, then Square, on survivors in turn.

    Croce and Hein 2020 (Reliable Evaluation of Adversarial Robustness), section 6, with the versions of the authors'
    implementation. With few classes other losses replace those that are not defined: see `substitutes`.

    Args:
        {{eps}}
        {{norm}}
        version: "standard"; "plus": APGD on cross entropy and on DLR and untargeted FAB with 5 restarts each, Square,
            then the two targeted ones; "rand", for classifiers that are random: APGD on cross entropy and on DLR, their
            gradients the mean of 20 draws.
        classes: Number of classes of the classifier.
        {{ball}}

    Returns:
        A `Cascade`, with notes on replaced members.

    Example:

    >>> tfrobust.attacks.autoattack(eps=0.15, classes=2).names
    ('apgd_ce', 'apgd_margin', 'fab_t', 'square')
    """
    threat_model = {"eps": eps, "norm": norm, "bounds": bounds, "mask": mask}
    entries: dict[str, Entry] = {}
    for _, entry in _entries(version, classes):
        entries.setdefault(entry.name, entry)  # a replacement may be a member already
    members = [_make(entry, threat_model) for entry in entries.values()]
    return Cascade(members, list(entries), substitutes(classes, version))


def substitutes(classes: int, version: str = "standard") -> tuple[str, ...]:
    """Returns a sentence for each member that `autoattack` replaces because it is not defined for so few classes."""
    return tuple(
        f"{entry.name} in place of {wanted.name}, whose loss is defined for at least "
        f"{LOSSES[wanted.arguments['loss']].least_classes} classes. Here: {classes} classes"
        for wanted, entry in _entries(version, classes)
        if entry.name != wanted.name
    )


def _entries(version: str, classes: int) -> list[tuple[Entry, Entry]]:
    """Returns the entries of a version, each with the entry that replaces it, or with itself."""
    if version not in VERSIONS:
        raise unknown("version of autoattack", version, VERSIONS)
    check_integer("classes", classes, 2)
    return [(entry, _defined(entry, classes)) for entry in VERSIONS[version]]


def _defined(entry: Entry, classes: int) -> Entry:
    loss = entry.arguments.get("loss")
    if loss is None or LOSSES[loss].least_classes <= classes:
        return entry
    other = _times(INSTEAD[loss], entry.arguments.get("restarts", 1))
    return _defined(other._replace(samples=entry.samples), classes)


def _make(entry: Entry, threat_model: dict[str, Any]) -> Attack:
    attack = get(entry.factory, **threat_model, **entry.arguments)
    return attack if entry.samples == 1 else expectation(attack, samples=entry.samples)
