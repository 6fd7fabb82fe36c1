"""A search on several processes: KerasTuner's chief draws the trials, workers run them.

Who a process is, it knows from KerasTuner's own variables of the environment: docs/tuning.md.
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
LAUNCHER = "TFROBUST_LAUNCHER"  # the process that a worker shall not survive
ALONE, CHIEF, WORKER = "alone", "chief", "worker"
RESTARTS = 3  # of one worker
PAUSE = 0.5  # seconds between two looks


def role(environment: Mapping[str, str]) -> str:
    """Returns whether a process is the chief, a worker, or alone.

    Raises:
        Mistake: for variables of which one is missing.

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
    """Answers workers while the block runs; yields the port, and a function that says whether all have been sent home.

    KerasTuner's own server ends up to 20 s later, and never once a worker is dead.

    Args:
        oracle: who draws the trials.
        host: this machine, as the workers call it.
        port: 0 is any that is free.

    Raises:
        Mistake: for an address that cannot be had.
    """
    import grpc

    from tfrobust.utils import keras_private

    # Else a second chief would have the same port, and half of the workers' questions.
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
        server.stop(grace=5).wait()  # the last answer is on its way


class Workers:
    """Processes on this machine that run the trials of a chief; a worker that is killed is started again.

    A context manager: what still runs at its end is ended. So it is where this process is killed, for each worker looks
    whether its launcher lives.

    Args:
        commands: one a worker.
        host: the chief's.
        port: the chief's.
        logs: folder of what they print, worker-1.txt and so on.
        say: where a line goes.
    """

    def __init__(
        self, commands: Sequence[Sequence[str]], host: str, port: int, logs: Path, say: Callable[[str], None]
    ) -> None:
        self._commands = commands
        self._logs = logs
        self._say = say
        self._restarts = [0] * len(commands)
        threads = max(1, (os.cpu_count() or 1) // max(1, len(commands)))
        self._environment = {
            "TF_NUM_INTRAOP_THREADS": str(threads),
            **os.environ,
            "PYTHONUNBUFFERED": "1",  # the log is there to be read
            HOST: host,
            PORT: str(port),
            LAUNCHER: str(os.getpid()),
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._begun: list[int] = []  # bytes of each log that are of an earlier search

    def __enter__(self) -> Workers:
        for place in range(len(self._commands)):
            self._logs.mkdir(parents=True, exist_ok=True)
            self._begun.append(self._log(place).stat().st_size if self._log(place).exists() else 0)
            self._processes.append(self._start(place))
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
        """Whether all have ended as they should; starts those again that were killed.

        Raises:
            ChildProcessError: for one that has ended by an error, which it has printed, or was killed too often.
        """
        codes = [process.poll() for process in self._processes]
        for place, code in enumerate(codes):
            if not code:
                continue
            if code > 0 or self._restarts[place] == RESTARTS:
                print(self._log(place).read_bytes()[self._begun[place] :].decode(errors="replace"), file=sys.stderr)
                how = f"an error, exit code {code}" if code > 0 else f"signal {-code}, {RESTARTS + 1} times"
                raise ChildProcessError(
                    f"Worker {place + 1} was ended by {how}. All that it printed: {self._log(place)}"
                )
            self._restarts[place] += 1
            self._say(f"Worker {place + 1} was ended by signal {-code}; it goes on")
            self._processes[place] = self._start(place)
        return all(code == 0 for code in codes)

    def _start(self, place: int) -> subprocess.Popen[bytes]:
        with self._log(place).open("ab") as log:
            return subprocess.Popen(
                self._commands[place],
                env={**self._environment, NAME: f"worker-{place + 1}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is this process' to answer
            )

    def _log(self, place: int) -> Path:
        return self._logs / f"worker-{place + 1}.txt"


def end_with_launcher() -> None:
    """Ends this process when the one that launched it is gone, however that went; nothing where nobody did."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None:
        return

    def watch() -> None:
        while os.getppid() == int(launcher):
            time.sleep(PAUSE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
