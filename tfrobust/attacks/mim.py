"""The momentum iterative method."""

from typing import Any

from tfrobust.attacks import threat_model
from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import Momentum, RelativeStepSize
from tfrobust.attacks.view_losses import Loss
from tfrobust.schedules import Schedule
from tfrobust.utils.validation import check_integer


@register
def mim(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 10,
    *,
    decay: float = 1.0,
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
    """Runs the momentum iterative method: m <- decay * m + g / ||g||_1; z <- project(z + step_size * sign(m)).

    In the L2 ball m / ||m||_2 takes the sign's place, in the L1 ball the step of `pgd` there. It starts at the image
    itself, as in the paper. Dong et al. 2018 (Boosting Adversarial Attacks with Momentum), algorithm 1.

    Args:
        {{eps_schedule}}
        step_size: Step size in units of the pixels; None: eps / steps, as in the paper.
        steps: Number of iterations.
        decay: Weight of the past gradients.
        {{any_norm}}
        {{search}}
        {{targeted}}
        {{ball}}
        {{loss}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.mim(eps=0.1, steps=20).steps
    20
    """
    ball = threat_model.ball(norm, eps, bounds, mask)
    size = RelativeStepSize(1.0 / check_integer("steps", steps)) if step_size is None else step_size
    search: dict[str, Any] = {"start": start, "restarts": restarts, "keep": keep, "early_stop": early_stop}
    step = Momentum(ball.steepest(size), decay)
    return GradientAttack(ball, step, steps, loss=loss, own_start="none", targeted=targeted, **search)
