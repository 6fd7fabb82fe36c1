"""The metrics of `compile` on both sides: `m` of clean predictions and `robust_m` of attacked ones."""

from __future__ import annotations

import functools
import inspect
import itertools
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor

ACCURACIES = ("accuracy", "robust_accuracy")  # the trainer's own; a compiled metric of that name replaces it


class SidedMetrics(keras_private.CompileMetrics):
    """Keeps all that a trainer logs beside its loss; Keras' callbacks read the directions of metrics from it.

    Each compiled metric exists twice: the given one measures clean predictions, an equal one with its own state
    measures attacked predictions. For the string "accuracy" the trainer's own means, name -> mean, are used.

    Raises:
        ValueError: if a metric has the name of the loss, of a term, or of a metric of attacked predictions.
    """

    def __init__(self, means: Mapping[str, keras.metrics.Mean], metrics: Any = None, weighted_metrics: Any = None):
        super().__init__(metrics, weighted_metrics)
        self.given = given = [keras.tree.flatten(group or []) for group in (metrics, weighted_metrics)]
        self._means = {name: mean for name, mean in means.items() if name != "loss"}
        self._ours = {name for name in means if name not in ACCURACIES or "accuracy" in given[0]}
        # The kind of accuracy depends on the labels, its name and direction do not.
        seen = keras.KerasTensor((None,))
        resolved = [[keras_private.get_metric(metric, seen, seen) for metric in group] for group in given]
        self._names = _names(*([metric.name for metric in group] for group in resolved))
        self._check_names()
        again = [[_twin(metric) for metric in group] for group in given]
        copied = ([metric for metric in group if metric is not None] for group in again)
        self._attacked = keras_private.CompileMetrics(*copied)
        twins = [metric is not None for metric in itertools.chain(*again)]
        self._attacked_names = [f"robust_{name}" for name, twin in zip(self._names, twins, strict=True) if twin]
        directions = [keras_private.direction(metric) for metric in itertools.chain(*resolved)]
        theirs = dict(zip(self._names, directions, strict=True))
        attacked = {name: theirs[name.removeprefix("robust_")] for name in self._attacked_names}
        self._directions = {name: keras_private.direction(mean) for name, mean in means.items()} | theirs | attacked
        self._updated: set[str] = set()
        if not self._names:
            self.build(0.0, 0.0)

    def build(self, y_true: Any, y_pred: Any) -> None:
        super().build(y_true, y_pred)
        self._attacked.build(y_true, y_pred)
        for metric, name in [*self._named("clean"), *self._named("adv")]:
            metric.name = name

    @property
    def metrics(self) -> list[Any]:
        return [*self._means.values(), *super().metrics, *self._attacked.metrics]

    @property
    def variables(self) -> list[Any]:
        return [variable for metric in self.metrics for variable in metric.variables]

    def names(self, attacked: bool = True) -> list[str]:
        """Returns the names of the log of a validation, which attacks or not, in the order of `evaluate`'s list."""
        sides = ["accuracy", *(["robust_accuracy", *self._attacked_names] if attacked else [])]
        terms = [name for name in self._means if name not in ("loss", *ACCURACIES)]
        return list(dict.fromkeys(["loss", *self._names, *sides, *terms]))

    def update(self, side: str, y: Tensor, predictions: Tensor, weight: Tensor | None) -> set[str]:
        """Updates the metrics of one side, "clean" or "adv", and returns their names."""
        if not self.built:
            self.build(y, predictions)
        self._updated.add(side)
        (self if side == "clean" else self._attacked).update_state(y, predictions, weight)
        return {name for _, name in self._named(side)}

    def result(self) -> dict[str, Tensor]:
        """Returns name -> value of the means and of the sides that have been updated since `compile`."""
        results = {name: mean.result() for name, mean in self._means.items()}
        for side in self._updated:  # Some metrics have no result before their first update.
            results |= {name: metric.result() for metric, name in self._named(side) if name not in self._ours}
        return results

    def reset_state(self) -> None:
        for metric in self.metrics:
            metric.reset_state()

    def check_monitor(self, callback: Any) -> None:
        """Refuses a callback without `mode` that monitors a name that is not logged or has no direction."""
        if not keras_private.monitors(callback) or callback.mode != "auto":
            return
        who, name = type(callback).__name__, callback.monitor.removeprefix("val_")
        if name not in self._directions:
            known = [f"{prefix}{known}" for known in self._directions for prefix in ("", "val_")]
            raise unknown(f"monitor of {who} (one that another callback logs needs `mode`)", callback.monitor, known)
        if self._directions[name] is None:
            raise InvalidArgument(
                f"Keras cannot know whether {callback.monitor!r} should rise or fall: expected {who} with mode='max' "
                "or mode='min'. Received: mode='auto'"
            )

    def _check_names(self) -> None:
        reserved = [name for name in ("loss", *self._means) if name not in ACCURACIES]
        if clashes := [name for name in self._names if name in reserved or name.startswith("robust_")]:
            raise InvalidArgument(
                f"Invalid names of metrics: {reserved} are the loss and its terms, and 'robust_m' is the metric 'm' of "
                "attacked predictions. Expected other names, such as keras.metrics.KLDivergence(name='divergence'). "
                f"Received: {clashes}"
            )

    def _named(self, side: str) -> list[tuple[Any, str]]:
        metrics, names = (super().metrics, self._names)
        if side == "adv":
            metrics, names = self._attacked.metrics, self._attacked_names
        return list(zip(metrics, names, strict=True))


def _names(unweighted: Iterable[str], weighted: Iterable[str]) -> list[str]:
    """Returns the names under which Keras logs metrics: it numbers equal names and marks weighted ones."""
    taken: dict[str, int] = {}

    def free(name: str) -> str:
        taken[name] = taken.get(name, -1) + 1
        return f"{name}_{taken[name]}" if taken[name] else name

    return [*map(free, unweighted), *(free(f"weighted_{name}" if name in taken else name) for name in weighted)]


def _twin(metric: Any) -> Any:
    """Returns an equal metric with its own state; None, with a warning, where it cannot be copied."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric  # Keras creates a new metric from a name, a class or a function
    try:
        again = recipe(metric)()
    except Exception as error:  # a class of the user's may fail in any way
        kind = type(metric).__name__
        warnings.warn(
            f"The metric {metric.name!r} is logged for clean predictions only, since {kind} cannot be copied for "
            f"attacked ones: expected a `get_config` with the arguments of its `__init__`. Received: {error}",
            stacklevel=2,
        )
        return None
    keras_private.set_direction(again, keras_private.direction(metric))
    return again


def recipe(metric: Any) -> Any:
    """Returns a function that creates an equal metric with its own state; a name or a function stays as it is."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    if _measures_a_function(metric):
        # Its config would need the function to be registered, and some of Keras' own leave arguments out.
        function, arguments = keras_private.measured_function(metric)
        made = functools.partial(keras.metrics.MeanMetricWrapper, function, metric.name, metric.dtype)
        return functools.partial(made, **arguments)
    kind, config = type(metric), metric.get_config()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [p.name for p in inspect.signature(kind).parameters.values() if p.kind in named]
    missing = [name for name in parameters if name not in config]
    if missing and not kind.__module__.startswith("keras."):
        raise InvalidArgument(f"one without {', '.join(missing)}")
    return functools.partial(kind.from_config, config)


def _measures_a_function(metric: keras.metrics.Metric) -> bool:
    wrapper = keras.metrics.MeanMetricWrapper
    return isinstance(metric, wrapper) and all(
        getattr(type(metric), method) is getattr(wrapper, method) for method in ("update_state", "result")
    )
