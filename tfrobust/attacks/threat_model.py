"""The threat model: norm balls around the clean image, within the pixel range and a mask."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from tfrobust import schedules
from tfrobust.attacks.rows import pixels, zeros
from tfrobust.attacks.steps import Greedy, Normalized, Sign, count_values, l2_norm
from tfrobust.schedules import Schedule, value_at
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_nonnegative

if TYPE_CHECKING:
    from tfrobust.utils.random import Noise

HALVINGS = 30  # bisections in search of a threshold


class Ball:
    """Holds radius, norm, pixel range and mask: all z with ||z - x|| <= eps; the base of the norm balls.

    Args:
        eps: Radius in units of the pixels, as the bounds give them (8/255 within (0, 1) is 8 within (0, 255)), or a
            schedule over the fractional epoch.
        bounds: Least and greatest pixel value.
        mask: 1 where a pixel may change, 0 where it may not: an array or nested lists, `(H, W, C)`, `(H, W, 1)` or, for
            one batch, `(B, H, W, C)`. None: all may. The radius is the same with and without a mask.
    """

    steepest: Callable[..., Any]  # the step rule of steepest ascent in this norm
    widest: float = math.inf  # greatest radius, in pixel ranges

    def __init__(self, eps: Schedule, bounds: tuple[float, float] = (0.0, 1.0), mask: Any = None) -> None:
        if len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise InvalidArgument(
                f"Invalid value for `bounds`: expected (least, greatest) pixel value. Received: {bounds}"
            )
        eps = schedules.get(eps)
        if not callable(eps):
            check_nonnegative("eps", eps)
        self.eps = eps
        self.bounds = (float(bounds[0]), float(bounds[1]))
        self.mask = None if mask is None else _checked(mask)
        if not callable(eps) and eps > self.widest * self.width:
            advice = ", as a fraction (8/255, not 8)" if self.width == 1 else f" of the bounds {self.bounds}"
            raise InvalidArgument(
                f"Invalid value for `eps`: expected at most the pixel range {self.width:g}{advice}. Received: eps={eps}"
            )

    def at(self, epoch: Any) -> Ball:
        """Returns this ball with the radius that a schedule gives at the fractional epoch."""
        if not callable(self.eps):
            return self
        ball = copy.copy(self)
        ball.eps = ops.cast(value_at(self.eps, epoch), "float32")
        return ball

    @property
    def endless(self) -> bool:
        """Returns whether there is no radius: adversaries of any size count, and the nearest is searched for."""
        return isinstance(self.eps, float) and math.isinf(self.eps)

    @property
    def width(self) -> float:
        """Returns the pixel range, greatest less least value, by which constants that are lengths are multiplied."""
        return self.bounds[1] - self.bounds[0]

    @property
    def radius(self) -> Any:
        """Returns the radius as a number or a scalar tensor; if eps is a schedule, only `ball.at(epoch)` has one."""
        if callable(self.eps):
            raise InvalidArgument(
                "This ball's eps is a schedule: expected `ball.at(epoch)` (or `attack.at(epoch)`) first."
            )
        return self.eps

    def start(self, x: Tensor, noise: Noise) -> Tensor:
        """Returns a point drawn uniformly from the ball, shaped as x, clipped to the bounds."""
        raise NotImplementedError

    def project(self, z: Tensor, x: Tensor) -> Tensor:
        """Returns the point of the ball around x nearest to z, then clipped to the bounds; both `(B, ...)`."""
        return ops.clip(x + self._project(self.masked(z - x)), *self.bounds)

    def masked(self, v: Tensor) -> Tensor:
        """Returns changes or gradients `(B, H, W, C)` with 0 outside the mask, whose shape has to fit."""
        if self.mask is None:
            return v
        fits = len(v.shape) == 4 and all(m in (1, n) for m, n in zip(self.mask.shape[-3:], v.shape[1:], strict=True))
        if not fits:
            raise InvalidArgument(
                f"Invalid value for `mask`: expected (H, W, C) of the images, {tuple(v.shape[1:])}. "
                f"Received: {self.mask.shape}"
            )
        v = ops.convert_to_tensor(v)
        return ops.where(self.mask, v, ops.zeros_like(v))  # not a product: 0 * inf is not a number

    def distance(self, z: Tensor, x: Tensor) -> Tensor:
        """Returns the norm of z - x for each example, `(B,)`."""
        raise NotImplementedError

    def far(self, z: Tensor, x: Tensor, hit: Tensor) -> Tensor:
        """Returns the rule of success as a distance, `(B,)`: pixels with a smaller one replace those found before.

        It is infinite if z is not an adversary (`hit` `(B,)`), else 0, so that the first adversary is kept; without a
        radius it is the distance from x, so that the nearest is kept.
        """
        return ops.where(hit, self.distance(z, x) if self.endless else zeros(z), math.inf)

    def _project(self, delta: Tensor) -> Tensor:
        raise NotImplementedError

    def __repr__(self) -> str:
        masked = "" if self.mask is None else f", mask={self.mask.shape}"
        return f"{type(self).__name__}(eps={self.eps!r}, bounds={self.bounds}{masked})"


class Linf(Ball):
    """Bounds the maximum norm: no value of a pixel changes by more than eps.

    Example:

    >>> Linf(0.1).project(np.array([[0.9]]), np.array([[0.5]])).numpy()
    array([[0.6]])
    """

    steepest = Sign
    widest = 1.0

    def start(self, x: Tensor, noise: Noise) -> Tensor:
        return self.project(x + self.radius * noise.uniform(x), x)

    def distance(self, z: Tensor, x: Tensor) -> Tensor:
        return ops.max(_rows(ops.abs(z - x)), axis=-1)

    def _project(self, delta: Tensor) -> Tensor:
        return ops.clip(delta, -self.radius, self.radius)


class L2(Ball):
    """Bounds the Euclidean norm: the root of the sum of squared changes is at most eps.

    Example:

    >>> L2(0.5).project(np.array([[0.6, 0.8]]), np.array([[0.0, 0.0]])).numpy()
    array([[0.3, 0.4]])
    """

    steepest = Normalized

    def start(self, x: Tensor, noise: Noise) -> Tensor:
        # A direction drawn from a normal distribution is uniform; volume grows with radius ** dimension.
        direction = self.masked(noise.fold(0).normal(x))
        dimension = ops.sum(self.masked(ops.ones_like(x)), axis=pixels(x), keepdims=True)
        first = x[(slice(None), *[slice(0, 1)] * (len(x.shape) - 1))]
        share = (0.5 + 0.5 * noise.fold(1).uniform(first)) ** (1.0 / dimension)
        return self.project(x + self.radius * share * direction / l2_norm(direction), x)

    def distance(self, z: Tensor, x: Tensor) -> Tensor:
        return ops.sqrt(ops.sum(_rows(ops.square(z - x)), axis=-1))

    def _project(self, delta: Tensor) -> Tensor:
        return delta * ops.minimum(1.0, self.radius / l2_norm(delta))


class L1(Ball):
    """Bounds the mean absolute change: the sum of all changes is at most eps * N, N = H * W * C values.

    eps is a mean so that it compares with the radius of the maximum norm: 1/255 lets every value change by one step of
    an 8-bit image, or few values by many. Thesis, section 4.4.2.

    Example:

    >>> L1(0.1).project(np.array([[0.6, 0.4]]), np.array([[0.5, 0.5]])).numpy()  # the sum is 0.2 = 0.1 * 2
    array([[0.6, 0.4]])
    >>> L1(0.1).project(np.array([[0.9, 0.4]]), np.array([[0.5, 0.5]])).numpy().round(3)
    array([[0.7, 0.5]])
    """

    steepest = Greedy
    widest = 1.0

    def start(self, x: Tensor, noise: Noise) -> Tensor:
        # N + 1 exponential numbers over their sum, less the last one, are uniform in the simplex.
        uniform = noise.fold(0).uniform(x)
        one = noise.fold(1).uniform(x[(slice(None), *[slice(0, 1)] * (len(x.shape) - 1))])
        sizes, last = (-ops.log(ops.maximum(ops.abs(u), 1e-12)) for u in (uniform, one))
        sizes = self.masked(sizes)
        total = ops.sum(sizes, axis=pixels(x), keepdims=True) + last
        return self.project(x + self.radius * count_values(x) * ops.sign(uniform) * sizes / total, x)

    def distance(self, z: Tensor, x: Tensor) -> Tensor:
        return ops.mean(_rows(ops.abs(z - x)), axis=-1)

    def project(self, z: Tensor, x: Tensor) -> Tensor:
        """Returns the point nearest to z within both the ball around x and the bounds; both `(B, ...)`.

        Its changes have the sizes min(max(|z - x| - theta, 0), room), room up to the bound and theta >= 0 the least
        number for which they fit the radius: found by bisection, then exactly. Croce and Hein 2021 (Mind the Box),
        proposition 2.1. Clipping after a projection would waste the budget that the bounds cut off.
        """
        delta = self.masked(z - x)
        least, most = (ops.cast(bound, delta.dtype) for bound in self.bounds)
        sizes = ops.abs(delta)
        room = ops.minimum(ops.where(delta > 0, most - x, x - least), sizes)
        budget = ops.cast(self.radius, delta.dtype) * count_values(delta)
        axis = pixels(delta)

        def total(values: Tensor) -> Tensor:
            return ops.sum(values, axis=axis, keepdims=True)

        def shrunk(theta: Tensor) -> Tensor:
            return ops.minimum(ops.maximum(sizes - theta, 0.0), room)

        def halve(_: Any, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
            middle = (low + high) / 2
            fits = total(shrunk(middle)) <= budget
            return ops.where(fits, low, middle), ops.where(fits, middle, high)

        theta = ops.max(sizes, axis=axis, keepdims=True)
        low, high = ops.fori_loop(0, HALVINGS, lambda k, ends: halve(k, *ends), (ops.zeros_like(theta), theta))
        theta = (low + high) / 2
        moving = (sizes > theta) & (sizes - theta < room)
        clipped = total(ops.where(sizes - theta >= room, room, 0.0))
        exact = (total(ops.where(moving, sizes, 0.0)) + clipped - budget) / ops.maximum(
            total(ops.cast(moving, delta.dtype)), 1.0
        )
        theta = ops.where(total(room) <= budget, 0.0, ops.clip(exact, low, high))
        kept = shrunk(theta)
        kept = kept * ops.minimum(1.0, budget / ops.maximum(total(kept), 1e-30))  # rounding may exceed the budget
        return ops.clip(x + ops.sign(delta) * kept, *self.bounds)


NORMS: dict[str, type[Ball]] = {"linf": Linf, "l2": L2, "l1": L1}


def ball(
    norm: str, eps: Schedule, bounds: tuple[float, float] = (0.0, 1.0), mask: Any = None, *, attack: str | None = None
) -> Ball:
    """Returns the ball of a norm by its name; see `Ball` for the other arguments.

    Args:
        norm: "linf", "l2" or "l1".
        attack: Name of an attack that is defined in the first two norms alone; None: all norms are allowed.
    """
    if norm not in NORMS or (attack and norm == "l1"):
        raise unknown(f"norm of {attack}" if attack else "norm", norm, ("linf", "l2") if attack else NORMS)
    return NORMS[norm](eps, bounds, mask)


def _checked(mask: Any) -> np.ndarray:
    """Returns a mask as a boolean array, `(H, W, C)` or `(B, H, W, C)`."""
    wanted = "Invalid value for `mask`: expected 1 where a pixel may change and 0 where not, of shape (H, W, C)."
    try:
        array = np.asarray(mask, "float32")
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{wanted} Received: {mask!r}") from error
    if array.ndim not in (3, 4):
        raise InvalidArgument(f"{wanted} Received: shape {array.shape}")
    if not np.isin(array, (0, 1)).all():
        raise InvalidArgument(f"{wanted} Received: values from {array.min():g} to {array.max():g}")
    if not array.any():
        raise InvalidArgument(f"{wanted} Received: 0 everywhere, so that nothing may change")
    return array > 0


def _rows(v: Tensor) -> Tensor:
    return ops.reshape(v, (ops.shape(v)[0], -1))
