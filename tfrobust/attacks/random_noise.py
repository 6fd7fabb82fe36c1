"""Random noise: the least that an attack has to beat."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks.base import Classify, Evasion
from tfrobust.attacks.registry import register
from tfrobust.attacks.rows import where_rows, zeros
from tfrobust.attacks.threat_model import EPS, Ball, ball
from tfrobust.utils.random import Noise, SharedNoise
from tfrobust.utils.validation import check_integer

Tensor = Any


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
    """Points drawn uniformly from the ball; of each image the first that fools, else that with the greatest margin.

    Any attack that follows gradients has to find more than this: where it does not, the gradients are of no use.

    Args:
        eps: radius in units of the pixels.
        draws: points for one image.
        norm: "linf", "l2", or "l1" (the radius is then the mean absolute change).
        targeted: the labels are classes to reach.
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change, broadcast against `(B, H, W, C)`; None: all may.

    Returns:
        An `Evasion`, callable as `(classify, x, y) -> x_adv`.

    Raises:
        ValueError: for eps, counts or names that make no attack.

    Example:

    >>> tfrobust.attacks.random_noise(eps=8 / 255).kind
    'noise'
    """
    return RandomNoise(ball(norm, eps, bounds, mask), draws, targeted=targeted)


@keras.saving.register_keras_serializable(package="tfrobust")
class RandomNoise(Evasion):
    """The search of `random_noise`, which see.

    A draw is the same for all images, up to the ball's bounds: it costs nothing beside its forward, and an image meets
    it whichever batch it is in.

    Args:
        ball: where points are drawn.
        draws: points for one image.
        targeted: the labels are classes to reach.
    """

    kind = "noise"

    def __init__(self, ball: Ball, draws: int, *, targeted: bool = False) -> None:
        super().__init__(ball, targeted=targeted)
        self.draws = check_integer("draws", draws)

    def cost(self, classes: int) -> tuple[int, int]:
        return self.draws, 0

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        noise = SharedNoise(Noise.of(seed).seed)
        sign = -1.0 if self.targeted else 1.0

        def searching(draw: Tensor, best: Tensor, value: Tensor) -> Tensor:
            return ops.logical_and(draw < self.draws, ops.any(value <= 0))

        def ask(draw: Tensor, best: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            z = self.ball.start(x, noise.fold(draw))
            new = sign * losses.missed_by(ops.cast(classify(z)["logits"], "float32"), y)
            higher = ops.logical_and(value <= 0, new > value)
            return draw + 1, where_rows(higher, z, best), ops.where(higher, new, value)

        nothing = zeros(x) - float("inf")
        return ops.while_loop(searching, ask, (ops.convert_to_tensor(0, "int32"), x, nothing))[1]
