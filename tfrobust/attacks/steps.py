"""How an adversary moves: step rules `(z, gradient, value, ball, state) -> z, state`, which know no projection."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from keras import ops

from tfrobust.schedules import is_number

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
        size: as a fraction of the pixel range, or `OfEps(fraction)`.
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
        # Scaled first: a saturated network's gradients are so small that their squares vanish in float32.
        scaled = gradient / ops.maximum(ops.max(ops.abs(gradient), axis=_pixels(gradient), keepdims=True), 1e-30)
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
        norm = ops.sum(ops.abs(gradient), axis=_pixels(gradient), keepdims=True)
        momentum = self.decay * momentum + gradient / ops.maximum(norm, 1e-30)
        z, inner = self.rule(z, momentum, value, ball, inner)
        return z, (momentum, inner)


def size_in(size: Size, ball: Any) -> Any:
    """Returns a step size in pixel fractions: as given, or the fraction of the ball's eps."""
    return size.fraction * ball.radius if isinstance(size, OfEps) else size


def l2_norm(v: Tensor) -> Tensor:
    """Returns the Euclidean norm per example, other dimensions kept as 1; never below 1e-12, so that one can divide."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(v), axis=_pixels(v), keepdims=True), 1e-24))


def _pixels(v: Tensor) -> tuple[int, ...]:
    return tuple(range(1, len(v.shape)))


def _checked(size: Size) -> Size:
    number = size.fraction if isinstance(size, OfEps) else size
    if not (is_number(number) and number > 0):
        raise ValueError(
            f"Invalid value for `step_size`: expected a positive fraction of the pixel range. Received: {size!r}"
        )
    return size
