"""Gradient oracles of a search: `(loss, z, noise) -> value, observed, gradient`."""

from collections.abc import Callable
from typing import Any, Protocol

from keras import ops

from tfrobust.attacks.rows import column, zeros
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.random import Noise, SharedNoise
from tfrobust.utils.types import Bounds, Tensor
from tfrobust.utils.validation import check_integer, check_number

Loss = Callable[[Tensor], Any]  # z -> (B,), or z -> ((B,), (B,)), the second observed and not differentiated
Outputs = Callable[[Tensor], Tensor]  # z -> (B, C)
Pull = Callable[[Tensor], Tensor]  # weights (B, C) of the outputs -> the gradient of their weighted sum, (B, ...)
Transformation = Callable[[Tensor, Tensor], Tensor]  # pixels, a (2,) seed -> pixels

STEEPEST = 1e30  # greatest slope of an estimate: sums of such slopes are finite


class Gradients(Protocol):
    """Defines the interface of a gradient oracle: a call makes `forwards` and `backwards`; gradients are finite."""

    forwards: int
    backwards: int

    def __call__(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns the value `(B,)`, the observed values `(B,)` or None, and the gradient `(B, ...)` at z."""

    def value(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Returns the value and the observed values alone."""

    def linear(self, outputs: Outputs, z: Tensor, noise: Noise) -> tuple[Tensor, Pull]:
        """Returns values `(B, C)` at z, and `v -> gradient of sum_c v_c * value_c`, for gradients of many classes."""

    def linear_cost(self, pulls: int) -> tuple[int, int]:
        """Returns the (forwards, backwards) of `linear` with so many gradients."""


class Exact:
    """Computes the gradient of the loss itself, with one forward and one backward."""

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
    """Computes value and gradient of mean_k loss(t_k(z)), with new t_k at every step: expectation over transformation.

    For a classifier that is random or gets randomly transformed pixels. Athalye et al. 2018 (Synthesizing Robust
    Adversarial Examples), equation 1; with the identity the "rand" version of AutoAttack, which draws 20 times.

    Args:
        transformation: As in `expectation`; None: the identity, for a classifier that is itself random.
        samples: Number of draws in a mean, at least 1.
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

        def pull(v: Tensor) -> Tensor:  # its own forwards need the memory of one draw alone
            return self(lambda point: _weighted_sum(v, outputs(point)), z, noise)[2]

        return values, pull

    def linear_cost(self, pulls: int) -> tuple[int, int]:
        return self.samples * (1 + pulls), self.samples * pulls

    def _drawn(self, loss: Loss, noise: Noise) -> Loss:
        transformation = self.transformation
        return loss if transformation is None else lambda z: loss(transformation(z, noise.seed))

    def _mean(self, draw: Callable[[Tensor], tuple[Any, ...]], z: Tensor) -> tuple[Any, ...]:
        """Returns the means of the three values that each draw returns; a value that is None stays None."""
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
        label = getattr(self.transformation, "__name__", self.transformation)
        return f"Expected(transformation={label}, samples={self.samples})"


class Estimated:
    """Estimates a gradient from queries: mean_k (loss(a_k) - loss(b_k)) / (a_k - b_k), value by value.

    The points are a_k = z + radius d_k and b_k = z - radius d_k. The signs d_k = +-1 of all values are drawn at every
    step and are the same for all images. The estimate is exact on average for a quadratic loss. Spall 1992; Uesato et
    al. 2018 (Adversarial Risk and the Dangers of Evaluating Against Weak Attacks), algorithm 1.

    Args:
        samples: Number of pairs of points in a mean, at least 1.
        radius: Distance of the points from z in each value, in units of the pixels.
        bounds: Least and greatest pixel value, to which the points are clipped, because a served classifier refuses
            others; the estimate is then exact on average for a linear loss. None: the points may lie outside.
    """

    backwards = 0

    def __init__(self, samples: int = 64, radius: float = 0.01, bounds: Bounds | None = None) -> None:
        self.samples = check_integer("samples", samples)
        self.radius = float(check_number("radius", radius, 0, above=True, expected="a number of pixel units"))
        self.bounds = bounds
        self.forwards = 2 * self.samples + 1

    def __call__(self, loss: Loss, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        directions = SharedNoise(noise.seed)

        def add(k: Tensor, total: Tensor) -> Tensor:
            signs = ops.where(directions.fold(k).uniform(z) < 0, -1.0, 1.0)
            points = [z + side * self.radius * signs for side in (1, -1)]
            if self.bounds is not None:
                points = [ops.clip(point, *self.bounds) for point in points]
            ahead, behind = (backend.split(loss(point))[0] for point in points)
            slope = (ahead - behind) / (2 * self.radius * self.samples)
            # A pair with a value of NaN counts as 0; an infinite slope stays the greatest of all.
            slope = ops.clip(ops.where(ops.isnan(slope), 0.0, slope), -STEEPEST, STEEPEST)
            return total + column(slope, z) * ops.divide_no_nan(2 * self.radius, points[0] - points[1])

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
    """Returns sum_c v_c * output_c, `(B,)`; an output of weight 0 may be infinite, for a class that is ruled out."""
    return ops.sum(v * ops.where(v == 0, ops.zeros_like(outputs), outputs), axis=-1)
