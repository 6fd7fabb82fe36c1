"""Runs parts of benchmarks in processes of their own: functions, and commands that a user would type."""

import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def isolated(part: Callable[..., Any], *arguments: Any) -> Any:
    """Returns the result of a part in a process of its own, with its own devices, threads and memory."""
    print(f"Measuring {part.__name__} {' '.join(map(str, arguments[1:]))}", flush=True)
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(part, *arguments).result()


def call(log: Path, module: str, *options: str) -> None:
    """Runs `python -m MODULE OPTIONS` with one thread and adds its output to a log.

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
