"""Where a search gets its gradients: oracles `(loss, z, noise) -> value, observed, gradient`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from keras import ops

from tfrobust import _tensorflow as backend
from tfrobust.attacks.steps import whole

Tensor = Any
Loss = Callable[[Tensor], Any]  # z -> (B,), or z -> ((B,), (B,)), the second observed and not differentiated
Transformation = Callable[[Tensor, Tensor], Tensor]  # pixels, a (2,) seed -> pixels


class Gradients(Protocol):
    """A gradient oracle; `forwards` and `backwards` are what one call of it costs."""

    forwards: int
    backwards: int

    def __call__(self, loss: Loss, z: Tensor, noise: backend.Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        """Returns value `(B,)`, what the loss observed `(B,)` or None, and gradient `(B, ...)` at z."""

    def value(self, loss: Loss, z: Tensor, noise: backend.Noise) -> tuple[Tensor, Tensor | None]:
        """Returns value and observed alone."""


class Exact:
    """The gradient of the loss itself: one forward and one backward."""

    forwards = backwards = 1

    def __call__(self, loss: Loss, z: Tensor, noise: backend.Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        return backend.value_and_gradient(loss, z)

    def value(self, loss: Loss, z: Tensor, noise: backend.Noise) -> tuple[Tensor, Tensor | None]:
        return backend.split(loss(z))

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
            raise ValueError(
                "Invalid value for `transformation`: expected a function `(pixels, seed) -> pixels`. "
                f"Received: {transformation!r}"
            )
        self.transformation = transformation
        self.samples = whole("samples", samples)
        self.forwards = self.backwards = self.samples

    def __call__(self, loss: Loss, z: Tensor, noise: backend.Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        return self._mean(lambda k: backend.value_and_gradient(self._drawn(loss, noise.fold(k)), z), z)

    def value(self, loss: Loss, z: Tensor, noise: backend.Noise) -> tuple[Tensor, Tensor | None]:
        return self._mean(lambda k: (*backend.split(self._drawn(loss, noise.fold(k))(z)), None), z)[:2]

    def _drawn(self, loss: Loss, noise: backend.Noise) -> Loss:
        transformation = self.transformation
        return loss if transformation is None else lambda z: loss(transformation(z, noise.seed))

    def _mean(self, draw: Callable[[Tensor], tuple[Any, ...]], z: Tensor) -> tuple[Any, ...]:
        """Returns the means of the three that each draw returns; what is None in a draw stays None."""
        rows = ops.zeros_like(ops.reshape(z, (ops.shape(z)[0], -1))[:, 0])
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
