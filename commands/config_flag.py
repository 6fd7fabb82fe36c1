"""The flag --config: a file, Python or JSON, or a packaged one by its name, whose fields can be overridden."""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict
from ml_collections.config_flags import config_flags

from commands import imports
from commands.cli import Mistake, NumberParser
from commands.config import completed, in_order
from tfrobust_base import words


def define_config(default: str, *folders: Path, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines --config, with a default file; --config.FIELD=VALUE overrides a field, and --list_fields lists all.

    The default and those without an ending are names of files in `folders`; see `define_config_file`.
    """
    config_flags.register_flag_parser_for_type(float, NumberParser())
    config_flags.register_flag_parser_for_type(ConfigDict, _FieldsParser())
    flags.DEFINE_bool("list_fields", False, "Print the fields of --config and end.", flag_values=flag_values)
    text = "--config.FIELD=VALUE sets a field, and --list_fields lists them."
    define_config_file(text, *folders, default=default, flag_values=flag_values)


def define_config_file(
    text: str, *folders: Path, default: str | None = None, flag_values: flags.FlagValues = flags.FLAGS
) -> None:
    """Defines --config=FILE.py[:ROW], FILE.json or NAME[:ROW], where NAME.py is in one of the folders."""
    config_flags.DEFINE_config_file(
        "config",
        None,
        f"FILE.py, FILE.json or the NAME of a packaged one, and :ROW. {text}",
        flag_values=flag_values,
    )
    flag_values["config"].parser = _ConfigFile("config", folders)
    if default:
        flag_values.set_default("config", default)


def chosen_config() -> dict[str, Any]:
    """Returns the config of the flags; with --list_fields it prints the fields and ends the command."""
    config = flags.FLAGS.config
    if flags.FLAGS.list_fields:
        print("\n".join(listed(config)))
        sys.exit(0)
    imports.load_recorded(config.get("imports", ()), "The config")
    return config.to_dict()


def listed(config: ConfigDict, path: str = "config") -> Iterator[str]:
    """Yields the flags that set the fields of a config to the values that they have."""
    for name, value in config.items():
        if isinstance(value, ConfigDict) and value:
            yield from listed(value, f"{path}.{name}")
        else:
            yield f"--{path}.{name}={shlex.quote(str(value))}"


class _FieldsParser(flags.ArgumentParser):
    """Reads a group of fields, given as a dict in Python's notation."""

    def parse(self, argument: Any) -> ConfigDict:
        if isinstance(argument, ConfigDict):
            return argument
        try:
            return in_order(dict(ast.literal_eval(argument)))
        except (ValueError, SyntaxError, TypeError) as error:
            expected = f"expected .name={argument} behind the field's name, or all of its fields as a dict"
            raise ValueError(f"{expected}. Received: {argument}") from error


class _ConfigFile(config_flags.ConfigFileFlagParser):
    """Reads JSON files as well as Python files, and adds the options of the network that the command line sets.

    An override needs a field to override. A network has more options than a config sets, and refuses what is none.
    """

    def __init__(self, name: str, folders: Sequence[Path]) -> None:
        super().__init__(name)
        self._folders = folders

    def parse(self, path: str) -> Any:
        config = _read(Path(path)) if path.endswith(".json") else self._made(*path.split(":", 1))
        config.lock()
        for argument in sys.argv:
            override = re.match(rf"--?{self.name}\.model\.(\w+)(=|$)", argument)
            if override and override[1] not in config.model:
                with config.unlocked():
                    config.model[override[1]] = config_dict.placeholder(object)
        return config

    def _made(self, file: str, *row: str) -> ConfigDict:
        """Returns what `get_config` of a Python file returns for a row."""
        if not file.endswith(".py"):
            named = {path.stem: path for folder in reversed(self._folders) for path in folder.glob("[!_]*.py")}
            if file not in named:
                raise Mistake(words.unknown("config", file, ["FILE.py", "FILE.json", *named]))
            file = str(named[file])
        return imports.load(file).get_config(*row)


def _read(path: Path) -> ConfigDict:
    if not path.is_file():
        raise FileNotFoundError(f"Expected --config=FILE.json. Received: {path}, where no file is")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Mistake(f"expected a config as JSON. Received: {error}") from error
    if not isinstance(fields, dict):
        raise Mistake(f"expected a config as JSON, its fields and their values. Received: {type(fields).__name__}")
    return _overridable(completed(fields))


def _overridable(value: Any) -> Any:
    """Returns a JSON value as configs store it: ordered fields, tuples for lists, a placeholder for null."""
    if isinstance(value, dict):
        return ConfigDict({name: _overridable(part) for name, part in value.items()}, sort_keys=False)
    if isinstance(value, list):
        return tuple(value)
    return config_dict.placeholder(object) if value is None else value
