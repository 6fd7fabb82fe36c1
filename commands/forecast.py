"""Forecasts the cost of a run: the passes of a step before it begins, and its end once some steps are measured."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras

from commands import progress
from commands.build import load_data
from tfrobust.utils.text import duration

MEASURED = 20  # steps, not counting the first one, in which the graph is traced


class Forecast(keras.callbacks.Callback):
    """Prints the number of passes of a step and, after 20 steps and after two epochs, the end of the training.

    After 20 steps the time of validation and later fits is estimated from their numbers of passes; the second epoch
    measures a whole epoch. Evaluation and export are not included. `fits` has trainer and epochs of each fit.
    """

    def __init__(
        self,
        fits: Iterable[tuple[Any, int]],
        steps: int,
        validation_steps: int,
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._fits = list(fits)
        self._steps, self._validation_steps = steps, validation_steps
        self._say, self._clock = say, clock

    def on_train_begin(self, logs: Any = None) -> None:
        self._seconds: list[float] = []  # of each execution of steps, the first one included
        self._measured = 0  # steps in all but the first
        self._ends: list[float] = []  # of epochs
        trainer, epochs = self._fits[self._index()]
        forwards, backwards = trainer.cost()
        steps = f"{self._steps} steps an epoch, {epochs} epochs"
        self._say(f"A step takes {forwards:g} forwards and {backwards:g} backwards of its batch; {steps}.")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self._step = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._began = self._clock()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # One execution has several steps with `steps_per_execution`; Keras counts the last one of an epoch as full.
        end = min(batch + 1, self._steps)
        done, self._step = end - self._step, end
        if self._measured >= MEASURED:
            return
        self._seconds.append(self._clock() - self._began)  # the steps are done: Keras has read the logs
        if len(self._seconds) == 1:
            return
        self._measured += done
        if self._measured >= MEASURED:
            pace = sum(self._seconds[1:]) / self._measured
            per_pass = pace / self._passes_of_a_step()
            ahead = self._ahead(self._epoch) - self._step * self._passes_of_a_step()
            self._tell(f"A step takes {pace:.2g} s", per_pass * ahead)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._ends.append(self._clock())
        if len(self._ends) == 2:
            seconds = self._ends[1] - self._ends[0]
            per_pass = seconds / self._passes_of_an_epoch(self.model)
            self._tell(f"An epoch takes {seconds:.2g} s", per_pass * self._ahead(epoch + 1))

    def _tell(self, pace: str, left: float) -> None:
        end = datetime.datetime.fromtimestamp(self._clock() + left)
        self._say(f"{pace}: {duration(left)} of training left, until {end:%Y-%m-%d %H:%M}.")

    def _index(self) -> int:
        return next(index for index, (trainer, _) in enumerate(self._fits) if trainer is self.model)

    def _ahead(self, epoch: int) -> float:
        """Returns the passes from the beginning of an epoch to the end of the run."""
        index = self._index()
        fits = [(self.model, self._fits[index][1] - epoch), *self._fits[index + 1 :]]
        return sum(epochs * self._passes_of_an_epoch(trainer) for trainer, epochs in fits)

    def _passes_of_a_step(self) -> float:
        return sum(self.model.cost())

    def _passes_of_an_epoch(self, trainer: Any) -> float:
        validation = self._validation_steps and self._validation_steps * sum(trainer.cost(training=False))
        return self._steps * sum(trainer.cost()) + validation


def forecast_of(config: Mapping[str, Any], fits: Iterable[tuple[Any, int]]) -> Forecast:
    """Returns the `Forecast` of a config's run."""
    splits = ["train", *(["validation"] if config["data"]["validation"] else [])]
    steps, *validation_steps = (int(load_data(config, split).cardinality()) for split in splits)
    return Forecast(fits, steps, sum(validation_steps), progress.say)
