"""Reports the progress of a search and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from tfrobust.utils.text import duration
from tuning.trials import Result, Store, Trial
from tuning.tuners import Plan


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
