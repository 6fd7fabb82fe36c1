"""What stands in `attacks=`, brought to one form: entries of contestants that have a name, settings and a search."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrobust import attacks
from tfrobust.attacks import ATTACKS, Adversary, Attack, Ball, Cascade, Evasion, Exact
from tfrobust.classifiers import in_inference
from tfrobust.evaluation import suites
from tfrobust.evaluation.scoring import SLACK
from tfrobust.objectives.terms import adversarial_cross_entropy
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.graph import specs, traced
from tfrobust.utils.random import ImageNoise

Tensor = Any
Search = Callable[..., Any]  # pixels, labels, numbers of the images, seed, run -> x_adv

UNKNOWN_COST = (100, 100)  # of an attack that does not say; it only moves the bar of progress


class Contestant(NamedTuple):
    """One attack of an evaluation: an `Evasion`, or a callable `(classify, x, y) -> x_adv`."""

    name: str
    settings: dict[str, Any]
    attack: Any

    @property
    def kind(self) -> str:
        """What alarms compare: "white box" where an attack does not say."""
        return str(getattr(self.attack, "kind", "white box"))

    @property
    def in_graph(self) -> bool:
        """Whether its search is one graph, which several threads may call."""
        return isinstance(self.attack, Evasion)

    @property
    def follows_gradients(self) -> bool:
        """Whether it takes gradients of the classifier under evaluation."""
        return self.in_graph and self.attack.gradients is not None and self.kind == "white box"

    def runs(self, classes: int) -> int:
        """How many runs make it, each on the images that are still right."""
        return self.attack.runs(classes) if self.in_graph else 1

    def far(self, z: np.ndarray, x: np.ndarray, hit: np.ndarray) -> np.ndarray:
        """By how much what fools can still be bettered, `(B,)`: see `Ball.far`; of a callable the first stays."""
        return np.asarray(self.attack.ball.far(z, x, hit)) if self.in_graph else np.where(hit, 0.0, np.inf)

    def cost(self, classes: int) -> int:
        """Forwards and backwards of a run, for one image."""
        try:
            return sum(self.attack.cost(classes)) if self.in_graph else sum(UNKNOWN_COST)
        except NotImplementedError:
            return sum(UNKNOWN_COST)

    def search(self, classifier: Any, x: np.ndarray) -> Search:
        """Returns its search for batches like x; one graph serves all runs."""
        attack = self.attack
        if not self.in_graph:
            return lambda x, y, numbers, seed, run: attack(classifier, tf.convert_to_tensor(x), tf.convert_to_tensor(y))

        def run_in_graph(x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor, run: Tensor) -> Tensor:
            return attack.search(in_inference(classifier), x, y, ImageNoise(seed, numbers), run)

        return traced(run_in_graph, *specs(x), tf.TensorSpec((), tf.int32))


class Entry(NamedTuple):
    """An item of the line-up: one contestant, or the members of a cascade, each on what all before it left right."""

    name: str
    settings: dict[str, Any]
    members: tuple[Contestant, ...]
    has_parts: bool = False
    notes: tuple[str, ...] = ()


class LineUp(NamedTuple):
    """All entries. In columns each starts from all images that are right clean, else from what is still right."""

    entries: tuple[Entry, ...]
    columns: bool
    notes: tuple[str, ...] = ()

    @property
    def contestants(self) -> list[Contestant]:
        """The members of all entries, in order."""
        return [member for entry in self.entries for member in entry.members]


def line_up(given: Any, norm: str, ball: Ball, classes: int | None = None) -> LineUp:
    """Returns the line-up of a suite's name, of a list of items or a cascade, or of a mapping label -> item.

    Args:
        given: see `evaluate`.
        norm: name of the ball's norm.
        ball: the evaluation's.
        classes: of the classifier; None: not known, and not checked.

    Raises:
        ValueError: for unknown names, what is no attack, a targeted attack, one whose ball is not the evaluation's, and
            one that is not defined for so few classes; a suite leaves that one out instead, and notes it.
    """
    notes: list[str] = []
    of_suite = isinstance(given, str)
    if of_suite:
        given, notes = _suite(given, norm, ball, classes)
    if isinstance(given, Cascade):
        notes += given.notes
        given = [_member(name, attack, ball) for name, attack in zip(given.names, given.members, strict=True)]
    if not isinstance(given, (list, tuple, Mapping)) or not given:
        raise InvalidArgument(
            f"Invalid value for `attacks`: expected the name of a suite ({', '.join(suites.names())}), or a list (or a "
            f"mapping label -> attack) of at least one attack. Received: {given!r}"
        )
    items = given.values() if isinstance(given, Mapping) else given
    entries = [_entry(item, norm, ball, classes) for item in items]
    if isinstance(given, Mapping):
        entries = [_labelled(entry, str(label)) for label, entry in zip(given, entries, strict=True)]
        notes += [f"{entry.name}: {note}" for entry in entries for note in entry.notes]
    else:
        entries = _numbered(entries)
        notes += [note for entry in entries for note in entry.notes]
    if classes is not None:
        entries = [kept for entry in entries if (kept := _defined(entry, classes, notes if of_suite else None))]
    if not entries:
        raise InvalidArgument(
            f"No attack of the suite is defined for this classifier: expected others. {' '.join(notes)}"
        )
    return LineUp(tuple(entries), isinstance(given, Mapping), tuple(notes))


def _suite(name: str, norm: str, ball: Ball, classes: int | None) -> tuple[Any, list[str]]:
    if name in attacks.names() and name not in suites.names():
        raise InvalidArgument(f"Invalid value for `attacks`: expected [{name!r}], a list. Received: {name!r}")
    ours = {"eps": ball.radius, "norm": norm, "bounds": ball.bounds, "mask": ball.mask}
    if classes is not None:
        ours["classes"] = classes
    takes = suites.SUITES.parameters(name)
    if ball.mask is not None and takes and "mask" not in takes:
        raise InvalidArgument(f"The suite {name!r} takes no `mask`: expected another suite or a list. Received: a mask")
    made = suites.get(name, **{key: value for key, value in ours.items() if key in takes})
    return (made.attacks, list(made.notes)) if isinstance(made, suites.Suite) else (made, [])


def _entry(item: Any, norm: str, ball: Ball, classes: int | None) -> Entry:
    if isinstance(item, (str, Mapping)):
        item = _named(item, norm, ball, classes)
    if isinstance(item, Cascade):
        members = [_member(name, attack, ball) for name, attack in zip(item.names, item.members, strict=True)]
        return Entry(item.name, _settings(item), tuple(members), True, item.notes)
    contestant = item if isinstance(item, Contestant) else _contestant(item, ball)
    return Entry(contestant.name, contestant.settings, (contestant,))


def _contestant(item: Any, ball: Ball) -> Contestant:
    if isinstance(item, Attack):
        item = item.maximizing(adversarial_cross_entropy)
    if isinstance(item, Evasion):
        return _member(_name(item), item, ball)
    if not callable(item):
        raise InvalidArgument(
            "Invalid attack: expected a name, a config, an Attack, an Adversary or a callable "
            f"`(classify, x, y) -> x_adv`. Received: {item!r}"
        )
    name = str(getattr(item, "name", None) or getattr(item, "__name__", None) or type(item).__name__)
    config = item.get_config() if hasattr(item, "get_config") else {}
    return Contestant(name, plain(config), item)


def _member(name: str, attack: Evasion, ball: Ball) -> Contestant:
    if attack.targeted:
        raise InvalidArgument(
            f"Invalid attack {name!r}: expected an untargeted one, for the labels are the true ones. "
            "Received: targeted=True"
        )
    theirs = attack.ball
    larger = type(theirs) is type(ball) and theirs.radius > ball.radius * (1 + SLACK)
    if larger or theirs.bounds != ball.bounds:
        raise InvalidArgument(f"Invalid attack {name!r}: expected it to stay in {ball!r}. Received: one in {theirs!r}")
    if ball.mask is not None and theirs.mask is None:
        raise InvalidArgument(f"Invalid attack {name!r}: expected the evaluation's `mask`. Received: one that has none")
    return Contestant(name, _settings(attack), attack)


def _named(item: str | Mapping[str, Any], norm: str, ball: Ball, classes: int | None) -> Any:
    config = {"name": item} if isinstance(item, str) else dict(item)
    takes = ATTACKS.parameters(config.get("name", ""))
    ours = {"eps": ball.radius, "norm": norm, "bounds": ball.bounds, "mask": ball.mask}
    if classes is not None and _counts_classes(config.get("name", "")):
        ours["classes"] = classes
    made = attacks.get({"name": None, **{key: value for key, value in ours.items() if key in takes}, **config})
    if type(made.ball) is not type(ball):
        raise InvalidArgument(
            f"Invalid attack {made.name!r}: expected one in the {type(ball).__name__} ball of norm={norm!r}. Received: "
            f"{made!r}, which works in {made.ball!r}"
        )
    return made


def _counts_classes(name: str) -> bool:
    """Whether an attack's argument `classes` is their number, and not which of them its loss reads."""
    parameter = (
        inspect.signature(ATTACKS._factories[name]).parameters.get("classes") if name in attacks.names() else None
    )
    return parameter is not None and isinstance(parameter.default, int)


def _defined(entry: Entry, classes: int, notes: list[str] | None) -> Entry | None:
    """Returns what of an entry is defined for so many classes; without notes to write to it has to be all of it."""
    kept = []
    for member in entry.members:
        least = getattr(member.attack, "least_classes", 2)
        if notes is None and isinstance(member.attack, Evasion):
            member.attack.check_classes(classes)
        if least <= classes or notes is None:
            kept.append(member)
        else:
            notes.append(f"{member.name} is left out: it is defined for at least {least} classes, not for {classes}.")
    return entry._replace(members=tuple(kept)) if kept else None


def _numbered(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries with "#2" and so on behind a name that was there before."""
    named: list[Entry] = []
    for entry in entries:
        again = sum(other.name.split("#")[0] == entry.name for other in named)
        named.append(_labelled(entry, f"{entry.name}#{again + 1}") if again else entry)
    return named


def _labelled(entry: Entry, label: str) -> Entry:
    members = entry.members if entry.has_parts else (entry.members[0]._replace(name=label),)
    return entry._replace(name=label, members=members)


def _name(attack: Evasion) -> str:
    by_hand = isinstance(attack, Adversary) and not attack._recipe
    return attack.attack.name if by_hand else attack.name  # type: ignore[attr-defined]


def _settings(attack: Any) -> dict[str, Any]:
    """What an attack was made with, ready for JSON; of one put together by hand, its parts."""
    if isinstance(attack, Adversary):
        for member in (attack, attack.attack):
            if member._recipe:
                return plain({**member._recipe, "loss": attack.loss, **_drawn(attack)})
        return plain({**vars(attack.attack), "loss": attack.loss})
    return plain({**(attack._recipe or {"name": attack.name}), **_drawn(attack)})


def _drawn(attack: Any) -> dict[str, Any]:
    """The oracle of gradients where it is not the usual one."""
    gradients = getattr(attack, "gradients", None)
    return {} if gradients is None or isinstance(gradients, Exact) else {"gradients": gradients}


def plain(value: Any) -> Any:
    """Returns a value ready for JSON; what JSON does not know is spoken, without addresses."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # "inf" or "nan", for which JSON has no numbers
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        return f"array{value.shape}"
    # An object's default repr holds its address, which no two runs share.
    spoken = type(value).__name__ if type(value).__repr__ is object.__repr__ else re.sub(r" at 0x\w+", "", repr(value))
    return getattr(value, "__name__", spoken)
