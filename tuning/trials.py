"""The trials of a search and their results, stored so that a killed search can resume.

KerasTuner's own state is written in place and does not survive every kill, so it is never read: a restarted search
draws the same trials in the same order, and the results of the finished ones are read from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from commands.workdir import Workdir, read_json
from tfrobust.utils.files import replacing


class Result(NamedTuple):
    """The result of a trial, on validation data."""

    clean_accuracy: float | None  # of the kept classifier, in [0, 1]; None if the trial failed
    robust_accuracy: float | None  # the same by the trainer's validation attack
    epochs: int  # number of trained epochs
    seconds: float = 0.0  # duration since the last resume
    finished: float = 0.0  # end of the trial in seconds since 1970, which orders the trials
    message: str = ""  # why the trial failed or ended early

    @property
    def failed(self) -> bool:
        """Tells whether the trial has no classifier."""
        return self.robust_accuracy is None


class Trial(NamedTuple):
    """One point of the space, trained for some epochs.

    Example:

    >>> print(Trial({"objective.beta": 2.718281828, "ema": 0}, epochs=10))
    objective.beta=2.718, ema=0
    """

    values: Mapping[str, Any]  # field of the config -> value
    epochs: int

    @property
    def key(self) -> str:
        """The name of the trial, equal for equal values and epochs."""
        text = json.dumps([sorted(self.values.items()), self.epochs])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def point(self) -> str:
        """A key of the values without the epochs."""
        return self._replace(epochs=0).key

    def __str__(self) -> str:
        return ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.values.items())


class Store:
    """The trials' folders in one folder, each an ordinary run's, and their results."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def workdir(self, trial: Trial) -> Workdir:
        """Returns the folder of a trial's run."""
        return Workdir(self.path / trial.key)

    @contextlib.contextmanager
    def lock(self, trial: Trial) -> Iterator[None]:
        """Locks a trial for this process, on all machines; the lock of a process that dies is released."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / f".{trial.key}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self, trial: Trial) -> Result | None:
        """Returns a trial's result, None if it has not finished."""
        file = self._file(trial)
        return Result(**read_json(file)["result"]) if file.exists() else None

    def write(self, trial: Trial, result: Result) -> None:
        """Stores a trial's result."""
        with replacing(self._file(trial)) as beside:
            beside.write_text(json.dumps({"trial": trial._asdict(), "result": result._asdict()}, indent=1) + "\n")

    def all(self) -> list[tuple[Trial, Result]]:
        """Returns the finished trials, in the order in which they ended."""
        read = [read_json(file) for file in self.path.glob("*/result.json")]
        done = [(Trial(**each["trial"]), Result(**each["result"])) for each in read]
        return sorted(done, key=lambda pair: (pair[1].finished, pair[0].key))

    def inherit(self, trial: Trial, parent: Trial, config: Mapping[str, Any]) -> None:
        """Copies checkpoints, history and the best classifier of a finished trial to one with more epochs."""
        target = self.workdir(trial)
        if target.path.exists():
            return
        with replacing(target.path) as beside:  # the folder appears only when it is complete
            not_learned = shutil.ignore_patterns("result.json", "finalist.*")
            shutil.copytree(self.workdir(parent).path, beside, ignore=not_learned)
            Workdir(beside).config.write_text(json.dumps(config, indent=2) + "\n")

    def _file(self, trial: Trial) -> Path:
        return self.path / trial.key / "result.json"
