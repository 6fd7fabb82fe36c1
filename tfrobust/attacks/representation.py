"""Attacks of PGD on losses of the representation: logits of the batch, features, class activation maps."""

from typing import Any

from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.pgd import pgd
from tfrobust.attacks.registry import EPS, Schedule, Start, register
from tfrobust.attacks.steps import RelativeStepSize
from tfrobust.attacks.view_losses import information, nearness, scattering


@register
def feature_scatter(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 1,
    *,
    norm: str = "linf",
    start: str | Start = "uniform",
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> GradientAttack:
    """Maximizes the optimal transport distance between the clean and the attacked batch, without labels.

    The cost of moving one image's logits to another's is 1 - their cosine. The search is coupled over the rows that it
    is given: with several replicas, over the rows of each replica. Zhang and Wang 2019 (Defense Against Adversarial
    Attacks Using Feature Scattering-based Adversarial Training), equation 6.

    Args:
        {{eps_schedule}}
        step_size: Step size in units of the pixels; None: eps.
        steps: Number of iterations; 1 in the paper.
        {{any_norm}}
        {{start}}
        {{ball}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.feature_scatter(eps=8 / 255).steps
    1
    """
    size: Any = RelativeStepSize(1.0) if step_size is None else step_size
    return pgd(eps, size, steps, norm=norm, start=start, bounds=bounds, mask=mask, loss=scattering)


@register
def adv_interpolation(
    eps: Schedule = EPS,
    step_size: float | None = None,
    steps: int = 1,
    *,
    norm: str = "linf",
    start: str | Start = "uniform",
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> GradientAttack:
    """Moves each image until its features resemble its partner's: descends max(1 - cos(f(x'), f(partner)), 0).

    The partner is the image at the mirrored position among the rows that the search is given: with several replicas,
    among those of each replica. Zhang and Xu 2020 (Adversarial Interpolation Training), its inner problem.

    Args:
        {{eps_schedule}}
        step_size: Step size in units of the pixels; None: eps.
        steps: Number of iterations; 1 in the paper.
        {{any_norm}}
        {{start}}
        {{ball}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.adv_interpolation(eps=8 / 255).steps
    1
    """
    size: Any = RelativeStepSize(1.0) if step_size is None else step_size
    return pgd(eps, size, steps, norm=norm, start=start, bounds=bounds, mask=mask, loss=nearness)


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
    early_stop: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> GradientAttack:
    """Runs PGD on CE(x', y) + weight * D(CAM(x), CAM(x')), which also moves the class activation map.

    InfoFeature, equation 7. The classifier needs a class activation map, `cam`: its form is that of the head
    (`head={"name": "dense", "form": "signed"}` is equation 5, the default, clipped, equation 6). At x itself D has no
    gradient, so the search needs its random start. It keeps its loss as the attack of a trainer, under any objective.

    Args:
        {{eps_schedule}}
        step_size: Step size in units of the pixels; None: eps / 4, which is the paper's 2/255 at its 8/255.
        steps: Number of iterations.
        weight: lambda of the paper, at least 0.
        distance: D, "l2" (the paper's), "l1", "cosine", "mse" or "huber".
        classes: Use the maps of "all" classes, or the map of the "true" one.
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
    loss = information(weight, distance, classes)
    return pgd(eps, size, steps, norm=norm, bounds=bounds, mask=mask, loss=loss, **search)
