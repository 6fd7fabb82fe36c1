"""Helpers of searches: values of one number per image, `(B,)`, beside pixels `(B, ...)`, and a counted loop."""

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from tfrobust.utils.types import Tensor


def pixels(v: Tensor) -> tuple[int, ...]:
    """Returns the axes of one image: all but the first."""
    return tuple(range(1, len(v.shape)))


def column(rows: Tensor, like: Tensor) -> Tensor:
    """Returns numbers `(B,)` as `(B, 1, ...)`, to broadcast against pixels."""
    return ops.reshape(rows, (-1, *[1] * (len(like.shape) - 1)))


def zeros(x: Tensor) -> Tensor:
    """Returns a zero for each image, `(B,)`."""
    return ops.zeros_like(ops.reshape(x, (ops.shape(x)[0], -1))[:, 0])


def where_rows(chosen: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Returns the rows of `a` where `chosen` `(B,)` is true, else those of `b`; both `(B, ...)`."""
    # With two dimensions: for more of them TensorFlow broadcasts a choice several times slower.
    rows = ops.where(chosen[:, None], *(ops.reshape(v, (ops.shape(v)[0], math.prod(a.shape[1:]))) for v in (a, b)))
    return ops.reshape(rows, ops.shape(a))


def iterate(
    most: Any, unfinished: Callable[..., Tensor], body: Callable[..., tuple[Any, ...]], *values: Any, first: int = 0
) -> tuple[Any, ...]:
    """Computes values <- body(k, *values) for k = first, first + 1, ..., while k < most and unfinished(*values)."""

    def goes_on(k: Tensor, *values: Any) -> Tensor:
        return ops.logical_and(k < most, unfinished(*values))

    def step(k: Tensor, *values: Any) -> tuple[Any, ...]:
        return (k + 1, *body(k, *values))

    return ops.while_loop(goes_on, step, (ops.convert_to_tensor(first, "int32"), *values))[1:]
