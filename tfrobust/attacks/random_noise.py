"""Random noise, the baseline of every attack."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks import threat_model
from tfrobust.attacks.base import Attack
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.rows import iterate, where_rows, zeros
from tfrobust.utils.random import Noise, SharedNoise
from tfrobust.utils.types import Classify, Tensor


@register
def random_noise(
    eps: float = EPS,
    draws: int = 100,
    *,
    norm: str = "linf",
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> RandomNoise:
    """Draws points uniformly from the ball and returns the first that fools, else the one with the greatest margin.

    An attack that follows gradients has to find more adversaries than this one, or the gradients are useless.

    Args:
        {{eps}}
        draws: Number of points for one image.
        {{any_norm}}
        {{targeted}}
        {{ball}}

    {{returns}}

    Example:

    >>> tfrobust.attacks.random_noise(eps=8 / 255).kind
    'noise'
    """
    return RandomNoise(threat_model.ball(norm, eps, bounds, mask), draws, targeted=targeted)


@keras.saving.register_keras_serializable(package="tfrobust")
@dataclasses.dataclass(eq=False, repr=False)
class RandomNoise(Attack):
    """Implements `random_noise`.

    A draw is the same for all images, up to the ball's bounds, so that it costs nothing beside its forward and does not
    depend on the batch.
    """

    draws: int

    kind = "noise"
    counts = ("draws", "restarts")

    def cost(self, classes: int) -> tuple[int, int]:
        return self.draws, 0

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        noise = SharedNoise(Noise.of(seed).seed)
        sign = -1.0 if self.targeted else 1.0

        def draw_next(draw: Tensor, best: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            z = self.ball.start(x, noise.fold(draw))
            new = sign * losses.missed_by(ops.cast(classify(z)["logits"], "float32"), y)
            higher = ops.logical_and(value <= 0, new > value)
            return where_rows(higher, z, best), ops.where(higher, new, value)

        nothing = zeros(x) - float("inf")
        return iterate(self.draws, lambda best, value: ops.any(value <= 0), draw_next, x, nothing)[0]
