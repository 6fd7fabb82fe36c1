"""Projected gradient descent and its relatives: FGSM, the momentum iterative method, and PGD on the margin."""

from typing import Any

from tfrobust.attacks import threat_model
from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.registry import EPS, Loss, Schedule, Start, register
from tfrobust.attacks.steps import Momentum, RelativeStepSize
from tfrobust.attacks.view_losses import margin
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
    loss: Loss | None = None,
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


@register
def fgsm(
    eps: Schedule = EPS,
    *,
    norm: str = "linf",
    start: str | Start = "auto",
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    loss: Loss | None = None,
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
    loss: Loss | None = None,
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
