"""Straight-through gradients: a part of a classifier keeps its values and takes its gradient from another function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

from tfrobust.attacks.gradients import Exact, Gradients, Loss, Outputs, Pull
from tfrobust.utils import graph as backend
from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument, invalid
from tfrobust.utils.random import Noise
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor

Function: TypeAlias = Callable[..., Any]
Part: TypeAlias = str | Function  # the name of a layer, a layer, or the function of a layer

FUNCTION_OF = {keras.layers.Lambda: "function", keras.layers.Activation: "activation"}


def replace_gradient(function: Function, backward: Function | None = None) -> Function:
    """Returns a function with the values of one function, bit for bit, and the gradient of another.

    For a step in a classifier that is itself a function, such as rounding in `lambda z: model(rounded(z))`: every
    attack on it then follows the other gradient. The backward pass differentiable approximation (BPDA) of Athalye et
    al. 2018 (Obfuscated Gradients Give a False Sense of Security), section 4.1; with the identity the straight-through
    estimator of Bengio et al. 2013 (Estimating or Propagating Gradients Through Stochastic Neurons).

    Args:
        function: Computes the values, as floating-point tensors; it need not be differentiable.
        backward: A differentiable function of the same positional arguments, whose result has the same shape; None: the
            identity.

    Returns:
        The function, with the arguments of `function`.

    Raises:
        ValueError: when it is called, if the results differ in shape, or if the values are not floating-point numbers.

    Example:

    >>> rounded = tfrobust.attacks.replace_gradient(keras.ops.round)
    >>> classifier, attack = tfrobust.models.get("digits"), tfrobust.attacks.fgsm(eps=0.15)
    >>> x, y = np.full((2, 8, 8, 1), 0.6, "float32"), np.array([3, 7])
    >>> moved = attack(lambda z: classifier(rounded(z)), x, y)
    >>> bool(np.abs(moved - x).max() > 0.1)
    True
    """

    @functools.wraps(function)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        values = [ops.convert_to_tensor(value) for value in keras.tree.flatten(result)]
        stand_ins = keras.tree.flatten(args if backward is None else backward(*args))
        _check_alike(values, stand_ins, backward)
        joined = [backend.with_gradient_of(v, ops.cast(g, v.dtype)) for v, g in zip(values, stand_ins, strict=True)]
        return keras.tree.pack_sequence_as(result, joined)

    return replaced


def straight_through(
    part: Part | Sequence[Part], backward: Function | None = None, gradients: Gradients | None = None
) -> StraightThrough:
    """Returns an oracle of gradients that passes a part of the classifier by `backward` instead of its own gradient.

    For a layer that rounds, thresholds or compresses: its gradient is zero or misleads, and the classifier looks more
    robust than it is. `attack.expecting(oracle)` returns the attack that follows the oracle, and
    `tfrobust.evaluate(..., gradients=oracle)` lets all attacks of a suite do so. The classifier itself is not changed.
    Where the layer's own gradient is of use, attacks may find more without the oracle: the worst case of both counts.
    See `replace_gradient` for the papers, and for a classifier that is a function instead of a Keras model.

    Args:
        part: A layer of the classifier, its name, or the function that its `Lambda` or `Activation` layer computes; or
            several of these. Layers inside nested models count, a name stands for every layer that has it, and the name
            of a `keras.ops` operation of a functional model for that operation.
        backward: A differentiable function of the layer's inputs, whose result has the shape of the layer's output;
            None: the identity.
        gradients: The oracle that takes the gradient, such as another `straight_through` for a part with another
            `backward`; None: that which the attack followed before.

    Returns:
        The oracle. Its gradients raise ValueError for a part that the classifier does not call, and as
        `replace_gradient` does.

    Example:

    >>> inputs = keras.Input((8, 8, 1))
    >>> rounded = keras.layers.Lambda(lambda z: keras.ops.round(7 * z) / 7, name="round")(inputs)
    >>> classifier = keras.Model(inputs, tfrobust.models.get("digits")(rounded))
    >>> attack = tfrobust.attacks.pgd(eps=0.15).expecting(tfrobust.attacks.straight_through("round"))
    >>> tuple(attack(classifier, np.full((2, 8, 8, 1), 0.5, "float32"), np.array([3, 7])).shape)
    (2, 8, 8, 1)
    """
    parts = tuple(part) if isinstance(part, (list, tuple)) else (part,)
    if not parts or not all(callable(each) or (isinstance(each, str) and each) for each in parts):
        raise invalid("value for `part`", "a layer, the name of one, a function, or a list of these", repr(part))
    if backward is not None and not callable(backward):
        raise invalid("value for `backward`", "a differentiable function, or None for the identity", repr(backward))
    return StraightThrough(parts, backward, gradients)


class StraightThrough:
    """Implements `straight_through`: an oracle that hands another oracle a loss whose parts have another gradient."""

    def __init__(self, parts: tuple[Part, ...], backward: Function | None, gradients: Gradients | None) -> None:
        self.parts, self.backward, self.gradients = parts, backward, gradients
        self._inner: Gradients = gradients or Exact()
        self.forwards, self.backwards = self._inner.forwards, self._inner.backwards

    def __call__(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        return self._inner(self._passing(loss), z, noise)

    def value(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        return self._inner.value(loss, z, noise)

    def linear(self, outputs: Outputs, z: Tensor, noise: Noise) -> tuple[Tensor, Pull]:
        return self._inner.linear(self._passing(outputs), z, noise)

    def linear_cost(self, pulls: int) -> tuple[int, int]:
        return self._inner.linear_cost(pulls)

    def around(self, gradients: Gradients | None) -> StraightThrough:
        """Returns this oracle with another one that takes the gradient."""
        return StraightThrough(self.parts, self.backward, gradients)

    def _passing(self, function: Function) -> Function:
        """Returns a function of pixels of the same values, in which calls of the parts have the other gradient."""

        def passing(z: Tensor) -> Any:
            called: dict[str, Any] = {}
            reached: list[Part] = []

            def changed(operation: Any, compute: Function) -> Function:
                called[operation.name] = operation
                own = [part for part in self.parts if part in _designations(operation)]
                reached.extend(own)
                return replace_gradient(compute, self.backward) if own else compute

            with keras_private.changed_calls(changed):
                result = function(z)
            for part in self.parts:
                if part not in reached:
                    raise _not_called(part, called)
            return result

        return passing

    def __repr__(self) -> str:
        backward = "identity" if self.backward is None else _label(self.backward)
        inner = "" if self.gradients is None or isinstance(self.gradients, Exact) else f", gradients={self.gradients!r}"
        return f"StraightThrough(part=[{', '.join(map(_label, self.parts))}], backward={backward}{inner})"


def followed(before: Gradients, after: Gradients) -> Gradients:
    """Returns the oracle of an attack that followed one oracle and is to follow another.

    Straight-through parts are kept and added, whichever oracle has them; what takes the gradient is replaced.
    """
    if isinstance(after, StraightThrough):
        return after.around(before if after.gradients is None else followed(before, after.gradients))
    if isinstance(before, StraightThrough):
        return before.around(after if before.gradients is None else followed(before.gradients, after))
    return after


def passing(gradients: Gradients | None, function: Function) -> Function:
    """Returns a function of pixels of the same values, whose straight-through parts have the gradient of an oracle."""
    while isinstance(gradients, StraightThrough):
        function, gradients = gradients._passing(function), gradients.gradients
    return function


def _check_alike(values: Sequence[Tensor], stand_ins: Sequence[Tensor], backward: Function | None) -> None:
    """Checks that the values are floating-point numbers and that their stand-ins have their shapes."""
    for value in values:
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype)):
            raise invalid("value of a part with another gradient", "floating-point numbers", value.dtype)
    shapes, others = ([tuple(tensor.shape) for tensor in tensors] for tensors in (values, stand_ins))
    if len(shapes) != len(others) or not all(map(_may_be_equal, shapes, others)):
        raise InvalidArgument(
            "Invalid value for `backward`: expected a function whose result has the shape of the values that it stands "
            f"in for, {shapes}. Received: {_label(backward) if backward else 'the identity'}, {others}"
        )


def _may_be_equal(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    return len(shape) == len(other) and all(
        None in sizes or sizes[0] == sizes[1] for sizes in zip(shape, other, strict=True)
    )


def _designations(operation: Any) -> tuple[Any, ...]:
    """Returns what a user may name an operation by: itself, its name, and the function that is all that it computes."""
    functions = [getattr(operation, name) for kind, name in FUNCTION_OF.items() if isinstance(operation, kind)]
    return operation, operation.name, *functions


def _not_called(part: Part, called: dict[str, Any]) -> InvalidArgument:
    if not called:
        return InvalidArgument(
            f"Invalid part {_label(part)}: expected a classifier that calls it as a Keras layer. Received: one that "
            "calls no layer. Give the function that a `tf.function` wraps in place of the tf.function, and let a "
            "function of TensorFlow call tfrobust.attacks.replace_gradient(part) instead of the part"
        )
    if isinstance(part, str):
        return unknown("layer of the classifier", part, called)
    return InvalidArgument(
        f"Invalid part {_label(part)}: expected a layer of the classifier, or the function of its Lambda or Activation "
        f"layer; any other function is passed by tfrobust.attacks.replace_gradient. Received: {part!r}, where the "
        f"classifier calls the layers {', '.join(called)}"
    )


def _label(part: Part) -> str:
    return str(part if isinstance(part, str) else getattr(part, "__name__", None) or getattr(part, "name", part))
