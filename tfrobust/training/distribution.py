"""`fit` on several devices and machines: work-arounds for Keras 3, and the process that writes files.

The two methods of `Distributed` work around https://github.com/keras-team/keras/issues/20585; the tests named
`upstream` in tests/training fail when one is no longer needed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfrobust.utils import graph as backend
from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument


class Distributed(keras_private.TrainerHooks):
    """Inherited before `keras.Model`: `fit`, `evaluate` and `predict` work under any `tf.distribute` strategy."""

    classifier: keras.Model
    distribute_strategy: Any
    steps_per_execution: int

    def build_from_data(self, iterator: Any, data_batch: Any) -> None:
        """Builds what is not built yet from the shapes of the data.

        Keras averages the replicas' first batches to learn their shapes, which fails across workers and where one
        batch is smaller than the others. The dataset's specification has the shapes without reading a batch.
        """
        if iterator is not None:
            spec = keras_private.element_spec(iterator)
            parts = spec if isinstance(spec, tuple) else (spec,)
            shapes = (self.classifier.input_shape, (None,), (None,))  # where the static shape is unknown
            data_batch = tuple(
                keras.tree.map_structure(functools.partial(_with_rank, shape=shape), part)
                for part, shape in zip(parts, shapes, strict=False)
            )
        super().build_from_data(None, data_batch)

    def make_function(self, step_function: Callable[[Any], Any]) -> Any:
        """Returns the function that `fit` calls, of a step whose logs have an axis.

        Keras averages each log over the workers along its first axis, which a scalar lacks.
        """
        if self.steps_per_execution > 1 and self.distribute_strategy.num_replicas_in_sync > 1:
            raise InvalidArgument(
                "Keras' loop over steps cannot contain the communication of several replicas: "
                f"expected steps_per_execution=1. Received: {self.steps_per_execution}"
            )
        optimizer = getattr(self, "optimizer", None)
        if self.distribute_strategy.num_replicas_in_sync > 1 and (several := backend.accumulated(optimizer)) > 1:
            raise InvalidArgument(
                "Keras cannot accumulate the gradients of several replicas: expected an optimizer without "
                f"gradient_accumulation_steps. Received: gradient_accumulation_steps={several}"
            )
        make = super().make_function
        if not isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return make(step_function)

        @functools.wraps(step_function)
        def with_an_axis(data: Any) -> Any:
            return keras.tree.map_structure(lambda log: tf.convert_to_tensor(log)[None], step_function(data))

        return make(with_an_axis)


def _with_rank(spec: Any, shape: tuple[int | None, ...]) -> Any:
    return tf.TensorSpec(shape, spec.dtype) if spec.shape.rank is None else spec


def is_chief(strategy: Any) -> bool:
    """Returns whether this process writes the files of a run: the only process, or one of the workers."""
    return bool(strategy.extended.should_checkpoint)


def wait_for_all(strategy: Any) -> None:
    """Waits until all workers have called this function."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        strategy.reduce(tf.distribute.ReduceOp.SUM, tf.constant(0.0), axis=None).numpy()
