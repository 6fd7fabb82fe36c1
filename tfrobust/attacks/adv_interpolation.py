"""Adversarial interpolation: moves the features of an image towards those of another image of the batch."""

from typing import Any

from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.pgd import pgd
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import RelativeStepSize
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
) -> GradientAttack:
    """Moves each image until its features resemble its partner's: descends max(1 - cos(f(x'), f(partner)), 0).

    The partner is the image at the mirrored position among the rows that the search is given: with several replicas,
    among those of each replica. Zhang and Xu 2020 (Adversarial Interpolation Training), its inner problem.

    Args:
        {{eps_schedule}}
        step_size: Step size in units of the pixels; None: eps.
        steps: Number of iterations; 1 in the paper.
        {{any_norm}}
        {{start}}
        {{ball}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.adv_interpolation(eps=8 / 255).steps
    1
    """
    size: Any = RelativeStepSize(1.0) if step_size is None else step_size
    return pgd(eps, size, steps, norm=norm, start=start, bounds=bounds, mask=mask, loss=nearness)
