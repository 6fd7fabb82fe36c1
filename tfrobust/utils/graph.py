"""Wraps the parts of TensorFlow that Keras does not offer: input gradients, graphs, the replicas of a step."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import keras
import tensorflow as tf

from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])

# Gradients are taken of a multiple of the loss and divided again: under mixed_float16 most of them would round to zero,
# and a network would look robust because attacks fail. A power of two changes nothing in float32 and bfloat16.
GRADIENT_SCALE = 2.0**12


def require(subject: str) -> None:
    """Raises ValueError if Keras does not run on TensorFlow, which the subject of the error's sentence needs."""
    if (running := keras.backend.backend()) != "tensorflow":
        raise InvalidArgument(
            f"{subject} needs Keras on TensorFlow: expected KERAS_BACKEND=tensorflow. Received: the backend "
            f"{running!r}, under which losses, layers, networks, balls and step rules work, and no training, attack or "
            "evaluation"
        )


def value_and_gradient(loss: Callable[[Tensor], Any], z: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Returns a per-example loss, its observed values or None, and its gradient by the input, made `finite`.

    Only `z` is watched, so no gradient by a weight is ever computed. The gradient is zero if the loss does not depend
    on the input, or only through a step function.

    Args:
        loss: `z -> (B,)`, or `z -> ((B,), (B,))` where the second is observed and not differentiated.
        z: pixels, `(B, ...)`.
    """
    value, observed, gradient = value_and_raw_gradient(loss, z)
    return value, observed, finite(gradient)


def value_and_raw_gradient(loss: Callable[[Tensor], Any], z: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Returns the values of `value_and_gradient` with a gradient that may be NaN or infinite."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(z)
        value, observed = split(loss(z))
        scaled = GRADIENT_SCALE * value
    gradient = tape.gradient(scaled, z, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return value, observed, gradient / GRADIENT_SCALE


def linearization(function: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Returns values `(B, C)` at z, and `v -> gradient of sum_c v_c * value_c` by the input for `v` `(B, C)`.

    The forward pass is made once; each call of the second makes one backward pass. Gradients are made `finite`.
    """
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(z)
        values = function(z)

    def pull(v: Tensor) -> Tensor:
        scaled = tf.cast(GRADIENT_SCALE * v, values.dtype)
        gradient = tape.gradient(values, z, scaled, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return finite(gradient / GRADIENT_SCALE)

    return values, pull


def finite(gradient: Tensor) -> Tensor:
    """Returns input gradients `(B, ...)` that a search can follow: a single NaN would make the whole image NaN.

    NaN, such as that of a root at a black pixel, becomes 0. An infinite value becomes the largest finite one of its
    image, with its own sign (1 if all other values are 0). A gradient that is finite is returned unchanged.
    """
    sound = tf.math.is_finite(gradient)

    def mended() -> Tensor:
        size = tf.abs(tf.where(sound, gradient, 0.0))
        largest = tf.reduce_max(size, axis=list(range(1, len(gradient.shape))), keepdims=True)
        largest = tf.where(largest > 0, largest, 1.0)
        instead = tf.where(tf.math.is_nan(gradient), 0.0, tf.sign(gradient) * largest)
        return tf.where(sound, gradient, instead)

    return tf.ensure_shape(tf.cond(tf.reduce_all(sound), lambda: gradient, mended), gradient.shape)


@tf.custom_gradient
def with_gradient_of(value: Tensor, stand_in: Tensor) -> Any:
    """Returns a value, bit for bit, whose gradient is that of a stand-in of the same shape and type.

    The difference value + stand_in - stop_gradient(stand_in) would change an infinite value and the sign of a zero.
    """
    return tf.identity(value), lambda upstream: (None, upstream)


def split(result: Any) -> tuple[Tensor, Tensor | None]:
    """Returns `(value, observed)` for the result of a loss, which is a value alone or a pair."""
    return result if isinstance(result, tuple) else (result, None)


def once_in_this_graph(compute: Callable[[], Any]) -> Callable[[], Any]:
    """Returns a function that runs `compute` at its first call, in the graph that is current now, and keeps the result.

    A clean forward pass that is first read inside the loop of a search would otherwise be built into the loop's body,
    where it would run in every iteration and could not be read after the loop.
    """
    if tf.executing_eagerly():
        return functools.cache(compute)
    graph = tf.compat.v1.get_default_graph()

    @functools.cache
    def run() -> Any:
        with graph.as_default():
            return compute()

    return run


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function as one graph, traced once for all batch sizes."""
    return tf.function(function, autograph=False, reduce_retracing=True)


def as_written(function: Function) -> Function:
    """Returns a function that AutoGraph does not convert when a user's `tf.function` calls it."""
    return cast(Function, tf.autograph.experimental.do_not_convert(function))


def in_graph() -> bool:
    """Returns whether a graph is being traced, such as that of a user's `tf.function` or `Dataset.map`."""
    return not tf.executing_eagerly()


@contextlib.contextmanager
def put_back(variables: Iterable[Any]) -> Iterator[None]:
    """Restores the values of variables, bit for bit, when the block ends."""
    variables = list(variables)
    before = [tf.identity(variable) for variable in variables]
    yield
    assign(variables, before)


def assign(variables: Iterable[Any], values: Iterable[Tensor]) -> None:
    """Gives each variable on each replica the value of that replica; Keras' `assign` would average over replicas."""

    def update(strategy: tf.distribute.Strategy, *values: Tensor) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(variable.value, lambda v, new: v.assign(new), args=(value,), group=False)

    tf.distribute.get_replica_context().merge_call(update, args=tuple(values))


def unscaled(optimizer: Any) -> Any:
    """Returns the optimizer that holds the settings, which is the inner one of an optimizer with a loss scale."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def accumulated(optimizer: Any) -> int:
    """Returns how many batches an optimizer accumulates for one update."""
    return int(getattr(unscaled(optimizer), "gradient_accumulation_steps", None) or 1)


def replicas() -> int:
    """Returns the number of replicas that take a step together."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def global_sum(local: Tensor) -> Tensor:
    """Returns the sum of a local value over all replicas of the step."""
    if replicas() == 1:
        return local
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, local)


def agree(variables: list[Any], rows: Tensor) -> None:
    """Sets floating-point variables that differ between replicas to their mean, weighted by the rows of each replica.

    The moving mean of BatchNorm is then that of the global batch, its variance that within the local batches.
    """
    if replicas() == 1 or not variables:
        return
    share = rows / tf.maximum(global_sum(rows), 1.0)
    means = global_sum([share * tf.convert_to_tensor(variable) for variable in variables])
    for variable, mean in zip(variables, means, strict=True):
        variable.assign(mean)


def rows_before(rows: Tensor) -> Any:
    """Returns how many rows of the global batch lie on the replicas before this one."""
    if replicas() == 1:
        return 0
    context = tf.distribute.get_replica_context()
    counts = context.all_gather(tf.reshape(rows, [1]), axis=0)
    return tf.reduce_sum(counts[: context.replica_id_in_sync_group])


def traced(function: Callable[..., Any], *specs: tf.TensorSpec) -> Callable[..., Any]:
    """Returns the function as one graph, which is traced now and serves all batch sizes."""
    traceable: Any = compiled(function)
    graph = traceable.get_concrete_function(*specs)
    return lambda *args: graph(*(tf.convert_to_tensor(a, s.dtype) for a, s in zip(args, specs, strict=True)))


def in_flight() -> int:
    """Returns how many batches to compute at a time: two on a CPU; a GPU is full with one, and its memory counts."""
    return 1 if tf.config.list_logical_devices("GPU") else 2


def specs(x: Any) -> tuple[tf.TensorSpec, ...]:
    """Returns the specifications of (pixels, labels, image numbers, seed) of a batch of any size."""
    labels, numbers = (tf.TensorSpec((None,), tf.int32) for _ in range(2))
    return tf.TensorSpec((None, *x.shape[1:]), tf.float32), labels, numbers, tf.TensorSpec((2,), tf.int32)
