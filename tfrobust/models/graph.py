"""Traverses a functional model backwards: the call that produced a tensor, and its function.

An operation is recognized by its output for a probe, not by its class: a softmax has several spellings in Keras
(`Dense(activation=)`, `Activation`, `Softmax`, `keras.ops.softmax`, ...), as has average pooling. Keras has no public
access to the operation behind a tensor; only `Step.of` reads the two private attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrobust.utils import keras_private
from tfrobust.utils.types import Tensor


def _softmax(z: Tensor) -> Tensor:
    # `ops.softmax` warns if there is one class.
    return ops.exp(z) / ops.sum(ops.exp(z), axis=-1, keepdims=True)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda z: z,
    "softmax": _softmax,
    "sigmoid": ops.sigmoid,
}


class Step(NamedTuple):
    """Describes the call that produced `tensor` as output number `position` of `operation(*arguments)`."""

    tensor: Tensor
    operation: Any
    arguments: Any
    position: int

    @classmethod
    def of(cls, tensor: Tensor) -> Step:
        return cls(tensor, *keras_private.call_of(tensor))

    @property
    def inner(self) -> Tensor | None:
        """Returns the corresponding inner tensor if the operation is itself a functional or Sequential model."""
        return self.operation.outputs[self.position] if is_graph(self.operation) else None

    @property
    def source(self) -> Tensor | None:
        """Returns the only input tensor; None if there are none or several."""
        tensors = self.arguments.keras_tensors
        return tensors[0] if len(tensors) == 1 else None

    def replay(self, source: Tensor, **options: Any) -> Tensor:
        """Calls the operation again on `source`, with further options."""
        args, kwargs = self.arguments.fill_in({id(self.source): source})
        return self.operation(*args, **{**kwargs, **options})

    def passes(self) -> bool:
        """Returns whether the values are unchanged in inference, possibly reshaped: Flatten, Dropout, ..."""
        return self._does(lambda x: x)

    def averages(self) -> bool:
        """Returns whether the operation averages a map `(B, H, W, K)` over its positions."""
        if self.source is None or len(self.source.shape) != 4:
            return False
        # A map of one position is its own average: an operation that keeps its shape, as a Dropout, is not pooling.
        kept = self.tensor.shape == self.source.shape and not getattr(self.operation, "keepdims", False)
        return not kept and self._does(lambda x: ops.mean(x, axis=(1, 2)))

    def activation(self) -> str | None:
        """Returns the name of the activation function, if it is a known one without state; a Flatten is "linear"."""
        # Dropout and noise are identities in inference, but removing them would change the training.
        if self.source is None or self._owns("variables"):
            return None
        name = "linear" if self.passes() else which_activation(self.replay, self.source.shape[1:])
        # Removing an operation that adds a loss, such as an activity regularizer, would change the training.
        return None if getattr(self.operation, "losses", ()) else name

    def _owns(self, state: str) -> bool:
        return is_graph(self.operation) or len(getattr(self.operation, state, ())) > 0

    def _does(self, function: Callable[[Tensor], Tensor]) -> bool:
        if self.source is None or self._owns("weights"):
            return False
        return alike(self.replay, function, self.source.shape[1:], flat=True)


def is_graph(operation: Any) -> bool:
    """Returns whether this is a functional model, or a Sequential one whose input is known."""
    return isinstance(operation, keras.Model) and getattr(operation, "outputs", None) is not None


def first_steps(model: keras.Model) -> list[Step]:
    """Returns the chain of calls from a model's input on, including those of nested models.

    It ends before the first tensor that several calls read, such as the start of a shortcut.
    """
    readers: dict[int, list[Step]] = {}
    tensors = list(model.outputs)
    seen = {id(tensor) for tensor in tensors}
    while tensors:
        step = Step.of(tensors.pop())
        for source in step.arguments.keras_tensors:
            others = readers.setdefault(id(source), [])
            if all(other.arguments is not step.arguments for other in others):  # one call may have several tensors
                others.append(step)
            if id(source) not in seen:
                seen.add(id(source))
                tensors.append(source)
    steps: list[Step] = []
    tensor = model.inputs[0]
    while len(readers.get(id(tensor), ())) == 1:
        step = readers[id(tensor)][0]
        if step.source is None:
            break
        inside = first_steps(step.operation) if is_graph(step.operation) else [step]
        steps += inside
        if step.inner is not None and (not inside or inside[-1].tensor is not step.inner):
            break  # the chain ends inside
        tensor = step.tensor
    return steps


def which_activation(function: Callable[[Tensor], Tensor], shape: tuple[int | None, ...]) -> str | None:
    """Returns the name in `ACTIVATIONS` of the function that `function` equals on `(B, *shape)`, or None."""
    return next((name for name, known in ACTIVATIONS.items() if alike(function, known, shape)), None)


def tail(tensor: Tensor, length: int = 3) -> str:
    """Returns the names of the last operations before a tensor, such as `Conv2D -> Reshape -> Activation(softmax)`."""
    names: list[str] = []
    current: Tensor | None = tensor
    while current is not None and len(names) < length:
        step = Step.of(current)
        if step.inner is None:
            function = getattr(getattr(step.operation, "activation", None), "__name__", "linear")
            names.insert(0, type(step.operation).__name__ + (f"({function})" if function != "linear" else ""))
        current = step.source if step.inner is None else step.inner
    return " -> ".join(names)


def alike(
    first: Callable[[Tensor], Tensor],
    second: Callable[[Tensor], Tensor],
    shape: tuple[int | None, ...],
    flat: bool = False,
) -> bool:
    """Returns whether two functions of `(B, *shape)` agree on a probe; with `flat`, up to the shape of their output."""
    # An unknown size, such as that of images of any size, is 3 here.
    sizes = (4, *(3 if size is None else size for size in shape))
    probe = ops.convert_to_tensor(np.random.default_rng(0).uniform(-3.0, 3.0, sizes).astype("float32"))
    received, expected = first(probe), second(probe)
    if not ops.is_tensor(received):
        return False
    tolerance = 1e-5 if keras.backend.standardize_dtype(received.dtype) in ("float32", "float64") else 2e-2
    a, b = (ops.convert_to_numpy(ops.cast(t, "float32")) for t in (received, expected))
    if flat and a.size == b.size:
        a, b = a.reshape(-1), b.reshape(-1)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0.0, atol=tolerance * np.abs(b).max()))
