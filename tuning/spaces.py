"""The space of a search: fields of a config, each with a range or with choices."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tfrobust.attacks import ATTACKS
from tfrobust.models import MODELS
from tfrobust.objectives import OBJECTIVES, search_space
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import Registry, unknown
from tfrobust.utils.validation import is_number

LOG, LINEAR = "log", "linear"


class Range(NamedTuple):
    """Numbers from `low` to `high`, integers if both are; `sampling` is "linear" or "log"."""

    field: str
    low: float
    high: float
    sampling: str = LINEAR

    @property
    def points(self) -> float:
        """The number of values."""
        return self.high - self.low + 1 if self._whole else math.inf

    @property
    def ends(self) -> tuple[Any, ...]:
        """The least and the greatest value."""
        return self.low, self.high

    def declare(self, hyperparameters: Any) -> None:
        """Adds this dimension to KerasTuner's space."""
        kind = hyperparameters.Int if self._whole else hyperparameters.Float
        kind(self.field, self.low, self.high, sampling=self.sampling)

    def value(self, drawn: Any) -> Any:
        """Returns the value of the field for a value that KerasTuner drew."""
        return drawn

    @property
    def _whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


class Choice(NamedTuple):
    """One of several values of one type."""

    field: str
    values: tuple[Any, ...]

    @property
    def points(self) -> float:
        """The number of values."""
        return len(self.values)

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values."""
        return self.values

    def declare(self, hyperparameters: Any) -> None:
        """Adds this dimension to KerasTuner's space."""
        hyperparameters.Choice(self.field, list(self.values))

    def value(self, drawn: Any) -> Any:
        """Returns the value of the field for a value that KerasTuner drew, which is 0 or 1 for a boolean."""
        return self.values[self.values.index(drawn)]


Dimension = Range | Choice


def space_of(config: Mapping[str, Any]) -> list[Dimension]:
    """Returns the dimensions of a config's search: `search.space`, or the weights of its objective.

    Example:

    >>> space_of({"objective": {"name": "trades"}, "search": {"space": ()}})
    [Range(field='objective.beta', low=0.5, high=20.0, sampling='log')]
    """
    given = config["search"]["space"]
    if not given:
        objective = config["objective"]["name"]
        declared = search_space(objective)
        if not declared:
            raise InvalidArgument(
                f"The objective {objective!r} has no space of its own: expected search.space, dicts such as "
                '{"field": "objective.beta", "min": 1.0, "max": 20.0, "sampling": "log"}. Received: none'
            )
        return [Range(f"objective.{argument}", *limits) for argument, limits in declared.items()]
    space = [_dimension(each) for each in given]
    for dimension in space:
        _check_field(config, dimension.field)
    fields = [dimension.field for dimension in space]
    if twice := [field for field in fields if fields.count(field) > 1]:
        raise InvalidArgument(f"Invalid search.space: expected each field once. Received: {twice[0]!r} twice")
    return space


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the config in which fields, named by dotted paths, have other values.

    Example:

    >>> with_values({"objective": {"name": "trades"}}, {"objective.beta": 3.0})
    {'objective': {'name': 'trades', 'beta': 3.0}}
    """
    changed = copy.deepcopy(dict(config))
    for field, value in values.items():
        *path, last = field.split(".")
        part = changed
        for name in path:
            part = part[name]
        part[last] = value
    return changed


def _dimension(given: Any) -> Dimension:
    shapes = ({"field", "min", "max"}, {"field", "min", "max", "sampling"}, {"field", "values"})
    if not isinstance(given, Mapping) or set(given) not in shapes or not isinstance(given["field"], str):
        raise InvalidArgument(
            'Invalid search.space: expected dicts {"field": ..., "min": ..., "max": ..., "sampling": "linear" or '
            f'"log"}} or {{"field": ..., "values": [...]}}. Received: {given!r}'
        )
    if "values" in given:
        return _choice(given["field"], given["values"])
    low, high, sampling = given["min"], given["max"], given.get("sampling", LINEAR)
    name = f"Invalid range of {given['field']!r}"
    if sampling not in (LINEAR, LOG):
        raise unknown(f"sampling of {given['field']!r}", sampling, (LINEAR, LOG))
    if not all(is_number(end) for end in (low, high)):
        raise InvalidArgument(f"{name}: expected finite numbers. Received: min={low!r}, max={high!r}")
    if not low < high:
        raise InvalidArgument(f"{name}: expected min < max. Received: min={low!r}, max={high!r}")
    if sampling == LOG and low <= 0:
        raise InvalidArgument(f"{name}: expected min > 0 with sampling='log'. Received: min={low!r}")
    return Range(given["field"], low, high, sampling)


def _choice(field: str, values: Any) -> Choice:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise InvalidArgument(f"Invalid values of {field!r}: expected a list of at least one. Received: {values!r}")
    kinds = {type(value) for value in values}
    if kinds == {int, float}:
        values, kinds = [float(value) for value in values], {float}
    if len(kinds) > 1 or not kinds <= {int, float, str, bool} or len(set(values)) < len(values):
        raise InvalidArgument(
            f"Invalid values of {field!r}: expected numbers, strings or booleans, all of one kind and each once. "
            f"Received: {values!r}"
        )
    if kinds == {float} and not all(map(math.isfinite, values)):
        raise InvalidArgument(f"Invalid values of {field!r}: expected finite numbers. Received: {values!r}")
    return Choice(field, tuple(values))


# Fields that a trial sets itself or does not read.
_NOT_VARIED = ("epochs", "evaluation", "tables", "paper", "search")
_REGISTRIES: Mapping[str, Registry] = {"objective": OBJECTIVES, "attack": ATTACKS, "model": MODELS}


def _check_field(config: Mapping[str, Any], field: str) -> None:
    *path, last = field.split(".")
    part: Any = {name: value for name, value in config.items() if name not in _NOT_VARIED}
    for depth, name in enumerate([*path, last]):
        known: Iterable[str] = part if isinstance(part, Mapping) else ()
        if depth == 1 and isinstance(part, Mapping) and path[0] in _REGISTRIES:  # arguments with defaults too
            known = {*part, *_REGISTRIES[path[0]].parameters(part.get("name", ""))} - {"name"}
        if name not in known:
            raise unknown("field in search.space", field, [".".join([*path[:depth], each]) for each in known])
        part = part.get(name)
    if isinstance(part, Mapping):
        raise InvalidArgument(f"Invalid field in search.space: expected one with a value. Received: {field!r}, a group")
