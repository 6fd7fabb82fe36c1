"""Training against the attack on class activation maps."""

from tfrobust.attacks.view_losses import cam_distance, information
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.objectives.terms import smoothed
from tfrobust.utils.deprecation import renamed_arguments


@register(search={"weight": (0.01, 1.0, "log"), "off_label_smoothing": (0.0, 0.9)})
@renamed_arguments(smoothing="off_label_smoothing")
def infofeature(
    weight: float = 0.1,
    distance: str = "l2",
    classes: str = "all",
    off_label_smoothing: float = 0.5,
    minimize_distance: bool = False,
    cross_entropy_weight: float = 1.0,
) -> Objective:
    """Trains by InfoFeature: min CE(x', y) on smoothed labels, x' attacked on CE(x', y) + weight * D(CAM(x), CAM(x')).

    InfoFeature, equation 8. The search's CE is without smoothing. The form of the maps is that of the classifier's
    head: clipped (equation 6) by default, `head={"name": "dense", "form": "signed"}` is equation 5.

    Args:
        weight: lambda, at least 0.
        distance: D of the maps, flattened: "l2", "l1", "cosine", "mse" or "huber".
        classes: Use the maps of "all" classes, or of the "true" one.
        {{off_label_smoothing}}
        minimize_distance: Read equation 8 literally: training also minimizes weight * D.
        cross_entropy_weight: lambda_1 of equation 3, the weight of the search's CE, at least 0; 0: the search moves the
            maps alone.

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.infofeature(minimize_distance=True).outer)
    ['adversarial_cross_entropy', 'cam_distance']
    """
    inner = information(weight, distance, classes, cross_entropy_weight)
    outer = {"adversarial_cross_entropy": Term(smoothed("adv", off_label_smoothing=off_label_smoothing))}
    if minimize_distance:
        outer["cam_distance"] = Term(cam_distance(distance, classes), weight)
    return Objective(inner, outer, needs=("logits", "cam"), start="uniform")
