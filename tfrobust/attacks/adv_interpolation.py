"""Adversarial interpolation: towards the features of another image of the batch."""

from typing import Any

from tfrobust.attacks.gradient import Adversary, Attack
from tfrobust.attacks.registry import register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import OfEps
from tfrobust.attacks.threat_model import EPS, ball
from tfrobust.attacks.view_losses import nearness
from tfrobust.schedules import Schedule


@register
def adv_interpolation(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 1,
    *,
    norm: str = "linf",
    start: str | Start = "uniform",
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> Attack | Adversary:
    """Moves each image until its features resemble its partner's: descends max(1 - cos(f(x'), f(partner)), 0).

    The partner is the image at the mirrored place of the batch, so the search is coupled over the rows that it is
    given: under several replicas over each replica's own. Zhang and Xu 2020 (Adversarial Interpolation Training), its
    inner problem.

    Args:
        eps: radius in units of the pixels, or a schedule over the fractional epoch.
        step_size: in units of the pixels; None: eps.
        steps: iterations; 1 in the paper.
        norm: "linf", "l2" or "l1" (radius and steps are then mean absolute changes).
        start: see `pgd`.
        bounds: least and greatest pixel value.
        mask: see `pgd`.

    Returns:
        An `Adversary`, callable as `(classify, x, y) -> x_adv`.

    Raises:
        ValueError: see `pgd`.

    Example:

    >>> tfrobust.attacks.adv_interpolation(eps=8 / 255).attack.steps
    1
    """
    where = ball(norm, eps, bounds, mask)
    step = where.steepest(OfEps(1.0) if step_size is None else step_size)
    return Attack(where, step, steps, start=start).maximizing(nearness)
