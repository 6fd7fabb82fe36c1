"""Callbacks that `fit` adds: the fractional epoch, a check for empty data, and complete columns of a CSV file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import keras

from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument


class Clock(keras.callbacks.Callback):
    """Sets the trainer's fractional epoch, refuses empty data, and warns of BatchNorm statistics that lag behind."""

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self._trainer = trainer
        self._steps: int | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._steps = self.params.get("steps")
        self._warn_of_slow_statistics()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._seen = 0
        self._before = int(self._trainer._batches.numpy())
        self._trainer.set_epoch(epoch, self._steps)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._seen = batch + 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._seen:
            raise InvalidArgument("Invalid data: expected at least one batch. Received: an empty dataset")
        # Keras counts executions, each of which may have several steps.
        self._steps = self._steps or int(self._trainer._batches.numpy()) - self._before or self._seen

    def _warn_of_slow_statistics(self) -> None:
        """Warns if BatchNorm's moving statistics, which attacks read, cannot converge in the planned steps."""
        if not self._steps:
            return
        planned = self._steps * self.params["epochs"]
        for layer in keras_private.layers_inside(self._trainer.classifier):
            momentum = getattr(layer, "momentum", 0.0)
            updated = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            if updated and planned * (1 - momentum) < 5:
                warnings.warn(
                    f"The moving statistics of {layer.name!r} (momentum {momentum}) cannot converge in the {planned} "
                    f"steps planned, and attacks read them: expected at least {5 / (1 - momentum):.0f} steps, or a "
                    "smaller momentum. The networks of tfrobust.models use 0.9.",
                    stacklevel=2,
                )
                return


class Columns(keras.callbacks.Callback):
    """Adds the columns of validation to a `CSVLogger` whose first epoch is not validated.

    Keras takes the columns of validation from those of training, which lack the sides that a step does not compute.
    """

    def __init__(self, logger: keras.callbacks.CSVLogger, names: Iterable[str]) -> None:
        super().__init__()
        self._logger = logger
        self._names = list(names)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._logger.keys is None:
            self._logger.keys = sorted({*self._names, *(logs or {})})


def completed(callbacks: Any, trainer: Any, validated: bool) -> Any:
    """Returns the callbacks of a `fit`, after a check of their monitors, with the trainer's own added."""
    is_list = isinstance(callbacks, keras.callbacks.CallbackList)
    given = callbacks.callbacks if is_list else keras.tree.flatten(callbacks or [])
    names = [f"val_{name}" for name in trainer.metrics_names] if validated else []
    complete: list[Any] = [Clock(trainer)]
    for callback in given:
        for part in _inside(callback):
            keras_private.compile_metrics(trainer).check_monitor(part)
        if names and isinstance(callback, keras.callbacks.CSVLogger):
            complete.append(Columns(callback, names))
        if not isinstance(callback, (Clock, Columns)):  # those of an earlier `fit` with the same list
            complete.append(callback)
    if not is_list:
        return complete
    callbacks.callbacks[:] = complete
    callbacks.set_params(callbacks.params)
    return callbacks


def _inside(callback: Any) -> Iterator[Any]:
    yield callback
    for part in getattr(callback, "callbacks", None) or ():
        yield from _inside(part)
