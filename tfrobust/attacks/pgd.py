"""Projected gradient descent."""

from typing import Any

from tfrobust.attacks.gradient import Adversary, Attack
from tfrobust.attacks.registry import register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import OfEps
from tfrobust.attacks.threat_model import EPS, ball
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
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    loss: Loss | None = None,
) -> Attack | Adversary:
    """Projected gradient descent: z <- project(z + step_size * direction(grad loss)), from a random start.

    The direction is sign(g) in the Linf ball and g / ||g||_2 in the L2 ball. In the L1 ball a step moves the values
    with the greatest |g|, each as far as its bound lets it, until the step is spent, and steps fall from eps to
    `step_size`: few values change much. Madry et al. 2018 (Towards Deep Learning Models Resistant to Adversarial
    Attacks), equation 2 and section 2.1; Tramer and Boneh 2019 (Adversarial Training and Robustness for Multiple
    Perturbations), section 3, for sparse steps in L1.

    Args:
        eps: radius in units of the pixels, or a schedule over the fractional epoch; by itself 8/255 of the pixel range.
        step_size: in units of the pixels; None: 2.5 * eps / steps, which follows a schedule of eps.
        steps: iterations.
        norm: "linf", "l2", or "l1" (radius and steps are then mean absolute changes).
        start: "auto" (the objective's, else uniform), "uniform", "normal", "none", or a function.
        restarts: independent searches; for each example the one with the greatest loss is returned.
        keep: "last" iterate or the "best" by loss.
        targeted: descend towards labels that are targets.
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change, 0 where not, `(H, W, C)` or `(H, W, 1)`; None: all may. See `Ball`.
        loss: None (training: the objective's; evaluation: cross entropy), or `Views -> (B,)`.

    Returns:
        An `Attack`; with a loss an `Adversary`, callable as `(classify, x, y) -> x_adv`.

    Raises:
        ValueError: for eps, sizes, counts or names that make no attack.

    Example:

    >>> tfrobust.attacks.pgd(eps=8 / 255, step_size=2 / 255, steps=10).steps
    10
    """
    where = ball(norm, eps, bounds, mask)
    size = OfEps(2.5 / check_integer("steps", steps)) if step_size is None else step_size
    search = Attack(where, where.steepest(size), steps, start=start, restarts=restarts, keep=keep, targeted=targeted)
    return search if loss is None else search.maximizing(loss)
