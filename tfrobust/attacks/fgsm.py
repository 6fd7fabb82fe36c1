"""The fast gradient sign method."""

from typing import Any

from tfrobust.attacks import threat_model
from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import RelativeStepSize
from tfrobust.attacks.view_losses import Loss
from tfrobust.schedules import Schedule


@register
def fgsm(
    eps: Schedule = EPS,
    *,
    norm: str = "linf",
    start: str | Start = "auto",
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    loss: str | Loss | None = None,
) -> GradientAttack:
    """Runs the fast gradient sign method: x + eps * sign(grad loss(x)), one step to the edge of the ball.

    In the L2 ball x + eps * g / ||g||_2; in the L1 ball the values with the greatest |g| move, each to its bound, until
    the radius is used up. Each is the optimum of the linearized loss, in L1 within the bounds. It starts at the image
    itself, as in the paper. Goodfellow et al. 2015 (Explaining and Harnessing Adversarial Examples), section 4.

    Args:
        {{eps_schedule}}
        {{any_norm}}
        {{start}}
        {{targeted}}
        {{ball}}
        {{loss}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.fgsm(eps=0.1).steps
    1
    """
    ball = threat_model.ball(norm, eps, bounds, mask)
    step = ball.steepest(RelativeStepSize(1.0))
    return GradientAttack(ball, step, 1, loss=loss, start=start, own_start="none", targeted=targeted)
