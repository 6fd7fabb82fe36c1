"""The momentum iterative method."""

from typing import Any

from tfrobust.attacks.gradient import Adversary, Attack
from tfrobust.attacks.registry import register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import Momentum, OfEps
from tfrobust.attacks.threat_model import EPS, ball
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
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    loss: Loss | None = None,
) -> Attack | Adversary:
    """The momentum iterative method: m <- decay * m + g / ||g||_1; z <- project(z + step_size * sign(m)).

    In the L2 ball m / ||m||_2 takes the sign's place, in the L1 ball the step of `pgd` there. Dong et al. 2018
    (Boosting Adversarial Attacks with Momentum), algorithm 1.

    Args:
        eps: radius in units of the pixels, or a schedule over the fractional epoch.
        step_size: in units of the pixels; None: eps / steps, as in the paper.
        steps: iterations.
        decay: weight of the past gradients.
        norm: "linf", "l2" or "l1" (radius and steps are then mean absolute changes).
        start: "auto" (the objective's where it has one, else none, as in the paper); see `pgd`.
        restarts: see `pgd`.
        keep: see `pgd`.
        targeted: descend towards labels that are targets.
        bounds: least and greatest pixel value.
        mask: see `pgd`.
        loss: see `pgd`.

    Returns:
        An `Attack`; with a loss an `Adversary`.

    Raises:
        ValueError: see `pgd`.

    Example:

    >>> tfrobust.attacks.mim(eps=0.1, steps=20).steps
    20
    """
    where = ball(norm, eps, bounds, mask)
    size = OfEps(1.0 / check_integer("steps", steps)) if step_size is None else step_size
    step = Momentum(where.steepest(size), decay)
    search = Attack(where, step, steps, start=start, own_start="none", restarts=restarts, keep=keep, targeted=targeted)
    return search if loss is None else search.maximizing(loss)
