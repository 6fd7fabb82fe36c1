"""DRA: gradient ascent on the strongest pixels, bounded in the mean absolute change."""

from typing import Any

from tfrobust.attacks.gradient import Adversary, Attack
from tfrobust.attacks.registry import register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import OfEps, Strongest
from tfrobust.attacks.threat_model import L1
from tfrobust.attacks.view_losses import Loss
from tfrobust.schedules import Schedule
from tfrobust.utils.registry import OfRange
from tfrobust.utils.validation import check_integer

EPS = OfRange(1 / 255)  # the mean change where none is given


@register
def dra(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 5,
    *,
    p: float = 1 / 3,
    fixed_mask: bool = False,
    start: str | Start = "auto",
    restarts: int = 1,
    keep: str = "last",
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    loss: Loss | None = None,
) -> Attack | Adversary:
    """DRA: z <- project(z + step_size * N * g / ||g||_1 * mask), without a sign, in the ball of mean absolute change.

    The mask keeps the share p of an image's N = H * W * C values with the largest |g|. The sum of all changes is at
    most eps * N. It spends the same budget on few values, where it counts: at eps = 1/255 it is about as strong as PGD
    at 2.5/255 in the maximum norm. Thesis, section 4.4.2; its constants are not printed and are this project's choice:
    the whole gradient is normalized before the mask, so that a small p is weaker, as in its figure 4.4.

    Args:
        eps: greatest mean absolute change in units of the pixels, or a schedule over the fractional epoch.
        step_size: mean absolute change of a step without mask; None: 2.5 * eps / steps.
        steps: iterations. 5 for CIFAR-10, 20 for MNIST.
        p: share of the values that change at a step, in (0, 1]. 1/3 for CIFAR-10, 2/3 for MNIST.
        fixed_mask: choose the values at the first step alone.
        start: "auto" (the objective's where it has one, else none, as in the thesis); see `pgd`.
        restarts: see `pgd`.
        keep: see `pgd`.
        targeted: descend towards labels that are targets.
        bounds: least and greatest pixel value.
        mask: see `pgd`; the budget stays eps times all N values, and the strongest are chosen among those that may
            change.
        loss: see `pgd`.

    Returns:
        An `Attack`; with a loss an `Adversary`.

    Raises:
        ValueError: for p outside (0, 1]; see `pgd`.

    Example:

    >>> tfrobust.attacks.dra(eps=2 / 255).ball.radius * 255
    2.0
    """
    size = OfEps(2.5 / check_integer("steps", steps)) if step_size is None else step_size
    step = Strongest(size, p, fixed_mask)
    where = L1(eps, bounds, mask)
    search = Attack(where, step, steps, start=start, own_start="none", restarts=restarts, keep=keep, targeted=targeted)
    return search if loss is None else search.maximizing(loss)
