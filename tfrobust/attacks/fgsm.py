"""The fast gradient sign method."""

from typing import Any

from tfrobust.attacks.gradient import Adversary, Attack
from tfrobust.attacks.registry import register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import OfEps
from tfrobust.attacks.threat_model import EPS, ball
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
    loss: Loss | None = None,
) -> Attack | Adversary:
    """The fast gradient sign method: x + eps * sign(grad loss(x)), one step to the edge of the ball.

    In the L2 ball x + eps * g / ||g||_2; in the L1 ball the values with the greatest |g| move, each to its bound, until
    the radius is spent. Each is the optimum of the linearized loss, in L1 within the bounds. Goodfellow et al. 2015
    (Explaining and Harnessing Adversarial Examples), section 4.

    Args:
        eps: radius in units of the pixels, or a schedule over the fractional epoch.
        norm: "linf", "l2" or "l1" (the radius is then the mean absolute change).
        start: "auto" (the objective's where it has one, else none, as in the paper); see `pgd`.
        targeted: descend towards labels that are targets.
        bounds: least and greatest pixel value.
        mask: see `pgd`.
        loss: see `pgd`.

    Returns:
        An `Attack`; with a loss an `Adversary`.

    Raises:
        ValueError: see `pgd`.

    Example:

    >>> tfrobust.attacks.fgsm(eps=0.1).steps
    1
    """
    where = ball(norm, eps, bounds, mask)
    search = Attack(where, where.steepest(OfEps(1.0)), 1, start=start, own_start="none", targeted=targeted)
    return search if loss is None else search.maximizing(loss)
