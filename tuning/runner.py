"""Runs the trials that KerasTuner draws, each as an ordinary training run, and reports the progress."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner import errors

import tfrobust
from commands.build import phases_of
from commands.workdir import data_of
from tfrobust.utils.text import duration
from trainers import train
from tuning.aims import Aim
from tuning.spaces import Dimension, with_values
from tuning.trials import Result, Store, Trial
from tuning.tuners import SCORE, Plan

Train = Callable[[dict[str, Any], Path, list[Any]], Any]  # (config, path, callbacks); the run is in the folder
CHANCE = 1.5  # a hopeless trial has at most this multiple of the accuracy of guessing
PAUSE = 0.5  # seconds after which a waiting worker asks again


def fit(config: dict[str, Any], path: Path, callbacks: list[Any]) -> None:
    """Trains as `tfrobust train` does, after the graphs of earlier trials were freed."""
    keras.utils.clear_session()
    train.fit(config, path, callbacks)


class Runner(keras_tuner.engine.base_tuner.BaseTuner):
    """Runs a plan, each trial in its own workdir; finished trials are not repeated.

    `train` trains a config in a folder, `tell` is called with each finished trial and its result, `scratch` is a folder
    for KerasTuner's own state, which is never read.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        space: Sequence[Dimension],
        plan: Plan,
        store: Store,
        aim: Aim,
        train: Train,
        scratch: str,
        tell: Callable[[Trial, Result], None],
    ) -> None:
        super().__init__(plan.oracle, directory=scratch, project_name="oracle")
        self._config, self._space, self._store, self._aim = config, space, store, aim
        self._train, self._tell = train, tell
        self._waits = False

    def pre_create_trial(self) -> None:
        """Waits if the last request got no trial, because KerasTuner asks again at once."""
        if self._waits:
            time.sleep(PAUSE)
        self._waits = True

    def on_trial_begin(self, trial: Any) -> None:
        """Records that there was a trial; KerasTuner calls it."""
        self._waits = False

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Returns the score of a trial, from the store or by training; KerasTuner calls it."""
        try:
            mine = self._trial_of(trial)
            with self._store.lock(mine):
                result = self._store.read(mine) or self._run(mine, trial.hyperparameters.values.get("tuner/trial_id"))
            self._tell(mine, result)
        except Exception as error:  # KerasTuner would record an error of the program as a failed trial and continue
            raise errors.FatalError(repr(error)) from error
        return {SCORE: self._aim.score(result)}

    def _run(self, trial: Trial, parent: str | None) -> Result:
        """Trains a trial, or the rest of it after its parent, and stores its result."""
        config = trial_config(self._config, trial)
        if parent is not None:
            self._store.inherit(trial, self._trial_of(self.oracle.get_trial(parent)), config)
        begun = time.monotonic()
        result = self._train_one(trial, config)._replace(seconds=time.monotonic() - begun, finished=time.time())
        self._store.write(trial, result)
        return result

    def _train_one(self, trial: Trial, config: dict[str, Any]) -> Result:
        workdir, last = self._store.workdir(trial), phases_of(config)[-1]
        hopeless = Hopeless.of(self._config, workdir.read_history())
        if not hopeless.seen:  # else it was killed before its result was stored, or its parent was hopeless
            workdir.path.mkdir(parents=True, exist_ok=True)
            try:
                with (workdir.path / "log.txt").open("a") as log, contextlib.redirect_stdout(log):
                    self._train(config, workdir.path, [hopeless])
            except FloatingPointError as error:
                return Result(None, None, len(workdir.read_history()), message=str(error))
        rows = workdir.read_history()
        kept = train.kept_row(rows, last["monitor"])
        if kept is None:
            raise tfrobust.InvalidArgument(f"Expected epochs in {workdir.history}. Received: none")
        early = hopeless.seen and len(rows) < last["epochs"]
        message = f"Ended early: robust accuracy near chance after {len(rows)} epochs." if early else ""
        return Result(float(kept["val_accuracy"]), float(kept["val_robust_accuracy"]), len(rows), message=message)

    def _trial_of(self, trial: Any) -> Trial:
        drawn = trial.hyperparameters.values
        own = {dimension.field: dimension.value(drawn[dimension.field]) for dimension in self._space}
        return Trial(own, drawn.get("tuner/epochs", self._config["epochs"]))


class Hopeless(keras.callbacks.Callback):
    """Ends a training whose best robust accuracy does not exceed `accuracy` after some epochs; 0: never.

    `history` has the robust accuracies of the epochs before a resume.
    """

    def __init__(self, after: int, accuracy: float, history: Iterable[float] = ()) -> None:
        super().__init__()
        self._after, self._accuracy, self._history = after, accuracy, list(history)

    @classmethod
    def of(cls, config: Mapping[str, Any], rows: Iterable[Mapping[str, str]]) -> Hopeless:
        """Returns the callback for a search's config and a training with some rows of history."""
        info = tfrobust.data.info(**data_of(config))
        history = [float(row["val_robust_accuracy"]) for row in rows]
        return cls(config["search"]["hopeless_after"], CHANCE / info.classes, history)

    @property
    def seen(self) -> bool:
        """Tells whether the training is hopeless."""
        return 0 < self._after <= len(self._history) and max(self._history) <= self._accuracy

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._history[epoch:] = [float((logs or {})["val_robust_accuracy"])]  # after a kill an epoch may be run twice
        if self.seen:
            self.model.stop_training = True


def trial_config(config: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
    """Returns the config of a trial's run: the search's, with its values and epochs and without an evaluation."""
    return {
        **with_values(config, trial.values),
        "epochs": trial.epochs,
        "evaluation": {**config["evaluation"], "attacks": ""},
        "search": {},
        "tables": {},
        "paper": {},
    }


class Progress:
    """Says a line for each finished trial, with the time that is left.

    The time is that of the epochs still planned, at the pace of all workers together since this object was made; trials
    that the store had before do not count.
    """

    def __init__(
        self, plan: Plan, store: Store, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._plan, self._store, self._say, self._clock = plan, store, say, clock
        self._began = clock()
        self._old = {trial.key for trial, _ in store.all()}
        self._told: set[str] = set()
        self._lines = 0
        self._epochs: dict[str, int] = {}  # point of the space -> epochs trained there
        self._fresh = 0  # epochs since this object was made

    def tell(self, trial: Trial, result: Result) -> None:
        """Says that a trial is finished."""
        trained = self._epochs.get(trial.point, 0)
        more = max(0, trial.epochs - trained)
        self._epochs[trial.point] = trained + more
        self._fresh += more if trial.key not in self._old else 0
        self._told.add(trial.key)
        self._lines += 1
        self._say(f"Trial {self._lines} of {self._plan.trials}: {told(trial, result)}{self._left()}")

    def catch_up(self) -> None:
        """Says a line for each trial that other processes have finished."""
        for trial, result in self._store.all():
            if trial.key not in self._told:
                self.tell(trial, result)

    def _left(self) -> str:
        epochs = self._plan.epochs - sum(self._epochs.values())
        if epochs <= 0 or not self._fresh:
            return ""
        return f"; {duration(epochs * (self._clock() - self._began) / self._fresh)} left"


def told(trial: Trial, result: Result) -> str:
    """Returns the values and the accuracies of a trial, in words.

    Example:

    >>> told(Trial({"objective.beta": 2.0}, 12), Result(0.975, 0.75, 12))
    'objective.beta=2: robust 0.7500, clean 0.9750'
    """
    if result.failed:
        return f"{trial}: failed. {result.message}"
    figures = f"{trial}: robust {result.robust_accuracy:.4f}, clean {result.clean_accuracy:.4f}"
    return f"{figures}. {result.message}" if result.message else figures
