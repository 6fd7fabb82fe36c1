"""Feature scattering: moves the batch away from the clean one, measured by optimal transport."""

from typing import Any

from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.pgd import pgd
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import RelativeStepSize
from tfrobust.attacks.view_losses import scattering
from tfrobust.schedules import Schedule


@register
def feature_scatter(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 1,
    *,
    norm: str = "linf",
    start: str | Start = "uniform",
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> GradientAttack:
    """Maximizes the optimal transport distance between the clean and the attacked batch, without labels.

    The cost of moving one image's logits to another's is 1 - their cosine. The search is coupled over the rows that it
    is given: with several replicas, over the rows of each replica. Zhang and Wang 2019 (Defense Against Adversarial
    Attacks Using Feature Scattering-based Adversarial Training), equation 6.

    Args:
        {{eps_schedule}}
        step_size: Step size in units of the pixels; None: eps.
        steps: Number of iterations; 1 in the paper.
        {{any_norm}}
        {{start}}
        {{ball}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.feature_scatter(eps=8 / 255).steps
    1
    """
    size: Any = RelativeStepSize(1.0) if step_size is None else step_size
    return pgd(eps, size, steps, norm=norm, start=start, bounds=bounds, mask=mask, loss=scattering)
