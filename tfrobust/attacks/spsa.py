"""Projected gradient descent along estimated gradients."""

from collections.abc import Callable
from typing import Any

from tfrobust.attacks import threat_model
from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.gradients import Estimated
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.steps import Momentum, RelativeStepSize
from tfrobust.attacks.view_losses import adversarial_cross_entropy, margin
from tfrobust.utils.registry import OfRange, unknown
from tfrobust.utils.validation import check_integer

RADIUS = OfRange(0.01)  # the default distance of the queries of SPSA
LOSSES: dict[str, Callable[..., Any]] = {"margin": margin, "ce": adversarial_cross_entropy}  # losses of SPSA


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
    matters more than their length. Queries stay in the pixel range.

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
    oracle = Estimated(samples, radius, bounds)
    return GradientAttack(ball, step, steps, loss=LOSSES[loss], gradients=oracle, **search)
