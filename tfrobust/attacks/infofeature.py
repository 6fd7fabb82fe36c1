"""The attack on class activation maps."""

from typing import Any

from tfrobust.attacks.gradient import Adversary, Attack
from tfrobust.attacks.registry import register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import OfEps
from tfrobust.attacks.threat_model import EPS, ball
from tfrobust.attacks.view_losses import information
from tfrobust.schedules import Schedule

Tensor = Any


@register
def infofeature(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 7,
    *,
    weight: float = 0.1,
    distance: str = "l2",
    classes: str = "all",
    norm: str = "linf",
    start: str | Start = "uniform",
    restarts: int = 1,
    keep: str = "last",
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> Attack | Adversary:
    """PGD on CE(x', y) + weight * D(CAM(x), CAM(x')): away from the label and from what the network looked at.

    InfoFeature, equation 7. The classifier needs a class activation map, `cam`: its form is that of the head
    (`head={"name": "dense", "form": "signed"}` is equation 5, the default, clipped, equation 6). At x itself D has no
    gradient, so the search needs its random start. As the `attack` of a trainer it serves any objective.

    Args:
        eps: radius in units of the pixels, or a schedule over the fractional epoch.
        step_size: in units of the pixels; None: eps / 4, which is the paper's 2/255 at its 8/255.
        steps: iterations.
        weight: lambda of the paper, at least 0.
        distance: D, "l2" (the paper's), "l1", "cosine", "mse" or "huber".
        classes: maps of "all" classes, or of the "true" one.
        norm: "linf", "l2" or "l1" (radius and steps are then mean absolute changes).
        start: see `pgd`.
        restarts: see `pgd`.
        keep: see `pgd`.
        bounds: least and greatest pixel value.
        mask: see `pgd`.

    Returns:
        An `Adversary`, callable as `(classify, x, y) -> x_adv`.

    Raises:
        ValueError: for a negative weight and unknown names; see `pgd`.

    Example:

    >>> tfrobust.attacks.infofeature(weight=0.1).attack.steps
    7
    """
    where = ball(norm, eps, bounds, mask)
    step = where.steepest(OfEps(0.25) if step_size is None else step_size)
    search = Attack(where, step, steps, start=start, restarts=restarts, keep=keep)
    return search.maximizing(information(weight, distance, classes))
