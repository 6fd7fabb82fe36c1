"""Copies and pickles of a trainer, which Keras' own way would write as a layer, without its classifier."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

from tfrobust.training.metrics import recipe
from tfrobust.utils import keras_private


def reduced(trainer: Any) -> tuple[Any, ...]:
    """Returns the value of a trainer's `__reduce__`: its arguments, the arguments of `compile`, and its state."""
    arguments = {
        "classifier": trainer.classifier,
        "objective": trainer.objective,
        "attack": trainer.attack,
        "validation_attack": trainer.validation_attack,
        "search_in_training_mode": trainer.search_in_training_mode,
        "seed": trainer.seed,
        "name": trainer.name,
    }
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
