"""The attack on class activation maps."""

from typing import Any

from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.pgd import pgd
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.starts import Start
from tfrobust.attacks.steps import RelativeStepSize
from tfrobust.attacks.view_losses import information
from tfrobust.schedules import Schedule


@register
def infofeature(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 7,
    *,
    weight: float = 0.1,
    distance: str = "l2",
    classes: str = "all",
    cross_entropy_weight: float = 1.0,
    norm: str = "linf",
    start: str | Start = "uniform",
    restarts: int = 1,
    keep: str = "last",
    early_stop: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> GradientAttack:
    """Runs PGD on CE(x', y) + weight * D(CAM(x), CAM(x')), which also moves the class activation map.

    InfoFeature, equation 7. The classifier needs a class activation map, `cam`: its form is that of the head
    (`head={"name": "dense", "form": "signed"}` is equation 5, the default, clipped, equation 6). At x itself D has no
    gradient, so the search needs its random start. It keeps its loss as the attack of a trainer, under any objective.
    The paper's figure 4 shows it stronger than PGD. On small networks for digits it fooled fewer images than PGD
    with as many steps, so that an evaluation should not rely on it.

    Args:
        {{eps_schedule}}
        step_size: Step size in units of the pixels; None: eps / 4, which is the paper's 2/255 at its 8/255.
        steps: Number of iterations.
        weight: lambda of the paper, at least 0.
        distance: D, "l2" (the paper's), "l1", "cosine", "mse" or "huber".
        classes: Use the maps of "all" classes, or the map of the "true" one.
        cross_entropy_weight: lambda_1 of equation 3, at least 0; 0: the attack moves the maps alone.
        {{any_norm}}
        {{search}}
        {{ball}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.infofeature(weight=0.1).steps
    7
    """
    size: Any = RelativeStepSize(0.25) if step_size is None else step_size
    search: dict[str, Any] = {"start": start, "restarts": restarts, "keep": keep, "early_stop": early_stop}
    loss = information(weight, distance, classes, cross_entropy_weight)
    return pgd(eps, size, steps, norm=norm, bounds=bounds, mask=mask, loss=loss, **search)
