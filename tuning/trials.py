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
    """The result of a trial, on validation data.

    Attributes:
        clean_accuracy: clean accuracy of the kept classifier, in [0, 1]; None if the trial failed.
        robust_accuracy: robust accuracy by the trainer's validation attack; None if the trial failed.
        epochs: number of trained epochs.
        seconds: duration since the last resume.
        finished: end of the trial in seconds since 1970, which orders the trials.
        message: why the trial failed or ended early; "" otherwise.
    """

    clean_accuracy: float | None
    robust_accuracy: float | None
    epochs: int
    seconds: float = 0.0
    finished: float = 0.0
    message: str = ""

    @property
    def failed(self) -> bool:
        """Tells whether the trial has no classifier."""
        return self.robust_accuracy is None


class Trial(NamedTuple):
    """One point of the space, trained for some epochs.

    Attributes:
        values: field of the config -> value.
        epochs: number of epochs to train.
    """

    values: Mapping[str, Any]
    epochs: int

    @property
    def key(self) -> str:
        """The name of the trial, equal for equal values and epochs."""
        text = json.dumps([sorted(self.values.items()), self.epochs])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Store:
    """The trials' folders, each an ordinary run's, and their results.

    Args:
        path: folder of the trials.
    """

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
        """Copies checkpoints, history and the best classifier of a trial's parent.

        Args:
            trial: a trial with the values of the parent and more epochs.
            parent: a finished trial.
            config: config of the trial.
        """
        target = self.workdir(trial)
        if target.path.exists():
            return
        with replacing(target.path) as beside:  # the folder appears only when it is complete
            not_learned = shutil.ignore_patterns("result.json", "finalist.*")
            shutil.copytree(self.workdir(parent).path, beside, ignore=not_learned)
            Workdir(beside).config.write_text(json.dumps(config, indent=2) + "\n")

    def _file(self, trial: Trial) -> Path:
        return self.path / trial.key / "result.json"
