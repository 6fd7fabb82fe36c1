"""PGD on the margin."""

from typing import Any

from tfrobust.attacks.gradient import Adversary, Attack
from tfrobust.attacks.pgd import pgd
from tfrobust.attacks.registry import register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.threat_model import EPS
from tfrobust.attacks.view_losses import margin
from tfrobust.schedules import Schedule


@register
def cw_linf(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 20,
    *,
    start: str | Start = "uniform",
    restarts: int = 1,
    keep: str = "best",
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> Attack | Adversary:
    """PGD that ascends the margin max_{j != y} z_j - z_y: what the field calls CW in the Linf ball.

    Carlini and Wagner 2017 (Towards Evaluating the Robustness of Neural Networks), the loss f_6 of section V without
    its constant; the papers that this library follows run it inside PGD as "CW20".

    Args:
        eps: radius in units of the pixels, or a schedule over the fractional epoch.
        step_size: in units of the pixels; None: 2.5 * eps / steps.
        steps: iterations.
        start: see `pgd`.
        restarts: see `pgd`.
        keep: the "best" iterate by margin is one that fools the classifier, if any does; or the "last".
        targeted: descend towards labels that are targets.
        bounds: least and greatest pixel value.
        mask: see `pgd`.

    Returns:
        An `Adversary`, callable as `(classify, x, y) -> x_adv`.

    Raises:
        ValueError: see `pgd`.

    Example:

    >>> tfrobust.attacks.cw_linf(eps=0.15).name
    'cw_linf'
    """
    return pgd(
        eps,
        step_size,
        steps,
        start=start,
        restarts=restarts,
        keep=keep,
        targeted=targeted,
        bounds=bounds,
        mask=mask,
        loss=margin,
    )
