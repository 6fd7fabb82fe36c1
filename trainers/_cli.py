"""The manners of a command line: a mistake is one line on stderr and an exit code, help comes at once."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags
from ml_collections import ConfigDict, config_dict
from ml_collections.config_flags import config_flags

# Exit codes: what was asked for cannot be done; it was asked for wrongly; it was done, and a gate does not open;
# another machine is gone, and the same command again goes on.
MISTAKE, MISUSE, GATE_FAILED, LOST = 1, 2, 3, 4

WANTED = "expected a classifier saved as FILE.keras"


class Misuse(ValueError):
    """Flags that are no request: expected such as these, received those."""


def run(main: Callable[[list[str]], int | None], define_flags: Callable[[], Any]) -> NoReturn:
    """Defines and parses the flags, runs `main` and exits: what `main` returns (0), 1 for a mistake, 2 for wrong flags.

    A `ValueError` or `OSError` out of `main` is a mistake of the caller, a `FloatingPointError` a training that
    diverged; their text is the line on stderr, and the variable TFROBUST_TRACEBACK brings the traceback back. Anything
    else is a bug of ours and keeps its own.

    Args:
        main: what the command does, of the arguments as absl leaves them; returns an exit code or None. It imports
            tensorflow itself: `--help` and wrong flags need not wait.
        define_flags: defines them. Not at import: a command can then be imported by another with the same flags.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if os.environ.get("TFROBUST_TRACEBACK"):
        define_flags()
        sys.exit(main(flags.FLAGS(sys.argv)) or 0)
    try:
        code = main(_parse(sys.argv, define_flags))
    except Misuse as error:
        _fail(error, MISUSE)
    except ConnectionError as error:
        _fail(error, LOST)
    except (ValueError, OSError, FloatingPointError) as error:
        _fail(error, MISTAKE)
    sys.exit(code or 0)


def define_config(default: str, flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines --config=FILE.py[:ROW], or FILE.json; any field is overridden as --config.field=value.

    Args:
        default: the file that is read where none is named.
        flag_values: where the flag is defined.
    """
    text = "Configuration, FILE.py, FILE.py:ROW or FILE.json."
    config_flags.DEFINE_config_file("config", default, text, flag_values=flag_values)
    flag_values["config"].parser = _ConfigFile("config")  # a file that the command line names has not been read yet


class _ConfigFile(config_flags.ConfigFileFlagParser):
    """Reads JSON beside what ml_collections reads, Python."""

    def parse(self, path: str) -> Any:
        return _locked(Path(path)) if path.endswith(".json") else super().parse(path)


def _locked(path: Path) -> ConfigDict:
    if not path.is_file():
        raise FileNotFoundError(f"Expected --config=FILE.json. Received: {path}, where no file is")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"expected a config as JSON. Received: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"expected a config as JSON, its fields and their values. Received: {type(fields).__name__}")
    return _overridable(fields).lock()


def _overridable(value: Any) -> Any:
    """Returns a JSON value as configs hold it: fields in their order, lists as tuples, null as what may be anything."""
    if isinstance(value, dict):
        return ConfigDict({name: _overridable(part) for name, part in value.items()}, sort_keys=False)
    if isinstance(value, list):
        return tuple(value)
    return config_dict.placeholder(object) if value is None else value


def check_one_of(workdir: str | None, model: str | None) -> None:
    """Refuses both a run's folder and a classifier's file, and neither.

    Raises:
        Misuse: for both or neither.
    """
    if bool(workdir) == bool(model):
        received = "both" if model else "neither"
        raise Misuse(f"Expected one of --workdir=DIR and --model=FILE. Received: {received}")


def check_classifier_file(path: str | Path) -> None:
    """Refuses what is no .keras file; needs no tensorflow.

    Raises:
        FileNotFoundError: where no file is.
        ValueError: for a file of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No classifier: {WANTED}. Received: {path}, where no file is")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise ValueError(f"No classifier: {WANTED}. Received: {path}, which is no .keras file")


def load_classifier(path: str | Path) -> Any:
    """Returns the classifier of a .keras file; what is none is found before tensorflow is imported.

    Raises:
        FileNotFoundError: where no file is.
        ValueError: for a file that is no saved classifier.
    """
    check_classifier_file(path)
    import keras

    import tfrobust  # noqa: F401  registers the layers that a classifier may hold

    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises whatever the first missing piece makes of itself
        raise ValueError(f"{path} cannot be loaded: {WANTED}. Received: {type(error).__name__}: {error}") from error


def _parse(arguments: list[str], define_flags: Callable[[], Any]) -> list[str]:
    app.define_help_flags()
    try:
        define_flags()  # a config flag runs its file at once
        rest = flags.FLAGS(arguments)
    except SystemExit:  # absl has printed the help that was asked for, and would exit with 1
        sys.exit(0)
    except (ValueError, OSError, AttributeError, LookupError, TypeError, ImportError, SyntaxError) as error:
        # A config flag runs its file and sets its fields, and lets all of this through.
        text = str(error.args[0] if isinstance(error, KeyError) else error)
        raise Misuse(
            f"Unknown field or invalid config: {text}" if isinstance(error, LookupError | AttributeError) else text
        ) from error
    except flags.Error as error:  # some of them quote a traceback: its last line says what is wrong
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise Misuse(lines[-1] if "Traceback" in str(error) else str(error)) from error
    if len(rest) > 1:
        raise Misuse(f"Unexpected arguments: expected flags alone. Received: {' '.join(rest[1:])}")
    return rest


def _fail(error: Exception, code: int) -> NoReturn:
    print(" ".join(str(error).split()), file=sys.stderr)
    sys.exit(code)
