"""Normalizes `attacks=` into a list of named attacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrobust import attacks
from tfrobust.attacks import ATTACKS, L1, L2, Attack, Ball, Cascade, Exact, GradientAttack, Gradients, Linf
from tfrobust.classifiers import Shipped, in_inference
from tfrobust.evaluation import suites
from tfrobust.evaluation.scoring import SLACK
from tfrobust.utils.errors import InvalidArgument, invalid, invalid_value
from tfrobust.utils.graph import specs, traced
from tfrobust.utils.random import ImageNoise
from tfrobust.utils.registry import Unregistered
from tfrobust.utils.text import for_json
from tfrobust.utils.types import Tensor
from tfrobust_base import words

Search = Callable[..., Any]  # pixels, labels, numbers of the images, seed, run -> x_adv

NORMS: dict[type[Ball], str] = {Linf: "linf", L2: "l2", L1: "l1"}
UNKNOWN_COST = (100, 100)  # passes of an attack that does not state its cost, for the progress bar


class NamedAttack(NamedTuple):
    """An attack with the name and the settings that a report shows: an `Attack`, or `(classify, x, y) -> x_adv`."""

    name: str
    settings: dict[str, Any]
    attack: Any

    @property
    def kind(self) -> str:
        """The kind that alarms compare: "white box" for an attack that does not state one."""
        return str(getattr(self.attack, "kind", "white box"))

    @property
    def in_graph(self) -> bool:
        """Whether its search is one graph, which several threads may call."""
        return isinstance(self.attack, Attack)

    @property
    def follows_gradients(self) -> bool:
        """Whether it takes gradients of the classifier under evaluation."""
        return self.in_graph and self.attack.gradients is not None and self.kind == "white box"

    def runs(self, classes: int) -> int:
        """Returns how many runs the attack consists of, each on the images that are still right."""
        return self.attack.runs(classes) if self.in_graph else 1

    def far(self, z: np.ndarray, x: np.ndarray, fooled: np.ndarray) -> np.ndarray:
        """Returns `Ball.far` of adversaries, `(B,)`; for a callable, 0 if they fool and infinity otherwise."""
        return np.asarray(self.attack.ball.far(z, x, fooled)) if self.in_graph else np.where(fooled, 0.0, np.inf)

    def cost(self, classes: int) -> int:
        """Returns the number of forward and backward passes of a run, for one image."""
        try:
            return sum(self.attack.cost(classes)) if self.in_graph else sum(UNKNOWN_COST)
        except NotImplementedError:
            return sum(UNKNOWN_COST)

    def search(self, classifier: Any, x: np.ndarray) -> Search:
        """Returns the search for batches shaped as x; one graph serves all runs."""
        attack = self.attack
        if not self.in_graph:
            return lambda x, y, numbers, seed, run: attack(classifier, tf.convert_to_tensor(x), tf.convert_to_tensor(y))

        def run_in_graph(x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor, run: Tensor) -> Tensor:
            return attack.search(in_inference(classifier), x, y, ImageNoise(seed, numbers), run)

        return traced(run_in_graph, *specs(x), tf.TensorSpec((), tf.int32))


class Entry(NamedTuple):
    """An item of the list: one attack, or the members of a cascade, each for the images that the others left right."""

    name: str
    settings: dict[str, Any]
    members: tuple[NamedAttack, ...]
    has_parts: bool = False
    notes: tuple[str, ...] = ()


class AttackList(NamedTuple):
    """All entries; in columns each starts from all images that are right, else from those that are still right."""

    entries: tuple[Entry, ...]
    columns: bool
    notes: tuple[str, ...] = ()

    @property
    def attacks(self) -> list[NamedAttack]:
        """The members of all entries, in order."""
        return [member for entry in self.entries for member in entry.members]

    def expecting(self, gradients: Gradients) -> AttackList:
        """Returns the list in which the attacks that follow gradients of the classifier follow those of an oracle."""

        if not callable(getattr(gradients, "linear_cost", None)):
            raise invalid_value("gradients", "an oracle, such as attacks.straight_through(layer)", gradients)

        def changed(member: NamedAttack) -> NamedAttack:
            if not member.follows_gradients:
                return member
            attack = member.attack.expecting(gradients)
            return member._replace(attack=attack, settings={**member.settings, "gradients": for_json(attack.gradients)})

        entries = [entry._replace(members=tuple(map(changed, entry.members))) for entry in self.entries]
        notes = [f"Attacks that follow gradients follow those of {for_json(gradients)}."]
        if own := [member.name for member in self.attacks if not member.in_graph]:
            notes.append(f"`gradients` does not reach callables, which take their own: {', '.join(own)}.")
        return self._replace(entries=tuple(entries), notes=(*self.notes, *notes))


def list_attacks(given: Any, ball: Ball, classes: int | None = None, classifier: Any = None) -> AttackList:
    """Returns the attack list of names, of an attack, of a list of items or a cascade, or of a mapping label -> item.

    Args:
        given: `attacks` of `evaluate`; None: the suite "quick", or "shipped" for a classifier without gradients.
        ball: ball of the evaluation.
        classes: number of classes; None if it is not known: the attacks are then not checked against it.
        classifier: the classifier under evaluation; one that was opened from a file may have a source.

    Raises:
        ValueError: for an unknown name, an object that is not an attack, a targeted attack, one whose ball is not that
            of the evaluation, and one that is not defined for so few classes; a suite leaves the last out with a note.
    """
    notes: list[str] = []
    shipped = isinstance(classifier, Shipped) and not classifier.differentiable
    if shipped and given is None:
        notes.append(f"{classifier.name} has no gradients of its own: the suite is 'shipped'.")
    given = ("shipped" if shipped else "quick") if given is None else given
    given = _listed(given) if isinstance(given, str) else given
    of_suite = isinstance(given, str)
    if of_suite:
        given, of_its_own = _suite(given, ball, classes, getattr(classifier, "source", None))
        notes += of_its_own
    if isinstance(given, Cascade):
        notes += given.notes
        given = _members(given, ball)
    elif isinstance(given, Attack):
        given = [given]
    if not isinstance(given, (list, tuple, Mapping)) or not given:
        suite = f"the name of a suite ({', '.join(suites.names())}) or of attacks, with commas"
        raise invalid_value(
            "attacks", f"{suite}, an attack, or a list (or a mapping label -> attack) of at least one attack", given
        )
    columns = isinstance(given, Mapping)
    items = given.values() if isinstance(given, Mapping) else given
    entries = [_entry(item, ball, classes) for item in items]
    if columns:
        entries = [_labelled(entry, str(label)) for label, entry in zip(given, entries, strict=True)]
    else:
        entries = _numbered(entries)
    notes += [f"{entry.name}: {note}" if columns else note for entry in entries for note in entry.notes]
    if classes is not None:
        entries = [kept for entry in entries if (kept := _defined(entry, classes, notes if of_suite else None))]
    if not entries:
        raise InvalidArgument(
            f"No attack of the suite is defined for this classifier: expected others. {' '.join(notes)}"
        )
    return AttackList(tuple(entries), columns, tuple(notes))


def arguments_of(ball: Ball) -> dict[str, Any]:
    """Returns the threat model as the arguments `eps`, `norm`, `bounds` and `mask` that factories take."""
    return {"eps": ball.radius, "norm": NORMS[type(ball)], "bounds": ball.bounds, "mask": ball.mask}


def _listed(text: str) -> str | list[str]:
    """Returns the name of a suite as it is, and names of attacks with commas between them as a list."""
    names = [name.strip() for name in text.split(",")]
    if len(names) == 1 and names[0] not in (known := {*suites.names(), *attacks.names()}):
        raise Unregistered(words.unknown("suite or attack", text, known))
    return names[0] if names[0] in suites.names() and len(names) == 1 else names


def _suite(name: str, ball: Ball, classes: int | None, source: Any) -> tuple[Any, list[str]]:
    takes = suites.SUITES.parameters(name)
    if ball.mask is not None and takes and "mask" not in takes:
        raise InvalidArgument(f"The suite {name!r} takes no `mask`: expected another suite or a list. Received: a mask")
    offered = {**arguments_of(ball), "classes": classes, "source": source}
    offered = {name: value for name, value in offered.items() if value is not None or name == "mask"}
    made = suites.SUITES.get_with(name, **offered)
    return (made.attacks, list(made.notes)) if isinstance(made, suites.Suite) else (made, [])


def _entry(item: Any, ball: Ball, classes: int | None) -> Entry:
    if isinstance(item, (str, Mapping)):
        item = _from_config(item, ball, classes)
    if isinstance(item, Cascade):
        return Entry(item.name, _settings(item), tuple(_members(item, ball)), True, item.notes)
    attack = item if isinstance(item, NamedAttack) else _named(item, ball)
    return Entry(attack.name, attack.settings, (attack,))


def _named(item: Any, ball: Ball) -> NamedAttack:
    if isinstance(item, Attack):
        return _member(item.name, item, ball)
    if not callable(item):
        raise invalid("attack", "a name, a config, an Attack or a callable `(classify, x, y) -> x_adv`", repr(item))
    name = str(getattr(item, "name", None) or getattr(item, "__name__", None) or type(item).__name__)
    config = item.get_config() if hasattr(item, "get_config") else {}
    return NamedAttack(name, for_json(config), item)


def _members(cascade: Cascade, ball: Ball) -> list[NamedAttack]:
    return [_member(name, attack, ball) for name, attack in zip(cascade.names, cascade.members, strict=True)]


def _member(name: str, attack: Attack, ball: Ball) -> NamedAttack:
    if attack.targeted:
        raise invalid(f"attack {name!r}", "an untargeted one, since the labels are the true ones", "targeted=True")
    theirs = attack.ball
    larger = type(theirs) is type(ball) and theirs.radius > ball.radius * (1 + SLACK)
    if larger or theirs.bounds != ball.bounds:
        raise invalid(f"attack {name!r}", f"it to stay in {ball!r}", f"one in {theirs!r}")
    if ball.mask is not None and theirs.mask is None:
        raise invalid(f"attack {name!r}", "the evaluation's `mask`", "one that has none")
    return NamedAttack(name, _settings(attack), attack)


def _from_config(item: str | Mapping[str, Any], ball: Ball, classes: int | None) -> Any:
    config = {"name": item} if isinstance(item, str) else dict(item)
    made = ATTACKS.get_with(config, **arguments_of(ball))
    recipe = (made._recipe or {}) if isinstance(made, Cascade) else {}
    if classes is not None and "classes" in recipe and "classes" not in config:
        made = attacks.get({**recipe, "classes": classes})  # the members of a cascade depend on the number of classes
    if type(made.ball) is not type(ball):
        expected = f"one in the {type(ball).__name__} ball of norm={NORMS[type(ball)]!r}"
        raise invalid(f"attack {made.name!r}", expected, f"{made!r}, which works in {made.ball!r}")
    return made


def _defined(entry: Entry, classes: int, notes: list[str] | None) -> Entry | None:
    """Returns the entry with the members that are defined for so many classes; without `notes` all have to be."""
    kept = []
    for member in entry.members:
        least = getattr(member.attack, "least_classes", 2)
        if notes is None and isinstance(member.attack, Attack):
            member.attack.check_classes(classes)
        if least <= classes or notes is None:
            kept.append(member)
        else:
            notes.append(f"{member.name} is left out: it is defined for at least {least} classes, not for {classes}.")
    return entry._replace(members=tuple(kept)) if kept else None


def _numbered(entries: Sequence[Entry]) -> list[Entry]:
    """Returns the entries with "#2" and so on appended to names that repeat."""
    named: list[Entry] = []
    for entry in entries:
        again = sum(other.name.split("#")[0] == entry.name for other in named)
        named.append(_labelled(entry, f"{entry.name}#{again + 1}") if again else entry)
    return named


def _labelled(entry: Entry, label: str) -> Entry:
    members = entry.members if entry.has_parts else (entry.members[0]._replace(name=label),)
    return entry._replace(name=label, members=members)


def _settings(attack: Any) -> dict[str, Any]:
    """Returns the arguments that an attack was made with, ready for JSON; without a factory, its attributes."""
    settings = dict(attack._recipe or {"name": attack.name})
    if isinstance(attack, GradientAttack):
        parts = {name: part for name, part in vars(attack).items() if not name.startswith("_")}
        settings = {**(attack._recipe or parts), "loss": attack.effective_loss}
    gradients = getattr(attack, "gradients", None)
    if gradients is not None and not isinstance(gradients, Exact):
        settings["gradients"] = gradients
    return for_json(settings)
