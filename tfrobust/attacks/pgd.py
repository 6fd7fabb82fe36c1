"""Projected gradient descent and its relatives: FGSM, MIM, PGD on the margin, DRA and SPSA."""

from collections.abc import Callable
from typing import Any

from tfrobust.attacks import threat_model
from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.gradients import Estimated
from tfrobust.attacks.registry import EPS, Loss, Schedule, Start, register
from tfrobust.attacks.steps import Momentum, RelativeStepSize, TopKGradient
from tfrobust.attacks.threat_model import L1
from tfrobust.attacks.view_losses import adversarial_cross_entropy, margin
from tfrobust.utils.registry import OfRange, unknown
from tfrobust.utils.validation import check_integer

MEAN_EPS = OfRange(1 / 255)  # the default radius of DRA, a mean change
RADIUS = OfRange(0.01)  # the default distance of the queries of SPSA
LOSSES: dict[str, Callable[..., Any]] = {"margin": margin, "ce": adversarial_cross_entropy}  # losses of SPSA


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


@register
def dra(
    eps: Schedule = MEAN_EPS,
    step_size: float | None = None,
    steps: int = 5,
    *,
    p: float = 1 / 3,
    fixed_mask: bool = False,
    start: str | Start = "auto",
    restarts: int = 1,
    keep: str = "last",
    early_stop: bool = False,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    loss: Loss | None = None,
) -> GradientAttack:
    """Runs DRA: z <- project(z + step_size * N * g / ||g||_1 * top), in the ball of the mean absolute change.

    `top` is 1 for the share p of an image's N = H * W * C values with the largest |g|, and there is no sign. The sum of
    all changes is at most eps * N, with or without a mask. At eps = 1/255 it is about as strong as PGD at 2.5/255 in
    the maximum norm. It starts at the image itself. Thesis, section 4.4.2; its constants are not printed and are a
    **choice**: the gradient is normalized before `top` is applied, so that a small p is weaker, as in its figure 4.4.

    Args:
        eps: Greatest mean absolute change in units of the pixels, or a schedule over the fractional epoch; by default
            1/255 of the pixel range.
        step_size: Mean absolute change of a step with p = 1; None: 2.5 * eps / steps.
        steps: Number of iterations. 5 for CIFAR-10, 20 for MNIST.
        p: Share of the values that change at a step, in (0, 1]. 1/3 for CIFAR-10, 2/3 for MNIST.
        fixed_mask: Choose the values at the first step alone.
        {{search}}
        {{targeted}}
        {{ball}}
        {{loss}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.dra(eps=2 / 255).ball.radius * 255
    2.0
    """
    size = RelativeStepSize(2.5 / check_integer("steps", steps)) if step_size is None else step_size
    search: dict[str, Any] = {"start": start, "restarts": restarts, "keep": keep, "early_stop": early_stop}
    ball, step = L1(eps, bounds, mask), TopKGradient(size, p, fixed_mask)
    return GradientAttack(ball, step, steps, loss=loss, own_start="none", targeted=targeted, **search)


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
) -> GradientAttack:
    """Runs SPSA, which ascends the margin along gradients estimated from queries, without the classifier's gradients.

    The estimate is that of `Estimated`, and the start is uniform. Uesato et al. 2018 (Adversarial Risk and the
    Dangers of Evaluating Against Weak Attacks), section 4.2. **choice**: the steps are those of `mim` (a running mean
    of the estimates, its steepest ascent, projected), while the paper takes Adam; with few samples the mean over steps
    matters more than their length.

    Args:
        {{eps}}
        step_size: Step size in units of the pixels; None: 2.5 * eps / steps.
        steps: Number of iterations.
        samples: Pairs of queries for one estimate; the paper's strongest setting is 4096.
        radius: Distance of these queries in each value, in units of the pixels; by default 0.01 of the pixel range.
        decay: Weight of the past estimates; 0 for none.
        loss: "margin" (the paper's) or "ce", cross entropy.
        {{norm}}
        {{restarts}}
        {{targeted}}
        {{ball}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.spsa(eps=8 / 255, steps=10, samples=32).cost(classes=10)  # forwards and backwards
    (651, 0)
    """
    if loss not in LOSSES:
        raise unknown("loss of spsa", loss, LOSSES)
    ball = threat_model.ball(norm, eps, bounds, mask, attack="spsa")
    size = RelativeStepSize(2.5 / check_integer("steps", steps)) if step_size is None else step_size
    search: dict[str, Any] = {"start": "uniform", "restarts": restarts, "early_stop": True, "targeted": targeted}
    step = Momentum(ball.steepest(size), decay) if decay else ball.steepest(size)
    return GradientAttack(ball, step, steps, loss=LOSSES[loss], gradients=Estimated(samples, radius), **search)
