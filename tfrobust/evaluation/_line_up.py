"""What stands in `attacks=`, brought to one form: contestants that have a name, settings and a search."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tfrobust import attacks
from tfrobust.attacks import Adversary, Attack, Ball
from tfrobust.attacks.registry import ATTACKS
from tfrobust.evaluation import suites
from tfrobust.evaluation._graph import ImageNoise, specs, traced
from tfrobust.objectives.terms import adversarial_cross_entropy

Tensor = Any
Search = Callable[[Tensor, Tensor, Tensor, Tensor], Any]  # pixels, labels, numbers of the images, seed -> x_adv

SLACK = 1e-4  # what rounding may add to a radius, relative


class Contestant(NamedTuple):
    """An attack of an evaluation: `search(classifier, x)` makes its search for batches like x, `restarts` times run."""

    name: str
    settings: dict[str, Any]
    restarts: int
    search: Callable[[Any, np.ndarray], Search]


def line_up(given: str | Sequence[Any] | Mapping[str, Any], norm: str, ball: Ball) -> list[Contestant]:
    """Returns the contestants of a suite's name, of a list of items, or of a mapping label -> item.

    Args:
        given: see `evaluate`.
        norm: name of the ball's norm.
        ball: the evaluation's.

    Raises:
        ValueError: for unknown names, what is no attack, a targeted attack, and one whose ball is not the evaluation's.
    """
    if isinstance(given, str):
        if given in attacks.names() and given not in suites.names():
            raise ValueError(f"Invalid value for `attacks`: expected [{given!r}], a list. Received: {given!r}")
        given = suites.get(given, eps=ball.radius, norm=norm, bounds=ball.bounds)
    if not isinstance(given, (list, tuple, Mapping)) or not given:
        raise ValueError(
            f"Invalid value for `attacks`: expected the name of a suite ({', '.join(suites.names())}), or a list (or a "
            f"mapping label -> attack) of at least one attack. Received: {given!r}"
        )
    if isinstance(given, Mapping):
        return [_contestant(item, norm, ball)._replace(name=str(label)) for label, item in given.items()]
    contestants: list[Contestant] = []
    for item in given:
        contestant = _contestant(item, norm, ball)
        again = sum(_plain_name(c.name) == contestant.name for c in contestants)
        contestants.append(contestant._replace(name=f"{contestant.name}#{again + 1}") if again else contestant)
    return contestants


def _contestant(item: Any, norm: str, ball: Ball) -> Contestant:
    if isinstance(item, (str, Mapping)):
        item = _named(item, norm, ball)
    if isinstance(item, Attack):
        item = item.maximizing(adversarial_cross_entropy)
    if isinstance(item, Adversary):
        return _own(item, ball)
    if not callable(item):
        raise ValueError(
            "Invalid attack: expected a name, a config, an Attack, an Adversary or a callable "
            f"`(classify, x, y) -> x_adv`. Received: {item!r}"
        )
    return _foreign(item)


def _named(item: str | Mapping[str, Any], norm: str, ball: Ball) -> Attack | Adversary:
    config = {"name": item} if isinstance(item, str) else dict(item)
    takes = ATTACKS.parameters(config.get("name", ""))
    ours = {"eps": ball.radius, "norm": norm, "bounds": ball.bounds}
    made = attacks.get({"name": None, **{key: value for key, value in ours.items() if key in takes}, **config})
    if type(made.ball) is not type(ball):
        raise ValueError(
            f"Invalid attack {made.name!r}: expected one in the {type(ball).__name__} ball of norm={norm!r}. Received: "
            f"{made!r}, which works in {made.ball!r}"
        )
    return made


def _own(adversary: Adversary, ball: Ball) -> Contestant:
    attack, name = adversary.attack, _name(adversary)
    if attack.targeted:
        raise ValueError(
            f"Invalid attack {name!r}: expected an untargeted one, for the labels are the true ones. "
            "Received: targeted=True"
        )
    theirs = adversary.ball
    larger = type(theirs) is type(ball) and theirs.radius > ball.radius * (1 + SLACK)
    if larger or theirs.bounds != ball.bounds:
        raise ValueError(f"Invalid attack {name!r}: expected it to stay in {ball!r}. Received: one in {theirs!r}")
    # Every restart is a search of its own: an image is fooled if any fools it, whichever has the greatest loss.
    single = copy.copy(adversary)
    single.attack = attack.once()

    def search(classifier: Any, x: np.ndarray) -> Search:
        def run(x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor) -> Tensor:
            return single.search(classifier, x, y, ImageNoise(seed, numbers))

        return traced(run, *specs(x))

    return Contestant(name, _settings(adversary), attack.restarts, search)


def _foreign(attack: Callable[..., Any]) -> Contestant:
    name = str(getattr(attack, "name", None) or getattr(attack, "__name__", None) or type(attack).__name__)
    config = attack.get_config() if hasattr(attack, "get_config") else {}

    def search(classifier: Any, x: np.ndarray) -> Search:
        return lambda x, y, numbers, seed: attack(classifier, x, y)

    return Contestant(name, _plain(config), 1, search)


def _name(adversary: Adversary) -> str:
    return adversary.name if adversary._recipe else adversary.attack.name


def _plain_name(name: str) -> str:
    return name.split("#")[0]


def _settings(adversary: Adversary) -> dict[str, Any]:
    """What an attack was made with, ready for JSON; of one put together by hand, its parts."""
    for member in (adversary, adversary.attack):
        if member._recipe:
            return _plain({**member.get_config(), "loss": adversary.loss})
    return _plain({**vars(adversary.attack), "loss": adversary.loss})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    # An object's default repr holds its address, which no two runs share.
    spoken = repr(value) if type(value).__repr__ is not object.__repr__ else type(value).__name__
    return getattr(value, "__name__", spoken)
