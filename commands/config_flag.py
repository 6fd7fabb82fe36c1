"""The flag --config. It is apart from `cli`, so that commands without it do not import ml_collections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict
from ml_collections.config_flags import config_flags

from commands.cli import Mistake


def define_config(default: str, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines --config=FILE.py[:ROW], or FILE.json; any field is overridden as --config.field=value.

    Args:
        default: the file that is read where none is named.
        flag_values: where the flag is defined.
    """
    text = "Configuration, FILE.py, FILE.py:ROW or FILE.json."
    config_flags.DEFINE_config_file("config", default, text, flag_values=flag_values)
    flag_values["config"].parser = _ConfigFile("config")  # the file that the command line names is read later


class _ConfigFile(config_flags.ConfigFileFlagParser):
    """Reads JSON files as well as Python files."""

    def parse(self, path: str) -> Any:
        return _locked(Path(path)) if path.endswith(".json") else super().parse(path)


def _locked(path: Path) -> ConfigDict:
    if not path.is_file():
        raise FileNotFoundError(f"Expected --config=FILE.json. Received: {path}, where no file is")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Mistake(f"expected a config as JSON. Received: {error}") from error
    if not isinstance(fields, dict):
        raise Mistake(f"expected a config as JSON, its fields and their values. Received: {type(fields).__name__}")
    return _overridable(fields).lock()


def _overridable(value: Any) -> Any:
    """Returns a JSON value as configs store it: ordered fields, tuples for lists, a placeholder for null."""
    if isinstance(value, dict):
        return ConfigDict({name: _overridable(part) for name, part in value.items()}, sort_keys=False)
    if isinstance(value, list):
        return tuple(value)
    return config_dict.placeholder(object) if value is None else value
