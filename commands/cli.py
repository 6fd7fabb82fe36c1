"""Runs the commands: a user's mistake is one line on stderr and an exit code, and help needs no TensorFlow."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags

from commands import imports

# Exit codes: the request cannot be carried out; the flags are wrong; the command ran and a gate failed; another machine
# was lost, and the same command continues the run.
MISTAKE, MISUSE, GATE_FAILED, LOST = 1, 2, 3, 4
INTERRUPTED = 130  # as shells have it for Ctrl-C

WANTED = "expected a classifier saved as FILE.keras"
SHIPPED = (".tflite", ".onnx", ".pb")  # the endings of files that other runtimes than Keras run


class Mistake(ValueError):
    """Is raised for an invalid request where TensorFlow is not loaded yet; elsewhere it is `tfrobust.InvalidArgument`.

    A plain `ValueError` is no mistake of the user's, but an error of Keras or TensorFlow, or a bug.
    """


class Misuse(Mistake):
    """Is raised for wrong flags."""


def run(main: Callable[[list[str]], int | None], define_flags: Callable[[], Any], arguments: str = "") -> NoReturn:
    """Defines and parses the flags, runs `main` and exits with its code, 1 for a mistake or 2 for wrong flags.

    A `Mistake`, an `InvalidArgument`, an `OSError`, what TensorFlow raises for a full disk, and a `FloatingPointError`,
    by which a diverged training ends, print their text as one line on stderr, and so does Ctrl-C; the environment
    variable TFROBUST_TRACEBACK shows the traceback as well. Every other error keeps its traceback.

    Args:
        main: the command. It gets the arguments that absl leaves, returns an exit code or None, and imports TensorFlow
            itself, so that `--help` and wrong flags do not wait for it.
        define_flags: defines the flags. It does not run at import, so that one command can import another.
        arguments: the names of the positional arguments, such as "DIR" or "FILE ..."; empty if there are none.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # TensorFlow takes oneDNN's convolutions where the processor has AVX512-VNNI or AMX; with AVX2 they are faster, too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries, such as that of a download, break up a log
    if os.environ.get("TFROBUST_TRACEBACK"):
        imports.load_given(sys.argv)
        _define_common_flags()
        define_flags()
        sys.exit(main(flags.FLAGS(sys.argv)) or 0)
    try:
        code = main(_parse(sys.argv, define_flags, arguments))
    except Misuse as error:
        _fail(error, MISUSE)
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python fails again when it flushes
        sys.exit(MISTAKE)
    except ConnectionError as error:
        _fail(error, LOST)
    except KeyboardInterrupt:
        print("Stopped. What is complete is kept: the same command goes on from there.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if isinstance(error, (Mistake, imports.Failed, OSError, FloatingPointError, *_loaded_errors())):
            _fail(error, MISTAKE)
        raise
    sys.exit(code or 0)


class NumberParser(flags.FloatParser):
    """Reads a number, also as a fraction such as 8/255, in which radii are usually given."""

    def convert(self, argument: str | float) -> float:
        """Returns the number; a `ValueError` says what was expected."""
        numerator, slash, denominator = str(argument).partition("/")
        try:
            return float(numerator) / (float(denominator) if slash else 1.0)
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"expected a number or a fraction such as 8/255. Received: {argument}") from error


def define_number(name: str, default: float | None, text: str, **bounds: float) -> None:
    """Defines a flag that is a number or a fraction."""
    flags.DEFINE(NumberParser(**bounds), name, default, text, flags.FLAGS)


def define_classifier_flags() -> None:
    """Defines the flags by which a command takes a classifier, its data and a ball: those of a run, or of a file."""
    flags.DEFINE_string("workdir", None, "Folder of a run of `tfrobust train`.")
    flags.DEFINE_string("model", None, "A .keras file, in place of --workdir; also a shipped file or a served model.")
    flags.DEFINE_string("data", None, "Data set, beside --model; its test split is read.")
    define_number("eps", None, "Radius as a fraction of the pixel range, as 8/255 or 0.03; default: the run's.")
    flags.DEFINE_string("norm", None, "linf or l2; default: the run's, else linf.")
    flags.DEFINE_integer("images", None, "Number of the test split's first images; default: all.", lower_bound=1)
    flags.DEFINE_integer("seed", None, "Seed of the random numbers; default: the run's, else 0.")


def check_one_of(workdir: str | None, model: str | None) -> None:
    """Raises a `Misuse` unless exactly one of a run's folder and a classifier's file is given."""
    if bool(workdir) == bool(model):
        received = "both" if model else "neither"
        raise Misuse(f"Expected one of --workdir=DIR and --model=FILE. Received: {received}")


def is_shipped(path: str | Path) -> bool:
    """Returns whether a path is a shipped file, the folder of an export, or the address of a model on a server."""
    return "://" in str(path) or Path(path).suffix in SHIPPED or Path(path).is_dir()


def check_classifier_file(path: str | Path) -> None:
    """Checks, without TensorFlow, that a path is a .keras file that exists; shipped files are checked as they open."""
    if is_shipped(path):
        return
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No classifier: {WANTED}. Received: {path}, where no file is")
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        raise Mistake(f"No classifier: {WANTED}. Received: {path}, which is not a .keras file")


def load_classifier(path: str | Path, source: str | Path | None = None) -> Any:
    """Returns the classifier of a .keras file, or a shipped one with its source; the path is checked first."""
    check_classifier_file(path)
    import keras

    import tfrobust  # registers the layers that a classifier may contain

    if is_shipped(path):
        return tfrobust.classifiers.open(path, source=load_classifier(source) if source else None)
    imports.load_beside(path)
    trusted = "allow_unsafe" in flags.FLAGS and flags.FLAGS["allow_unsafe"].value
    if trusted:
        keras.config.enable_unsafe_deserialization()  # copies of the classifier are made as it is loaded
    try:
        return keras.models.load_model(path, compile=False, safe_mode=not trusted)
    except Exception as error:  # Keras has no class of its own for a damaged file
        raise Mistake(f"{path} cannot be loaded: {_why(path, error)}") from error


def _why(path: str | Path, error: Exception) -> str:
    """Returns what was expected of a classifier's file that Keras does not load, and what was received."""
    if "safe_mode" in str(error):
        received = "code in a Lambda layer, which runs whatever its author wrote"
        return f"expected layers that are registered, or --allow-unsafe if you trust the file. Received: {received}"
    try:
        missing = imports.missing(path)
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):  # the file is damaged
        missing = []
    if missing:
        return f"expected {imports.WAYS} of the code that registers its layers. Received: {', '.join(missing)}"
    return f"{WANTED}. Received: {type(error).__name__}: {error}"


def _parse(given: list[str], define_flags: Callable[[], Any], wanted: str) -> list[str]:
    app.define_help_flags()
    imports.check_packages()
    try:
        imports.load_given(given)
        _define_common_flags()
        define_flags()  # a config flag runs its file here
        _show_in_help(flags.FLAGS)
        rest = flags.FLAGS(given)
    except SystemExit:  # absl has printed the help that was asked for, and would exit with 1
        sys.exit(0)
    except (ValueError, OSError, AttributeError, LookupError, TypeError, ImportError, SyntaxError) as error:
        # A config flag runs its file and sets its fields, and lets all of this through.
        text = str(error.args[0] if isinstance(error, KeyError) else error)
        raise Misuse(
            f"Unknown field or invalid config: {text}" if isinstance(error, LookupError | AttributeError) else text
        ) from error
    except flags.Error as error:  # some of them quote a traceback, whose last line has the reason
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise Misuse(lines[-1] if "Traceback" in str(error) else str(error)) from error
    for name in flags.FLAGS:  # an unset variable of a shell would name the current folder
        if flags.FLAGS[name].present and flags.FLAGS[name].value in ("", [""]) and "." not in name:
            raise Misuse(f"Expected a value for --{name}. Received: an empty one")
    if wanted and len(rest) == 1:
        raise Misuse(f"Expected {wanted}. Received: no argument")
    if len(rest) > (sys.maxsize if wanted.endswith("...") else 1 + bool(wanted)):
        raise Misuse(f"Unexpected arguments: expected {wanted or 'flags alone'}. Received: {' '.join(rest[1:])}")
    return rest


def _define_common_flags() -> None:
    """Defines the flags that every command takes."""
    imports.define_flag()
    flags.DEFINE_bool("allow_unsafe", False, "Load Lambda layers, whose code runs: only of files that you trust.")
    flags.DEFINE_alias("allow-unsafe", "allow_unsafe")


def _show_in_help(given: flags.FlagValues) -> None:
    """Lets `--help` show every flag of the command, also those that a shared module defines."""
    for name in list(given):
        if not str(given.find_module_defining_flag(name)).startswith("absl."):
            given.register_key_flag_for_module(sys.argv[0], given[name])


def _loaded_errors() -> tuple[type[Exception], ...]:
    """Returns the errors of libraries that are loaded by now: an invalid argument, a full disk, no permission."""
    library, tensorflow = sys.modules.get("tfrobust.utils.errors"), sys.modules.get("tensorflow")
    own = (library.InvalidArgument,) if library else ()
    if tensorflow is None:
        return own
    errors = tensorflow.errors
    return (*own, errors.ResourceExhaustedError, errors.PermissionDeniedError, errors.NotFoundError)


def _fail(error: Exception, code: int) -> NoReturn:
    registry = sys.modules.get("tfrobust.utils.registry")
    hint = f" {imports.HINT}" if registry and isinstance(error, registry.Unregistered) else ""
    print(" ".join(str(error).split()) + hint, file=sys.stderr)
    sys.exit(code)
