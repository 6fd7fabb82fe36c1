"""The command `tfrobust`, whose first argument names one of the commands: `tfrobust train --workdir=DIR`.

The folder in which it is started comes last on the import path, so that nothing there hides a package.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import NamedTuple, NoReturn

from tfrobust_base import words


class Command(NamedTuple):
    """A command: the module that is run, and one line of help."""

    module: str
    help: str


COMMANDS = {
    "train": Command("trainers.train", "train a classifier by a config, evaluate it and export it"),
    "evaluate": Command("trainers.evaluate", "attack a classifier; with gates for a release"),
    "beyond": Command("trainers.beyond", "measure corruptions, shifts, noise, transfer and distances"),
    "interpret": Command("trainers.interpret", "study what classifiers rely on, side by side"),
    "search": Command("tuning.search", "search the weights of an objective, or other fields of a config"),
    "export": Command("export.savedmodel", "write a classifier as a SavedModel for TensorFlow Serving"),
    "export-litert": Command("export.litert", "write a classifier as a file for phones, and evaluate the file"),
    "export-onnx": Command("export.onnx", "write a classifier as a file of ONNX, and evaluate the file"),
    "verify": Command("export.verify", "compare an exported classifier with the one that it was made of"),
    "serve": Command("export.serve", "serve an exported classifier on this machine, for development"),
    "client": Command("export.client", "classify pictures by a server"),
    "quickstart": Command("trainers.quickstart", "train a plain and a robust classifier of digits, and compare them"),
}
HELP = ("--help", "-h", "help")


def usage() -> str:
    """Returns the list of the commands."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items())
    return "\n".join(["tfrobust COMMAND [flags]; tfrobust COMMAND --help lists the flags.", "", *lines])


def main() -> NoReturn:
    """Runs the command that the first argument names, as `python -m MODULE` does with the other arguments."""
    name, *arguments = sys.argv[1:] or [""]
    if name in HELP:
        print(usage())
        sys.exit(0)
    if name not in COMMANDS:
        print(words.unknown("command", name, COMMANDS) if name else usage(), file=sys.stderr)
        sys.exit(2)  # as for wrong flags
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for code of one's own
    sys.argv[1:] = arguments
    runpy.run_module(COMMANDS[name].module, run_name="__main__", alter_sys=True)
    sys.exit(0)
