"""The state of a trainer: in copies and pickles, and its own variables in a file of weights."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tfrobust.training.metrics import recipe
from tfrobust.utils import keras_private


class OwnState(keras.layers.Layer):
    """Writes and reads variables, name -> variable, beside the weights of a classifier and its optimizer.

    A variable that a file lacks keeps its value.
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        super().__init__(name="trainer_state")
        self._named = lambda: variables  # a function, or Keras would track them as weights of this layer
        self.built = True

    def save_own_variables(self, store: Any) -> None:
        for name, variable in self._named().items():
            store[name] = keras.ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        for name, variable in self._named().items():
            if name in store.keys():  # noqa: SIM118, a store is not a mapping
                variable.assign(np.asarray(store[name]))


def from_an_older_version(path: str | Path) -> bool:
    """Returns whether a file of weights is one in which the classifier is a part of the trainer."""
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return "classifier" in file


def reduced(trainer: Any) -> tuple[Any, ...]:
    """Returns the value of a trainer's `__reduce__`: its arguments, the arguments of `compile`, and its state.

    Keras' own way would write the trainer as a layer, without its classifier.
    """
    searching = ("search_in_training_mode", "search_dtype")
    names = ("classifier", "objective", "attack", "validation_attack", *searching, "seed", "name")
    arguments = {name: getattr(trainer, name) for name in names}
    values = [variable.numpy() for variable in _own(trainer)]
    return _restored, (type(trainer), arguments, _compiled(trainer) if trainer.compiled else None, values)


def _compiled(trainer: Any) -> dict[str, Any]:
    optimizer = trainer.optimizer
    given = keras_private.compile_metrics(trainer).given
    return {
        "optimizer": functools.partial(type(optimizer).from_config, optimizer.get_config()),
        "metrics": [[recipe(metric) for metric in group] for group in given],
        "options": {name: getattr(trainer, name) for name in ("run_eagerly", "jit_compile", "steps_per_execution")},
        "state": [variable.numpy() for variable in optimizer.variables] if optimizer.built else None,
    }


def _restored(kind: Any, arguments: Mapping[str, Any], compiled: Mapping[str, Any] | None, values: list[Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the original has warned already
        trainer = kind(**arguments)
        if compiled is not None:
            metrics, weighted = ([_new_metric(metric) for metric in group] for group in compiled["metrics"])
            optimizer = compiled["optimizer"]()
            trainer.compile(optimizer, metrics=metrics, weighted_metrics=weighted, **compiled["options"])
            if compiled["state"] is not None:
                trainer.optimizer.build(trainer.trainable_variables)
                _assign(trainer.optimizer.variables, compiled["state"])
    _assign(_own(trainer), values)
    return trainer


def _own(trainer: Any) -> list[Any]:
    counters = [trainer._batches, trainer._epoch, trainer._epochs_per_step, trainer._last_epoch]
    return [*counters, *trainer._multipliers.values()]


def _new_metric(metric: Any) -> Any:
    return metric() if isinstance(metric, functools.partial) else metric


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
