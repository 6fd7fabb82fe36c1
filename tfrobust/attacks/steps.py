"""Step rules `(z, gradient, value, ball, state) -> z, state`: how an iterate moves before it is projected."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from keras import ops

from tfrobust.attacks.rows import column, pixels
from tfrobust.utils.deprecation import renamed
from tfrobust.utils.errors import invalid
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_number


class RelativeStepSize(NamedTuple):
    """Gives a step size as a fraction of the eps of the ball, so that it follows a schedule of eps.

    In a config it is `{"name": "RelativeStepSize", "fraction": 0.25}`.
    """

    fraction: float


Size = float | RelativeStepSize


class Step(Protocol):
    """Defines the interface of a step rule, which may keep a state."""

    def init(self, x: Tensor) -> Any:
        """Returns the state before the first step, a tuple of tensors."""

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: Any) -> tuple[Tensor, Any]:
        """Returns the next point and state; z and gradient have shape `(B, ...)`, the value of the loss `(B,)`."""


class Sign:
    """Moves to z + size * sign(g), the steepest ascent in the maximum norm.

    Madry et al. 2018, equation 2.

    Args:
        size: Step size in units of the pixels, or `RelativeStepSize(fraction)`.
    """

    def __init__(self, size: Size) -> None:
        self.size = get_size(size)

    def init(self, x: Tensor) -> Any:
        return ()

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: Any) -> tuple[Tensor, Any]:
        return z + size_in(self.size, ball) * self.direction(gradient), state

    def direction(self, gradient: Tensor) -> Tensor:
        return ops.sign(gradient)


class Normalized(Sign):
    """Moves to z + size * g / ||g||_2, the steepest ascent in the Euclidean norm; a zero gradient moves nothing."""

    def direction(self, gradient: Tensor) -> Tensor:
        scaled = _scaled(gradient)
        return scaled / l2_norm(scaled)


class Gradient(Sign):
    """Moves to z + size * g, along the raw gradient."""

    def direction(self, gradient: Tensor) -> Tensor:
        return gradient


class Momentum:
    """Gives another rule the running sum m <- decay * m + g / ||g||_1 in place of the gradient.

    Dong et al. 2018 (Boosting Adversarial Attacks with Momentum), equation 6.

    Args:
        rule: The step rule that moves, `Sign(size)` in the paper.
        decay: Weight of the past gradients, 1.0 in the paper.
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


class TopKGradient(Sign):
    """Moves the values with the greatest |g|, in proportion to g: z + size * N * g / ||g||_1 * mask.

    Without the mask a step is a mean absolute change of `size`; the mask leaves a part of it. Thesis, algorithm 4.4.2
    (DRA); its constants are this project's choice.

    Args:
        size: Mean absolute change of a step without the mask, or `RelativeStepSize(fraction)`.
        share: p, the share of an image's N = H * W * C values that move, in (0, 1].
        fixed_mask: Choose the values with the greatest |g| at the first step alone, not anew at each step.
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
    """Moves by the d that maximizes g.d among all changes within the bounds of at most the step's mean size.

    The values with the greatest |g| move first, each up to its bound, until the step is used up: the steepest ascent in
    the L1 norm among the points that are images. Without the bounds a single value would move.

    The first step is as long as the radius, which chooses the values; the later ones fall geometrically to `size`,
    which they reach after 2.5 * eps / size steps (the last of `pgd`). **choice**: with steps of `size` alone a
    classifier stays right on 4 percentage points more images.

    Args:
        size: Mean absolute change of the shortest step in units of the pixels, or `RelativeStepSize(fraction)`.
    """

    def init(self, x: Tensor) -> Any:
        return (ops.zeros((), "float32"),)  # number of steps taken

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: Any) -> tuple[Tensor, Any]:
        (taken,) = state
        low, high = ball.bounds
        radius = ops.cast(ball.radius, z.dtype)
        least = (
            self.size.fraction if isinstance(self.size, RelativeStepSize) else self.size / ops.maximum(radius, 1e-30)
        )
        least = ops.minimum(ops.cast(least, z.dtype), 1.0)
        budget = radius * ops.maximum(least ** (taken * least / 2.5), least) * count_values(z)
        rows = (ops.shape(z)[0], count_values(z))
        slope = ops.reshape(gradient, rows)
        room = ops.where(gradient > 0, high - z, z - low)
        room = ops.where(slope == 0, 0.0, ops.maximum(ops.reshape(room, rows), 0.0))
        order = ops.argsort(-ops.abs(slope), axis=-1)
        sorted_room = ops.take_along_axis(room, order, axis=-1)
        spent = ops.cumsum(sorted_room, axis=-1) - sorted_room  # on the values before each
        moved = ops.clip(budget - spent, 0.0, sorted_room)
        moved = ops.take_along_axis(moved, ops.argsort(order, axis=-1), axis=-1)
        return z + ops.reshape(ops.sign(slope) * moved, ops.shape(z)), (taken + 1.0,)


def size_in(size: Size, ball: Any) -> Any:
    """Returns a step size in units of the pixels; a relative one is multiplied by the ball's eps."""
    return size.fraction * ball.radius if isinstance(size, RelativeStepSize) else size


def l2_norm(v: Tensor) -> Tensor:
    """Returns the Euclidean norm per example, at least 1e-12, with the other dimensions kept as 1."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(v), axis=pixels(v), keepdims=True), 1e-24))


def count_values(v: Tensor) -> int:
    """Returns N, the number of values of one image."""
    return math.prod(v.shape[1:])


def _scaled(gradient: Tensor) -> Tensor:
    """Returns the gradient divided by its greatest absolute value, so that sums of its values stay within float32.

    An infinite value, which only a gradient oracle of the user can give, counts as the greatest number.
    """
    gradient = ops.clip(gradient, -1e37, 1e37)  # 1e-37 is still a normal number
    largest = ops.max(ops.abs(gradient), axis=pixels(gradient), keepdims=True)
    # Not a small floor: XLA divides by the product of two divisors, and that of two floors would be 0.
    return gradient / ops.where(largest > 0, largest, ops.ones_like(largest))


def get_size(size: Size | Mapping[str, Any]) -> Size:
    """Returns a step size that a number, a `RelativeStepSize` or its config gives."""
    if isinstance(size, Mapping):
        given = dict(size)
        if given.pop("name", None) != RelativeStepSize.__name__ or set(given) != {"fraction"}:
            expected = 'a number of pixel units or {"name": "RelativeStepSize", "fraction": NUMBER}'
            raise invalid("value for `step_size`", expected, dict(size))
        size = RelativeStepSize(**given)
    number = size.fraction if isinstance(size, RelativeStepSize) else size
    check_number("step_size", number, 0, above=True, expected="a fraction of the pixel range")
    return size


__getattr__ = renamed(__name__, {"OfEps": RelativeStepSize, "Strongest": TopKGradient})
