"""The trials of a search: what is known of each, kept where a killed search finds it again.

KerasTuner's own state is written in place and does not survive every kill, so that it is never read: a search that is
started again draws the same trials in the same order, and the answers to those that are done come from here.
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

from commands.workdir import Workdir
from tfrobust.utils.files import replacing


class Result(NamedTuple):
    """What came of a trial, on validation data.

    Attributes:
        clean_accuracy: of the kept classifier, in [0, 1]; None where there is none.
        robust_accuracy: likewise, by the trainer's validation attack.
        epochs: that were trained.
        seconds: that the last sitting took.
        finished: seconds since 1970; the order of the trials.
        message: why there is no classifier, or why the trial ended early; "" otherwise.
    """

    clean_accuracy: float | None
    robust_accuracy: float | None
    epochs: int
    seconds: float = 0.0
    finished: float = 0.0
    message: str = ""

    @property
    def failed(self) -> bool:
        """Whether the trial has no classifier."""
        return self.robust_accuracy is None


class Trial(NamedTuple):
    """One point of the space, trained for some epochs.

    Attributes:
        values: field of the config -> value.
        epochs: that it is to be trained.
    """

    values: Mapping[str, Any]
    epochs: int

    @property
    def key(self) -> str:
        """A name that is a function of values and epochs: equal trials are one."""
        text = json.dumps([sorted(self.values.items()), self.epochs])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Store:
    """The trials' folders, each an ordinary run's, and their results.

    Args:
        path: the folder that holds them.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def workdir(self, trial: Trial) -> Workdir:
        """Returns the folder of a trial's run."""
        return Workdir(self.path / trial.key)

    @contextlib.contextmanager
    def lock(self, trial: Trial) -> Iterator[None]:
        """Keeps a trial for this process while others, on any machine, wait; a process that dies lets go."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / f".{trial.key}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read(self, trial: Trial) -> Result | None:
        """Returns a trial's result, None where it is not done."""
        file = self._file(trial)
        return Result(**json.loads(file.read_text())["result"]) if file.exists() else None

    def write(self, trial: Trial, result: Result) -> None:
        """Keeps a trial's result."""
        with replacing(self._file(trial)) as beside:
            beside.write_text(json.dumps({"trial": trial._asdict(), "result": result._asdict()}, indent=1) + "\n")

    def all(self) -> list[tuple[Trial, Result]]:
        """Returns the trials that are done, in the order in which they ended."""
        read = [json.loads(file.read_text()) for file in self.path.glob("*/result.json")]
        done = [(Trial(**each["trial"]), Result(**each["result"])) for each in read]
        return sorted(done, key=lambda pair: (pair[1].finished, pair[0].key))

    def inherit(self, trial: Trial, parent: Trial, config: Mapping[str, Any]) -> None:
        """Gives a trial all that its parent has learned: checkpoints, history and the best classifier so far.

        Args:
            trial: with the values of the parent and more epochs.
            parent: a trial that is done.
            config: the trial's own.
        """
        target = self.workdir(trial)
        if target.path.exists():
            return
        with replacing(target.path) as beside:  # whole or not at all
            not_learned = shutil.ignore_patterns("result.json", "finalist.*")
            shutil.copytree(self.workdir(parent).path, beside, ignore=not_learned)
            Workdir(beside).config.write_text(json.dumps(config, indent=2) + "\n")

    def _file(self, trial: Trial) -> Path:
        return self.path / trial.key / "result.json"
