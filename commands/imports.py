"""Imports what a command needs before it computes: this project's packages, and code of one's own.

The latter registers networks, layers, objectives and attacks by their names. A run's config lists it in its field
`imports`, so that every command that loads the run can import it again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags

WAYS = "--import=MODULE or --import=FILE.py"
HINT = f"Code of your own is imported by {WAYS}."
PACKAGES = ("tfrobust_base", "tfrobust", "commands", "export", "trainers", "tuning")  # of this project
BUILT_IN = (*PACKAGES, "builtins", "keras", "tensorflow", "__main__")  # what no config has to list
PAGE = ("matplotlib.figure", "matplotlib.image", "scipy.stats")  # what draws the page of a report
EXPORT = ("export.card", "export.extra", "export.module", "tensorflow_serving.apis.prediction_log_pb2")

_given: list[str] = []  # what --import names


class Failed(ImportError):
    """Is raised where something cannot be imported that a command needs."""


def check_packages() -> None:
    """Checks that no folder on the import path hides a package of this project.

    Raises:
        Failed: if one does; the message names the folder.
    """
    home = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations if spec else None) or ()]
        if home / name not in places:
            found = f"{places[0]}, which hides it" if places else "none"
            wanted = f"Expected the package {name} in {home}: start the command by `tfrobust`, or in another folder"
            raise Failed(f"{wanted}. Received: {found}")


def need(*modules: str) -> None:
    """Imports modules now that are used when everything is computed, so that a broken one is found before."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise Failed(f"Expected the module {name}, which the command uses at its end. Received: {error}") from error


def define_flag(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines --import, which every command takes."""
    text = "MODULE or FILE.py that registers networks, layers, objectives or attacks; as often as there are such."
    flags.DEFINE_multi_string("import", [], text, flag_values=flag_values)


def load_given(arguments: Sequence[str]) -> None:
    """Imports what the flags name, before the others are parsed: a config may name what it registers."""
    found = flags.FlagValues()
    define_flag(found)
    found(list(arguments), known_only=True)
    _given[:] = found["import"].value or []
    for name in filter(None, _given):  # an empty one is refused as every empty flag
        load(name)


def load(name: str) -> ModuleType:
    """Returns the module of a dotted name, or of a file FILE.py, which is imported once.

    Raises:
        Failed: if there is no such module, or its own code fails.
    """
    try:
        return _of_file(Path(name).resolve()) if name.endswith(".py") else importlib.import_module(name)
    except Exception as error:  # the code is the user's, and so is its error
        raise Failed(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _of_file(path: Path) -> ModuleType:
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")  # a lazy module would load itself for its attribute
        if file and Path(file).name == path.name and Path(file).resolve() == path:
            return module
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = re.sub(r"\W", "_", path.stem)
    if importlib.util.find_spec(name):  # the name of another module, which stays as it is
        name += f"_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def load_recorded(imports: Iterable[str], where: object) -> None:
    """Imports what a config lists; what --import names under the same last name, such as a moved file, replaces it."""
    replaced = {_last_name(name) for name in _given}
    for name in imports:
        if _last_name(name) in replaced:
            continue
        try:
            load(name)
        except Failed as error:
            raise Failed(f"{where} needs code of its own: expected {WAYS}. Received: none, and {error}") from error


def load_beside(classifier: str | Path) -> None:
    """Imports what the run lists in whose folder a classifier's file is; nothing for a file elsewhere."""
    file = Path(classifier).with_name("config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(config, dict):
        load_recorded(config.get("imports", ()), file.parent)


def used(config: Mapping[str, Any], classifier: Any = None) -> tuple[str, ...]:
    """Returns a config's `imports`, and the modules that registered what it names and what its classifier contains."""
    import keras

    from tfrobust.utils.registry import Registry

    names = set(_texts(config))
    parts = names | set(_texts(keras.saving.serialize_keras_object(classifier) if classifier is not None else ()))
    registered = [registry.factory(name) for registry in Registry.every for name in names]
    registered += map(keras.saving.get_registered_object, parts)
    modules = {found.__module__ for found in registered if found is not None}
    own = sorted(_entry(name) for name in modules if name.partition(".")[0] not in BUILT_IN)
    return tuple(dict.fromkeys([*config["imports"], *own]))


def missing(file: str | Path) -> list[str]:
    """Returns the classes and functions in a .keras file that nothing has registered, each with its module."""
    import keras

    with zipfile.ZipFile(file) as archive:
        config = json.loads(archive.read("config.json"))
    needed = {part["registered_name"]: part.get("module") for part in _dicts(config) if part.get("registered_name")}
    return [
        f"{name} of the module {module}"
        for name, module in needed.items()
        if keras.saving.get_registered_object(name) is None and str(module).partition(".")[0] != "keras"
    ]


def _last_name(name: str) -> str:
    return Path(name).stem if name.endswith(".py") else name.rpartition(".")[2]


def _entry(module: str) -> str:
    """Returns a module as `imports` lists it: a part of a package by its name, any other by its file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return str(Path(file).resolve()) if file and "." not in module else module


def _texts(value: Any) -> Iterator[str]:
    """Yields the strings among the values of nested dicts and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(part)


def _dicts(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the dicts among the values of nested dicts and lists, the outer ones first."""
    if isinstance(value, Mapping):
        yield value
    if isinstance(value, (Mapping, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _dicts(part)
