"""PGD on the margin."""

from typing import Any

from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.pgd import pgd
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.view_losses import margin
from tfrobust.schedules import Schedule


@register
def cw_linf(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 20,
    *,
    start: str | Start = "uniform",
    restarts: int = 1,
    keep: str = "best",
    early_stop: bool = False,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> GradientAttack:
    """Runs PGD that ascends the margin max_{j != y} z_j - z_y, the attack that papers call CW in the Linf ball.

    The best iterate by margin fools the classifier if any does. Carlini and Wagner 2017 (Towards Evaluating the
    Robustness of Neural Networks), the loss f_6 of section V without its constant, run inside PGD.

    Args:
        {{eps_schedule}}
        step_size: Step size in units of the pixels; None: 2.5 * eps / steps.
        steps: Number of iterations.
        {{search}}
        {{targeted}}
        {{ball}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.cw_linf(eps=0.15).name
    'cw_linf'
    """
    search: dict[str, Any] = {"start": start, "restarts": restarts, "keep": keep, "early_stop": early_stop}
    return pgd(eps, step_size, steps, targeted=targeted, bounds=bounds, mask=mask, loss=margin, **search)
