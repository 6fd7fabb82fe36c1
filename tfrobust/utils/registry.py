"""Registers factories by name: families of objectives, attacks, networks and suites."""

import copy
import functools
import importlib
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar, cast

import keras
import numpy as np

from tfrobust.utils.deprecation import with_new_names
from tfrobust.utils.errors import InvalidArgument, invalid
from tfrobust_base import words

Factory = TypeVar("Factory", bound=Callable[..., Any])
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def unknown(kind: str, received: object, known: Iterable[str]) -> InvalidArgument:
    """Returns the error for a name that is not one of the known ones, with the nearest of these."""
    return InvalidArgument(words.unknown(kind, received, known))


class Unregistered(InvalidArgument):
    """A registry has no member of a name: the code that registers it may not have been imported."""


class OfRange(float):
    """A default that is a fraction of the pixel range, which a registered factory gets in units of its `bounds`."""


class Member:
    """Remembers the name and the arguments of the factory that made it, so that it can be written down and copied."""

    _recipe: dict[str, Any] | None = None
    _as_made: Mapping[str, Any] = {}  # the attributes after the factory has returned
    _compiled: Any = None  # the graphs of its calls, which a copy traces anew

    def __copy__(self) -> Any:
        return _with_attributes(type(self), vars(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        memo[id(self)] = copied = _with_attributes(type(self), {})
        vars(copied).update(copy.deepcopy({**vars(self), "_compiled": None}, memo))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the recipe and the attributes that were changed since: losses are often functions without a name."""
        attributes = {**vars(self), "_compiled": None}
        if self._recipe is None:
            return _with_attributes, (type(self), attributes)
        own = {key: value for key, value in attributes.items() if key not in ("_recipe", "_as_made", "_compiled")}
        changed = {key: value for key, value in own.items() if not _unchanged(value, self._as_made.get(key, self))}
        return _remade, (type(self), self._recipe, changed)

    @property
    def name(self) -> str:
        """The registered name, or the class name of a member that no registered factory made."""
        return self._recipe["name"] if self._recipe else type(self).__name__.lower()

    def get_config(self) -> dict[str, Any]:
        """Returns a dict `{"name": ..., argument: value, ...}` that the family's `get` accepts, ready for JSON.

        An argument that is a function or a network stays one.

        Raises:
            ValueError: if the member was put together by hand rather than by a registered factory.
        """
        if self._recipe is None:
            raise InvalidArgument(
                f"This {type(self).__name__} was put together by hand and cannot be written down as a config: "
                "expected one made by a registered factory. Decorate the function that makes it with `register`."
            )
        return {key: _serialize(value) for key, value in self._recipe.items()}

    def __repr__(self) -> str:
        if self._recipe is None:
            return f"<{type(self).__name__} put together by hand>"
        arguments = ", ".join(f"{k}={_spoken(v)}" for k, v in self._recipe.items() if k != "name")
        return f"{self._recipe['name']}({arguments})"


class Registry:
    """Named factories of one kind; `get` takes a name, a config or an instance, as in Keras."""

    every: ClassVar[list["Registry"]] = []

    def __init__(self, kind: str, *members: type) -> None:
        self.every.append(self)
        self.kind = kind
        self.members = members
        self._factories: dict[str, Callable[..., Any]] = {}

    def names(self) -> list[str]:
        """Returns the registered names, sorted."""
        return sorted(self._factories)

    def import_members(self, package: str) -> dict[str, Callable[..., Any]]:
        """Imports every module of a package, and returns the factories that are registered then, by name."""
        for module in pkgutil.iter_modules(sys.modules[package].__path__):
            importlib.import_module(f"{package}.{module.name}")
        return dict(self._factories)

    def factory(self, name: str) -> Callable[..., Any] | None:
        """Returns the registered factory of a name, or None."""
        return self._factories.get(name)

    def parameters(self, name: str) -> Mapping[str, inspect.Parameter]:
        """Returns the arguments that a factory takes, by name; none for a name that is not registered."""
        return inspect.signature(self._factories[name]).parameters if name in self._factories else {}

    def register(self, factory: Factory) -> Factory:
        """Registers `factory` under its own name; a member that it makes remembers its arguments.

        A default that is an `OfRange` reaches the factory in units of the pixels.
        """
        signature = inspect.signature(factory)

        @functools.wraps(factory)
        def make(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **with_new_names(factory, kwargs))
            except TypeError:
                return factory(*args, **kwargs)  # Python's own message names the factory
            bound.apply_defaults()
            for name, value in bound.arguments.items():
                if isinstance(value, OfRange):
                    bound.arguments[name] = value * _width(bound.arguments["bounds"])
            made = factory(*bound.args, **bound.kwargs)
            if isinstance(made, Member):
                made._recipe = {"name": factory.__name__, **bound.arguments}
                made._as_made = {key: dict(v) if isinstance(v, dict) else v for key, v in vars(made).items()}
            return made

        self._factories[factory.__name__] = make
        return cast(Factory, make)

    def get(self, identifier: Any, **kwargs: Any) -> Any:
        """Returns the member for a name, a config `{"name": ..., argument: value}` or an instance.

        Raises:
            ValueError: for an unknown name (with the nearest known ones) or an argument that the factory does not take.
        """
        if isinstance(identifier, str):
            identifier = {"name": identifier}
        if isinstance(identifier, Mapping) and "name" in identifier:
            return self._make(identifier["name"], {**{k: v for k, v in identifier.items() if k != "name"}, **kwargs})
        if isinstance(identifier, self.members):
            if kwargs:
                raise InvalidArgument(f"Expected arguments only beside a name. Received: {identifier!r} and {kwargs}")
            return identifier
        instances = " or ".join(member.__name__ for member in self.members)
        expected = f"a name, a config dict with a 'name', or an instance of {instances}"
        raise invalid(self.kind, expected, repr(identifier))

    def get_with(self, identifier: str | Mapping[str, Any], **offered: Any) -> Any:
        """Returns the member for a name or a config, with those offered arguments that its factory takes as well.

        Arguments of the config come before the offered ones.
        """
        config = {"name": identifier} if isinstance(identifier, str) else {"name": None, **identifier}
        takes = self.parameters(config["name"])
        return self.get({**{key: value for key, value in offered.items() if key in takes}, **config})

    def _make(self, name: str, arguments: dict[str, Any]) -> Any:
        if name not in self._factories:
            raise Unregistered(words.unknown(self.kind, name, self._factories))
        factory = self._factories[name]
        arguments = with_new_names(factory, arguments)
        parameters = inspect.signature(factory).parameters
        others = [argument for argument in arguments if argument not in parameters]
        if others and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            raise unknown(f"argument of {self.kind} {name!r}", others[0], parameters)
        required = [p for p in parameters.values() if p.default is p.empty and p.kind not in VARIABLE]
        if missing := [p.name for p in required if p.name not in arguments]:
            needs = ", ".join(map(repr, missing))
            raise InvalidArgument(f"The {self.kind} {name!r} needs {needs}. Received: {sorted(arguments)}")
        return factory(**arguments)


def _with_attributes(kind: type, attributes: Mapping[str, Any]) -> Any:
    member: Any = object.__new__(kind)
    vars(member).update(attributes)
    return member


def _remade(kind: Any, recipe: Mapping[str, Any], changed: Mapping[str, Any]) -> Any:
    made = kind.from_config(recipe)
    vars(made).update(changed)
    return made


def _unchanged(value: Any, before: Any) -> bool:
    if isinstance(value, dict) and isinstance(before, dict):
        return value.keys() == before.keys() and all(value[key] is before[key] for key in value)
    return value is before


def _width(bounds: Any) -> float:
    """Returns the pixel range, or 1 for invalid bounds, which the factory refuses in its own words."""
    return float(bounds[1] - bounds[0]) if np.shape(bounds) == (2,) and bounds[0] < bounds[1] else 1.0


def _serialize(value: Any) -> Any:
    if hasattr(value, "_asdict"):  # a named tuple
        return {"name": type(value).__name__, **_serialize(value._asdict())}
    if isinstance(value, (list, tuple)):
        return [_serialize(v) for v in value]
    if isinstance(value, Mapping):
        return {key: _serialize(part) for key, part in value.items()}
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Member):
        return value.get_config()
    if isinstance(value, keras.Model):  # a config of the network would lack its weights
        return value
    return keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value


def _spoken(value: Any) -> str:
    return f"array{value.shape}" if isinstance(value, np.ndarray) else repr(value)
