"""A search on several processes: KerasTuner's chief draws the trials, workers run them.

A process reads its role from KerasTuner's environment variables: docs/tuning.md.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from commands.cli import Mistake

NAME, HOST, PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
LAUNCHER = "TFROBUST_LAUNCHER"  # id of the process whose end ends a worker
ALONE, CHIEF, WORKER = "alone", "chief", "worker"
RESTARTS = 3  # for each worker
PAUSE = 0.5  # seconds between two checks


def role(environment: Mapping[str, str]) -> str:
    """Returns whether a process is the chief, a worker, or alone.

    Example:

    >>> role({NAME: "worker-1", HOST: "alpha", PORT: "8000"}), role({})
    ('worker', 'alone')
    """
    given = [name for name in (NAME, HOST, PORT) if environment.get(name)]
    if not given:
        return ALONE
    if len(given) < 3:
        raise Mistake(
            f"A search on several machines: expected {NAME}, {HOST} and {PORT} in the environment. "
            f"Received: {' and '.join(given)} alone"
        )
    return CHIEF if "chief" in environment[NAME] else WORKER  # as KerasTuner tells them apart


@contextlib.contextmanager
def serving(oracle: Any, host: str, port: int) -> Iterator[tuple[int, Callable[[], bool]]]:
    """Answers workers inside the block; yields the port and a function that tells whether all workers were sent home.

    KerasTuner's own server ends up to 20 s later, and never ends if a worker died. `host` is the address of this
    machine, as the workers know it; port 0 is a free one.
    """
    import grpc

    from tfrobust.utils import keras_private

    # Otherwise a second chief could share the port and would receive half of the requests.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    all_sent_home = keras_private.chief_service(oracle, server)
    try:
        port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise Mistake(f"Expected a free address of this machine in {HOST}, {PORT}. Received: {host}:{port}") from error
    server.start()
    try:
        yield port, all_sent_home
    finally:
        server.stop(grace=5).wait()  # the last answer is being sent


class Workers:
    """Processes on this machine that run the trials of a chief; a worker that is killed is started again.

    A context manager, which ends the running processes at its exit. If this process is killed, each worker ends itself.
    The output of each worker is in `logs`, worker-1.txt and so on.
    """

    def __init__(
        self, commands: Sequence[Sequence[str]], host: str, port: int, logs: Path, say: Callable[[str], None]
    ) -> None:
        self._commands, self._logs, self._say = commands, logs, say
        self._restarts = [0] * len(commands)
        threads = max(1, (os.cpu_count() or 1) // max(1, len(commands)))
        self._environment = {
            "TF_NUM_INTRAOP_THREADS": str(threads),
            **os.environ,
            "PYTHONPATH": os.pathsep.join(place or os.getcwd() for place in sys.path),
            "PYTHONUNBUFFERED": "1",  # so that the log is complete at any time
            HOST: host,
            PORT: str(port),
            LAUNCHER: str(os.getpid()),
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._begun: list[int] = []  # bytes in each log from an earlier search

    def __enter__(self) -> Workers:
        for index in range(len(self._commands)):
            self._logs.mkdir(parents=True, exist_ok=True)
            self._begun.append(self._log(index).stat().st_size if self._log(index).exists() else 0)
            self._processes.append(self._start(index))
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def over(self) -> bool:
        """Returns whether all workers have ended without an error, and restarts those that were killed.

        A worker that ends with an error, or is killed too often, is a `ChildProcessError`.
        """
        codes = [process.poll() for process in self._processes]
        for index, code in enumerate(codes):
            if not code:
                continue
            if code > 0 or self._restarts[index] == RESTARTS:
                print(self._log(index).read_bytes()[self._begun[index] :].decode(errors="replace"), file=sys.stderr)
                how = f"an error, exit code {code}" if code > 0 else f"signal {-code}, {RESTARTS + 1} times"
                raise ChildProcessError(f"Worker {index + 1} was ended by {how}. Its output is in {self._log(index)}")
            self._restarts[index] += 1
            self._say(f"Worker {index + 1} was ended by signal {-code}; it is started again")
            self._processes[index] = self._start(index)
        return all(code == 0 for code in codes)

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        with self._log(index).open("ab") as log:
            return subprocess.Popen(
                self._commands[index],
                env={**self._environment, NAME: f"worker-{index + 1}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that Ctrl-C reaches this process alone
            )

    def _log(self, index: int) -> Path:
        return self._logs / f"worker-{index + 1}.txt"


def end_with_launcher() -> None:
    """Ends this process when its launcher has ended; does nothing in a process without a launcher."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None:
        return

    def watch() -> None:
        while os.getppid() == int(launcher):
            time.sleep(PAUSE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
