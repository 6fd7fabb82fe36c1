"""Keeps names of an older release for one more, with a warning that tells the new name."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


def renamed_arguments(**old_to_new: str) -> Callable[[Function], Function]:
    """Returns a decorator for functions that also take arguments by their old names; `register` comes above it."""

    def decorated(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **with_new_names(call, kwargs))

        call.renamed_arguments = old_to_new  # type: ignore[attr-defined]
        return cast(Function, call)

    return decorated


def with_new_names(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments under their new names, and warns of each old one."""
    old_to_new: Mapping[str, str] = getattr(function, "renamed_arguments", {})
    for old in [name for name in arguments if name in old_to_new]:
        warnings.warn(
            f"The argument `{old}` of `{getattr(function, '__name__', function)}` is deprecated: use "
            f"`{old_to_new[old]}`, which means the same.",
            DeprecationWarning,
            stacklevel=4,
        )
    return {old_to_new.get(name, name): value for name, value in arguments.items()}


def renamed(module_name: str, old_to_new: dict[str, Any]) -> Callable[[str], Any]:
    """Returns a module-level `__getattr__` that finds renamed members by their old names and warns of each."""

    def find(name: str) -> Any:
        if name not in old_to_new:
            raise AttributeError(f"module {module_name!r} has no attribute {name!r}")
        new = old_to_new[name]
        warnings.warn(f"`{module_name}.{name}` is deprecated: use `{new.__name__}`.", DeprecationWarning, stacklevel=2)
        return new

    return find
