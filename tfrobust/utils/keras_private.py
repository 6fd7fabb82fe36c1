"""Gives access to all private names of Keras, TensorFlow and KerasTuner that the library uses.

There are no public ones, and an upgrade may break them: tests/utils/test_keras_private.py says which.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
from keras.src.trainers.compile_utils import CompileMetrics, get_metric

from tfrobust.utils.types import Tensor

__all__ = ["CompileMetrics", "TrainerHooks", "get_metric"]


class TrainerHooks(keras.Model if TYPE_CHECKING else object):  # type: ignore[misc]
    """Gives public names to the private methods of `keras.Model` that a trainer overrides; inherited before it."""

    def make_function(self, step_function: Callable[[Any], Any]) -> Any:
        """Returns the function that `fit` and `evaluate` call on their iterator, made of one step."""
        return super()._make_function(step_function)

    def build_from_data(self, iterator: Any, data_batch: Any) -> None:
        """Builds the model, its metrics and its optimizer before the first step."""
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    def logs_in_order(self, logs: Mapping[str, Any]) -> list[Any]:
        """Returns the values of the logs in the order of the list that `evaluate` returns."""
        return super()._flatten_metrics_in_order(logs)

    def completed_logs(self, logs: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the logs of an epoch, for the logs of its last step."""
        return super()._get_metrics_result_or_logs(logs)

    def _make_function(self, step_function: Callable[[Any], Any]) -> Any:
        return self.make_function(step_function)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        self.build_from_data(iterator, data_batch)

    def _flatten_metrics_in_order(self, logs: Mapping[str, Any]) -> list[Any]:
        return self.logs_in_order(logs)

    def _get_metrics_result_or_logs(self, logs: Mapping[str, Any]) -> dict[str, Any]:
        return self.completed_logs(logs)


def compile_metrics(model: keras.Model) -> Any:
    """Returns the object that holds the metrics of `compile`, where Keras' callbacks look for a direction."""
    return model._compile_metrics


def set_compile_metrics(model: keras.Model, metrics: CompileMetrics) -> None:
    """Sets the object that holds the metrics of `compile`."""
    model._compile_metrics = metrics


def loss_tracker(model: keras.Model) -> Any:
    """Returns Keras' own mean of the loss, None before `compile`."""
    return model._loss_tracker


def direction(metric: Any) -> str | None:
    """Returns "up" or "down", as Keras' callbacks with mode="auto" read it; None if it is unknown."""
    return getattr(metric, "_direction", None)


def set_direction(metric: Any, direction: str | None) -> None:
    """Sets what `direction` returns."""
    metric._direction = direction


def measured_function(metric: keras.metrics.MeanMetricWrapper) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns the function whose mean a metric computes, and its arguments."""
    return metric._fn, metric._fn_kwargs


def monitors(callback: Any) -> bool:
    """Returns whether a callback looks up the direction of its `monitor`."""
    return hasattr(callback, "_set_monitor_op")


def layers_inside(layer: keras.layers.Layer, include_self: bool = True) -> list[Any]:
    """Returns a layer and all layers inside it, those of nested models included."""
    return list(layer._flatten_layers(include_self=include_self))


def call_of(tensor: Tensor) -> tuple[Any, Any, int]:
    """Returns the operation that made a symbolic tensor, its arguments, and which of its outputs the tensor is."""
    operation, node, position = tensor._keras_history
    return operation, operation._inbound_nodes[node].arguments, position


Change = Callable[[Any, Callable[..., Any]], Callable[..., Any]]  # (operation, its computation) -> its computation

_changes: contextvars.ContextVar[tuple[Change, ...]] = contextvars.ContextVar("changes", default=())
_own_call = keras.Operation.__call__
_blocks, _counting = 0, threading.Lock()


@contextlib.contextmanager
def changed_calls(change: Change) -> Iterator[None]:
    """Lets every call of a layer or operation compute, in the block and in this thread, what `change` returns.

    `change` gets the operation and the function that computes its call, after Keras has cast the arguments. No layer is
    touched: the method of the class is exchanged while a thread is in such a block, and put back after the last one.
    """
    token = _changes.set((*_changes.get(), change))
    _count(1)
    try:
        yield
    finally:
        _count(-1)
        _changes.reset(token)


def _count(blocks: int) -> None:
    global _blocks
    with _counting:
        _blocks += blocks
        keras.Operation.__call__ = _changed_call if _blocks else _own_call


def _changed_call(operation: Any, *args: Any, **kwargs: Any) -> Any:
    compute: Callable[..., Any] = functools.partial(_own_call, operation)
    for change in _changes.get():  # those of other threads do not count
        compute = change(operation, compute)
    return compute(*args, **kwargs)


def weights_and_averages(optimizer: keras.optimizers.Optimizer) -> list[tuple[Any, Any]]:
    """Returns the pairs of a weight and its average of an optimizer with `use_ema=True`."""
    return list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))


def clip_gradients(optimizer: keras.optimizers.Optimizer, gradients: list[Tensor]) -> list[Tensor]:
    """Returns the gradients as the optimizer clips them."""
    return optimizer._clip_gradients(gradients)


def element_spec(iterator: Any) -> Any:
    """Returns the specification of a batch of one replica, for Keras' iterator of an epoch."""
    return keras.tree.map_structure(_of_one_replica, iterator._distributed_dataset.element_spec)


def _of_one_replica(spec: Any) -> Any:
    return spec._value_specs[0] if hasattr(spec, "_value_specs") else spec


def draw_to_the_last(oracle: Any) -> None:
    """Lets an oracle of KerasTuner draw every point of a small space, instead of stopping after a few collisions."""
    oracle._max_collisions = 10_000


def rounds_of(oracle: Any) -> list[list[tuple[int, int]]]:
    """Returns the rounds (number of trials, epochs at their end) of each bracket of a Hyperband oracle."""
    return [
        [
            (oracle._get_size(bracket, number), oracle._get_epochs(bracket, number))
            for number in range(oracle._get_num_rounds(bracket))
        ]
        for bracket in range(oracle._get_num_brackets())
    ]


def chief_service(oracle: Any, server: Any) -> Callable[[], bool]:
    """Adds KerasTuner's chief to a gRPC server and returns a function that tells whether all workers have stopped."""
    from keras_tuner.src import protos
    from keras_tuner.src.distribute import oracle_chief

    answers = oracle_chief.OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(answers, server)
    return lambda: answers.stop_triggered and oracle_chief.exit_chief(oracle)
