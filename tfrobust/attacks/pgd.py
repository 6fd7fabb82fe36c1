"""Projected gradient descent."""

from typing import Any

from tfrobust.attacks import threat_model
from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import RelativeStepSize
from tfrobust.attacks.view_losses import Loss
from tfrobust.schedules import Schedule
from tfrobust.utils.validation import check_integer


@register
def pgd(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 10,
    *,
    norm: str = "linf",
    start: str | Start = "auto",
    restarts: int = 1,
    keep: str = "last",
    early_stop: bool = False,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    loss: str | Loss | None = None,
) -> GradientAttack:
    """Runs projected gradient descent: z <- project(z + step_size * direction(grad loss)), from a uniform start.

    The direction is sign(g) in the Linf ball and g / ||g||_2 in the L2 ball. In the L1 ball a step moves the values
    with the greatest |g|, each up to its bound, until the step is used up, and the steps fall from eps to `step_size`:
    few values change much. Madry et al. 2018 (Towards Deep Learning Models Resistant to Adversarial Attacks), equation
    2 and section 2.1; Tramer and Boneh 2019 (Adversarial Training and Robustness for Multiple Perturbations), section
    3, for sparse steps in L1.

    Args:
        {{eps_schedule}}
        step_size: Step size in units of the pixels; None: 2.5 * eps / steps, which follows a schedule of eps.
        steps: Number of iterations.
        {{any_norm}}
        {{search}}
        {{targeted}}
        {{ball}}
        {{loss}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.pgd(eps=8 / 255, step_size=2 / 255, steps=10).steps
    10
    """
    ball = threat_model.ball(norm, eps, bounds, mask)
    size = RelativeStepSize(2.5 / check_integer("steps", steps)) if step_size is None else step_size
    search: dict[str, Any] = {"start": start, "restarts": restarts, "keep": keep, "early_stop": early_stop}
    return GradientAttack(ball, ball.steepest(size), steps, loss=loss, targeted=targeted, **search)
