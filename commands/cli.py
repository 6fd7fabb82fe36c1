"""The manners of a command line: a mistake is one line on stderr and an exit code, help comes at once."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags

# Exit codes: what was asked for cannot be done; it was asked for wrongly; it was done, and a gate does not open;
# another machine is gone, and the same command again goes on.
MISTAKE, MISUSE, GATE_FAILED, LOST = 1, 2, 3, 4

WANTED = "expected a classifier saved as FILE.keras"


class Misuse(ValueError):
    """Flags that are no request: expected such as these, received those."""


def run(main: Callable[[list[str]], int | None], define_flags: Callable[[], Any], arguments: str = "") -> NoReturn:
    """Defines and parses the flags, runs `main` and exits: what `main` returns (0), 1 for a mistake, 2 for wrong flags.

    A `ValueError` or `OSError` out of `main` is a mistake of the caller, a `FloatingPointError` a training that
    diverged; their text is the line on stderr, and the variable TFROBUST_TRACEBACK brings the traceback back. Anything
    else is a bug of ours and keeps its own.

    Args:
        main: what the command does, of the arguments as absl leaves them; returns an exit code or None. It imports
            tensorflow itself: `--help` and wrong flags need not wait.
        define_flags: defines them. Not at import: a command can then be imported by another with the same flags.
        arguments: what stands beside the flags, "DIR" or "FILE ..." for the message; empty: nothing may.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if os.environ.get("TFROBUST_TRACEBACK"):
        define_flags()
        sys.exit(main(flags.FLAGS(sys.argv)) or 0)
    try:
        code = main(_parse(sys.argv, define_flags, arguments))
    except Misuse as error:
        _fail(error, MISUSE)
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would fail again, flushing
        sys.exit(MISTAKE)
    except ConnectionError as error:
        _fail(error, LOST)
    except (ValueError, OSError, FloatingPointError) as error:
        _fail(error, MISTAKE)
    sys.exit(code or 0)


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


def _parse(given: list[str], define_flags: Callable[[], Any], wanted: str) -> list[str]:
    app.define_help_flags()
    try:
        define_flags()  # a config flag runs its file at once
        rest = flags.FLAGS(given)
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
    if wanted and len(rest) == 1:
        raise Misuse(f"Expected {wanted}. Received: no argument")
    if len(rest) > (sys.maxsize if wanted.endswith("...") else 1 + bool(wanted)):
        raise Misuse(f"Unexpected arguments: expected {wanted or 'flags alone'}. Received: {' '.join(rest[1:])}")
    return rest


def _fail(error: Exception, code: int) -> NoReturn:
    print(" ".join(str(error).split()), file=sys.stderr)
    sys.exit(code)
