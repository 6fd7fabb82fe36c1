"""Where a search gets its gradients: oracles `(loss, z, noise) -> value, observed, gradient`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from keras import ops

from tfrobust.attacks.rows import column, zeros
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.random import Noise, SharedNoise
from tfrobust.utils.validation import check_integer, check_number

Tensor = Any
Loss = Callable[[Tensor], Any]  # z -> (B,), or z -> ((B,), (B,)), the second observed and not differentiated
Outputs = Callable[[Tensor], Tensor]  # z -> (B, C)
Pull = Callable[[Tensor], Tensor]  # weights (B, C) of the outputs -> the gradient of their weighted sum, (B, ...)
Transformation = Callable[[Tensor, Tensor], Tensor]  # pixels, a (2,) seed -> pixels

STEEPEST = 1e30  # rise of an estimate: sums of so steep ones are still finite


class Gradients(Protocol):
    """A gradient oracle; `forwards` and `backwards` are what one call of it costs. Its gradients are finite."""

    forwards: int
    backwards: int

    def __call__(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns value `(B,)`, what the loss observed `(B,)` or None, and gradient `(B, ...)` at z."""

    def value(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Returns value and observed alone."""

    def linear(self, outputs: Outputs, z: Tensor, noise: Noise) -> tuple[Tensor, Pull]:
        """Returns values `(B, C)` at z, and `v -> gradient of sum_c v_c * value_c`, for gradients of many classes."""

    def linear_cost(self, pulls: int) -> tuple[int, int]:
        """Returns the (forwards, backwards) of `linear` and of so many gradients by it."""


class Exact:
    """The gradient of the loss itself: one forward and one backward."""

    forwards = backwards = 1

    def __call__(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        return backend.value_and_gradient(loss, z)

    def value(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        return backend.split(loss(z))

    def linear(self, outputs: Outputs, z: Tensor, noise: Noise) -> tuple[Tensor, Pull]:
        return backend.linearization(outputs, z)

    def linear_cost(self, pulls: int) -> tuple[int, int]:
        return 1, pulls

    def __repr__(self) -> str:
        return "Exact()"


class Expected:
    """Expectation over transformation: value and gradient of mean_k loss(t_k(z)), t_k drawn anew at every step.

    For a classifier that is random, or stands behind a random transformation. Athalye et al. 2018 (Synthesizing Robust
    Adversarial Examples), equation 1; with the identity the "rand" version of AutoAttack, which draws 20 times.

    Args:
        transformation: `(pixels, seed) -> pixels`, differentiable, the seed a `(2,)` integer tensor for
            `tf.image.stateless_*` and the like; None is the identity: the classifier itself is random.
        samples: draws in a mean, at least 1.
    """

    def __init__(self, transformation: Transformation | None = None, samples: int = 20) -> None:
        if transformation is not None and not callable(transformation):
            raise InvalidArgument(
                "Invalid value for `transformation`: expected a function `(pixels, seed) -> pixels`. "
                f"Received: {transformation!r}"
            )
        self.transformation = transformation
        self.samples = check_integer("samples", samples)
        self.forwards = self.backwards = self.samples

    def __call__(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        return self._mean(lambda k: backend.value_and_gradient(self._drawn(loss, noise.fold(k)), z), z)

    def value(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        return self._mean(lambda k: (*backend.split(self._drawn(loss, noise.fold(k))(z)), None), z)[:2]

    def linear(self, outputs: Outputs, z: Tensor, noise: Noise) -> tuple[Tensor, Pull]:
        def add(k: Tensor, total: Tensor) -> Tensor:
            return total + self._drawn(outputs, noise.fold(k))(z)

        values = ops.fori_loop(1, self.samples, add, self._drawn(outputs, noise.fold(0))(z)) / self.samples

        def pull(v: Tensor) -> Tensor:  # each makes its own forwards: memory stays that of one draw
            return self(lambda point: _weighted_sum(v, outputs(point)), z, noise)[2]

        return values, pull

    def linear_cost(self, pulls: int) -> tuple[int, int]:
        return self.samples * (1 + pulls), self.samples * pulls

    def _drawn(self, loss: Loss, noise: Noise) -> Loss:
        transformation = self.transformation
        return loss if transformation is None else lambda z: loss(transformation(z, noise.seed))

    def _mean(self, draw: Callable[[Tensor], tuple[Any, ...]], z: Tensor) -> tuple[Any, ...]:
        """Returns the means of the three that each draw returns; what is None in a draw stays None."""
        rows = zeros(z)
        present: list[bool] = []

        def add(k: Tensor, sums: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            drawn = draw(k)
            present[:] = [part is not None for part in drawn]
            return tuple(
                total if part is None else total + ops.cast(part, total.dtype)
                for total, part in zip(sums, drawn, strict=True)
            )

        sums = ops.fori_loop(0, self.samples, add, (rows, rows, ops.zeros_like(z)))
        return tuple(total / self.samples if there else None for total, there in zip(sums, present, strict=True))

    def __repr__(self) -> str:
        spoken = getattr(self.transformation, "__name__", self.transformation)
        return f"Expected(transformation={spoken}, samples={self.samples})"


class Estimated:
    """A gradient from queries alone: mean_k (loss(z + radius d_k) - loss(z - radius d_k)) / (2 radius) * d_k.

    The signs d_k = +-1 of all values change at once, anew at every step, the same for all images. Exact on average for
    a quadratic loss. Spall 1992; Uesato et al. 2018 (Adversarial Risk and the Dangers of Evaluating Against Weak
    Attacks), algorithm 1. The points may lie outside the pixel range by the radius.

    Args:
        samples: pairs of points in a mean, at least 1.
        radius: how far they lie from z in each value, in units of the pixels.

    Raises:
        ValueError: for counts and radii that make no estimate.
    """

    backwards = 0

    def __init__(self, samples: int = 64, radius: float = 0.01) -> None:
        self.samples = check_integer("samples", samples)
        self.radius = float(check_number("radius", radius, 0, above=True, expected="a number of pixel units"))
        self.forwards = 2 * self.samples + 1

    def __call__(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        directions = SharedNoise(noise.seed)

        def add(k: Tensor, total: Tensor) -> Tensor:
            signs = ops.where(directions.fold(k).uniform(z) < 0, -1.0, 1.0)
            ahead, behind = (backend.split(loss(z + side * self.radius * signs))[0] for side in (1, -1))
            rise = (ahead - behind) / (2 * self.radius * self.samples)
            # A pair of points of which one has no value says nothing; an infinite rise stays the greatest of all.
            rise = ops.clip(ops.where(ops.isnan(rise), 0.0, rise), -STEEPEST, STEEPEST)
            return total + column(rise, z) * signs

        gradient = ops.fori_loop(0, self.samples, add, ops.zeros_like(z))
        return *backend.split(loss(z)), gradient

    def value(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        return backend.split(loss(z))

    def linear(self, outputs: Outputs, z: Tensor, noise: Noise) -> tuple[Tensor, Pull]:
        def pull(v: Tensor) -> Tensor:
            return self(lambda point: _weighted_sum(v, outputs(point)), z, noise)[2]

        return outputs(z), pull

    def linear_cost(self, pulls: int) -> tuple[int, int]:
        return 1 + pulls * self.forwards, 0

    def __repr__(self) -> str:
        return f"Estimated(samples={self.samples}, radius={self.radius})"


def _weighted_sum(v: Tensor, outputs: Tensor) -> Tensor:
    """Returns sum_c v_c * output_c, `(B,)`, where an output of weight 0 may be infinite: a class that is ruled out."""
    return ops.sum(v * ops.where(v == 0, ops.zeros_like(outputs), outputs), axis=-1)
