"""Runs an exported version as TensorFlow Serving does: in a session, in a process without Keras and tfrobust.

    python -m export.session VERSION REQUESTS.npz ANSWERS.npz

A request is an array named SIGNATURE/ANYTHING, its answers are SIGNATURE/ANYTHING/OUTPUT.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from commands.cli import Mistake


def ask(version: Path, requests: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the answers of a fresh process to requests, named as above; its failure is a `Mistake`."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "requests.npz"), Path(folder, "answers.npz")
        np.savez(given, **dict[str, Any](requests))
        command = [sys.executable, "-m", "export.session", str(version.resolve()), str(given), str(made)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
        if done.returncode:
            raise Mistake(f"{version} cannot be run in a session: {(done.stderr.splitlines() or ['no message'])[-1]}")
        with np.load(made) as found:
            return dict(found)


def answers(version: Path, requests: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the answers of a session of this process; see `ask`."""
    from export.servable import Servable

    servable = Servable(version, max_batch=sys.maxsize)
    found: dict[str, Any] = {}
    for name, values in requests.items():
        signature = servable.signature(name.partition("/")[0])
        (argument,) = signature.inputs
        found |= {f"{name}/{output}": value for output, value in signature({argument: values}).items()}
    return found


def main(version: str, requests: str, made: str) -> None:
    """Answers the requests of a file."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.modules["keras"] = sys.modules["tfrobust"] = None  # type: ignore[assignment]  # not even by tensorflow
    with np.load(requests) as given:
        np.savez(made, **dict[str, Any](answers(Path(version), dict(given))))


if __name__ == "__main__":
    main(*sys.argv[1:])
