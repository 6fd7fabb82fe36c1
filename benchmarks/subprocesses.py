"""Runs the commands that a user would type, several at a time, each with one thread and a log."""

import os
import subprocess
import sys
from pathlib import Path


def call(log: Path, module: str, *options: str) -> None:
    """Runs `python -m MODULE OPTIONS` and adds its output to a log.

    Raises:
        RuntimeError: with the end of the log, if the command fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    command = [sys.executable, "-m", module, *options]
    with log.open("a") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: " + " | ".join(log.read_text().splitlines()[-3:]))
