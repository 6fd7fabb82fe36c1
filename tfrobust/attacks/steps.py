"""How an adversary moves: step rules `(z, gradient, value, ball, state) -> z, state`, which know no projection."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

from keras import ops

from tfrobust.attacks.rows import column, pixels
from tfrobust.utils.validation import check_number

Tensor = Any


class OfEps(NamedTuple):
    """A step size that is a fraction of the ball's eps, so that it follows a schedule of eps."""

    fraction: float


Size = float | OfEps


class Step(Protocol):
    """A step rule with its state."""

    def init(self, x: Tensor) -> Any:
        """Returns the state before the first step, a tuple of tensors."""

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: Any) -> tuple[Tensor, Any]:
        """Returns the moved point and the state after it; z and gradient `(B, ...)`, value of the loss `(B,)`."""


class Sign:
    """z + size * sign(g), the steepest ascent in the maximum norm.

    Madry et al. 2018, equation 2.

    Args:
        size: in units of the pixels, or `OfEps(fraction)`.
    """

    def __init__(self, size: Size) -> None:
        self.size = _checked(size)

    def init(self, x: Tensor) -> Any:
        return ()

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: Any) -> tuple[Tensor, Any]:
        return z + size_in(self.size, ball) * self.direction(gradient), state

    def direction(self, gradient: Tensor) -> Tensor:
        return ops.sign(gradient)


class Normalized(Sign):
    """z + size * g / ||g||_2, the steepest ascent in the Euclidean norm. A zero gradient moves nothing."""

    def direction(self, gradient: Tensor) -> Tensor:
        scaled = _scaled(gradient)
        return scaled / l2_norm(scaled)


class Gradient(Sign):
    """z + size * g, the raw gradient."""

    def direction(self, gradient: Tensor) -> Tensor:
        return gradient


class Momentum:
    """Hands another rule the running sum m <- decay * m + g / ||g||_1 in place of the gradient.

    Dong et al. 2018 (Boosting Adversarial Attacks with Momentum), equation 6.

    Args:
        rule: the step rule that moves, `Sign(size)` in the paper.
        decay: weight of the past, 1.0 in the paper.
    """

    def __init__(self, rule: Step, decay: float = 1.0) -> None:
        self.rule = rule
        self.decay = decay

    def init(self, x: Tensor) -> Any:
        return (ops.zeros_like(x), self.rule.init(x))

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: Any) -> tuple[Tensor, Any]:
        momentum, inner = state
        scaled = _scaled(gradient)
        norm = ops.sum(ops.abs(scaled), axis=pixels(scaled), keepdims=True)
        momentum = self.decay * momentum + scaled / ops.maximum(norm, 1e-30)
        z, inner = self.rule(z, momentum, value, ball, inner)
        return z, (momentum, inner)


class Strongest(Sign):
    """z + size * N * g / ||g||_1 * mask: the values with the strongest gradients move, in proportion to them.

    With the whole gradient a step is `size` in mean absolute change; the mask takes its part of that away. Thesis,
    algorithm 4.4.2 (DRA), its constants by this project's choice.

    Args:
        size: mean absolute change of a step without mask, or `OfEps(fraction)`.
        share: p, the share of an image's N = H * W * C values that move, in (0, 1].
        fixed_mask: keep the values that were strongest at the first step; otherwise they are chosen at each step.
    """

    def __init__(self, size: Size, share: float = 1.0, fixed_mask: bool = False) -> None:
        super().__init__(size)
        self.share = check_number("p", share, 0, 1, above=True, expected="a share of the values")
        self.fixed_mask = fixed_mask

    def init(self, x: Tensor) -> Any:
        return (ops.zeros_like(x),) if self.fixed_mask else ()  # no mask yet

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: Any) -> tuple[Tensor, Any]:
        scaled = _scaled(gradient)
        if self.share < 1:
            mask = self._mask(scaled)
            if state:
                mask = ops.where(ops.any(state[0] > 0, axis=pixels(mask), keepdims=True), state[0], mask)
                state = (mask,)
        else:
            mask = ops.ones_like(scaled)
        total = ops.maximum(ops.sum(ops.abs(scaled), axis=pixels(scaled), keepdims=True), 1e-30)
        return z + size_in(self.size, ball) * count_values(z) * scaled / total * mask, state

    def _mask(self, gradient: Tensor) -> Tensor:
        sizes = ops.abs(gradient)
        rows = ops.reshape(sizes, (ops.shape(sizes)[0], count_values(sizes)))
        kept = max(1, round(self.share * count_values(sizes)))
        least = ops.min(ops.top_k(rows, kept, sorted=False)[0], axis=-1)
        strong = sizes >= column(least, sizes)
        return ops.cast(ops.logical_and(strong, sizes > 0), gradient.dtype)


class Greedy(Sign):
    """z + d, where d maximizes g.d among all changes within the bounds whose mean size is at most that of the step.

    The values with the greatest |g| move first, each as far as its bound lets it, until the step is spent: the steepest
    ascent in the L1 norm among the points that are images. Without the bounds it would move one value alone.

    The first step is as long as the radius, which chooses the values; then they fall geometrically, to `size` after
    2.5 * eps / size steps (all of `pgd`), and stay there. **choice**: steps of `size` alone leave 4 points more.

    Args:
        size: mean absolute change of the shortest step in units of the pixels, or `OfEps(fraction)`.
    """

    def init(self, x: Tensor) -> Any:
        return (ops.zeros((), "float32"),)  # steps made

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: Any) -> tuple[Tensor, Any]:
        (made,) = state
        low, high = ball.bounds
        radius = ops.cast(ball.radius, z.dtype)
        least = self.size.fraction if isinstance(self.size, OfEps) else self.size / ops.maximum(radius, 1e-30)
        least = ops.minimum(ops.cast(least, z.dtype), 1.0)
        budget = radius * ops.maximum(least ** (made * least / 2.5), least) * count_values(z)
        rows = (ops.shape(z)[0], count_values(z))
        slope = ops.reshape(gradient, rows)
        room = ops.where(gradient > 0, high - z, z - low)
        room = ops.where(slope == 0, 0.0, ops.maximum(ops.reshape(room, rows), 0.0))
        order = ops.argsort(-ops.abs(slope), axis=-1)
        sorted_room = ops.take_along_axis(room, order, axis=-1)
        spent = ops.cumsum(sorted_room, axis=-1) - sorted_room  # on those before
        moved = ops.clip(budget - spent, 0.0, sorted_room)
        moved = ops.take_along_axis(moved, ops.argsort(order, axis=-1), axis=-1)
        return z + ops.reshape(ops.sign(slope) * moved, ops.shape(z)), (made + 1.0,)


def size_in(size: Size, ball: Any) -> Any:
    """Returns a step size in units of the pixels: as given, or the fraction of the ball's eps."""
    return size.fraction * ball.radius if isinstance(size, OfEps) else size


def l2_norm(v: Tensor) -> Tensor:
    """Returns the Euclidean norm per example, other dimensions kept as 1; never below 1e-12, so that one can divide."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(v), axis=pixels(v), keepdims=True), 1e-24))


def count_values(v: Tensor) -> int:
    """Returns N, the number of values of one image."""
    return math.prod(v.shape[1:])


def _scaled(gradient: Tensor) -> Tensor:
    """Returns the gradient with its greatest value at 1: sums of very small or very large ones leave float32.

    Oracles give finite gradients. Of another one an infinite value is the greatest there is.
    """
    gradient = ops.clip(gradient, -1e37, 1e37)  # whose reciprocal is still a normal number
    return gradient / ops.maximum(ops.max(ops.abs(gradient), axis=pixels(gradient), keepdims=True), 1e-30)


def _checked(size: Size) -> Size:
    number = size.fraction if isinstance(size, OfEps) else size
    check_number("step_size", number, 0, above=True, expected="a fraction of the pixel range")
    return size
