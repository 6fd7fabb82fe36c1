"""Projected gradient descent along estimated gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from tfrobust.attacks.gradient import Adversary, Attack
from tfrobust.attacks.gradients import Estimated, Gradients
from tfrobust.attacks.registry import register
from tfrobust.attacks.steps import Momentum, OfEps
from tfrobust.attacks.threat_model import EPS, ball
from tfrobust.attacks.view_losses import Loss, adversarial_cross_entropy, margin
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import OfRange, unknown
from tfrobust.utils.validation import check_integer

RADIUS = OfRange(0.01)
NORMS = ("linf", "l2")
LOSSES: dict[str, Callable[..., Any]] = {"margin": margin, "ce": adversarial_cross_entropy}


@register
def spsa(
    eps: float = EPS,
    step_size: float | None = None,
    steps: int = 40,
    *,
    samples: int = 64,
    radius: float = RADIUS,
    decay: float = 0.9,
    loss: str = "margin",
    norm: str = "linf",
    restarts: int = 1,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> Queried:
    """SPSA: ascends the margin along gradients that are estimated from queries; needs no gradient of the classifier.

    The estimate is that of `Estimated`. Uesato et al. 2018 (Adversarial Risk and the Dangers of Evaluating Against Weak
    Attacks), section 4.2. **choice**: the steps are those of `mim` (a running mean of the estimates, its steepest
    ascent, projected) where the paper takes Adam; with few samples the mean over steps matters more than their length.

    Args:
        eps: radius in units of the pixels.
        step_size: in units of the pixels; None: 2.5 * eps / steps.
        steps: iterations.
        samples: pairs of queries for one estimate; the paper's strongest setting is 4096.
        radius: distance of these queries in each value, in units of the pixels; by itself 0.01 of their range.
        decay: weight of the past estimates, 0 for none.
        loss: "margin" (the paper's) or "ce", cross entropy.
        norm: "linf" or "l2".
        restarts: independent searches from random starts.
        targeted: the labels are classes to reach.
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change, broadcast against `(B, H, W, C)`; None: all may.

    Returns:
        An `Adversary`, callable as `(classify, x, y) -> x_adv`.

    Raises:
        ValueError: for eps, sizes, counts or names that make no attack.

    Example:

    >>> tfrobust.attacks.spsa(eps=8 / 255, steps=10, samples=32).cost(classes=10)  # forwards and backwards
    (651, 0)
    """
    if loss not in LOSSES:
        raise unknown("loss of spsa", loss, LOSSES)
    if norm not in NORMS:
        raise unknown("norm of spsa", norm, NORMS)
    where = ball(norm, eps, bounds, mask)
    step = where.steepest(OfEps(2.5 / check_integer("steps", steps)) if step_size is None else step_size)
    search = Attack(
        where,
        Momentum(step, decay) if decay else step,
        steps,
        start="uniform",
        restarts=restarts,
        keep="fooling",
        targeted=targeted,
        gradients=Estimated(samples, radius),
    )
    return Queried(search, LOSSES[loss])


@keras.saving.register_keras_serializable(package="tfrobust")
class Queried(Adversary):
    """An `Adversary` whose oracle of gradients makes queries alone.

    Args:
        attack: see `Adversary`.
        loss: see `Adversary`.
    """

    kind = "black box"

    def __init__(self, attack: Attack, loss: Loss) -> None:
        super().__init__(attack, loss)

    def cost(self, classes: int) -> tuple[int, int]:
        return self.attack.steps * self.attack.gradients.forwards + 1, 0  # the last iterate is judged alone

    def expecting(self, gradients: Gradients) -> Queried:
        raise InvalidArgument(
            f"Invalid attack {self.name!r}: expected one that follows the gradients of a classifier. "
            "Received: one that estimates them"
        )
