"""Feature matching."""

from tfrobust.attacks.view_losses import cam_distance
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.objectives.terms import adversarial_cross_entropy, smoothed
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.utils.deprecation import renamed_arguments


@register(search={"weight": (0.1, 100.0, "log")})
@renamed_arguments(smoothing="off_label_smoothing")
def feature_matching(
    weight: Schedule = 10.0, distance: str = "mse", *, label_smoothing: float = 0.0, off_label_smoothing: float = 0.0
) -> Objective:
    """Trains by feature matching: min CE(x', y) + weight * D(CAM(x), CAM(x')), x' attacked on CE.

    Li et al. 2020, as the InfoFeature paper compares with it (its section 4.2); metric and clipped maps are this
    project's choice.

    Args:
        weight: lambda, at least 0, or a schedule over the fractional epoch.
        distance: D of the maps of all classes, "mse" (the mean of squares), "l2", "l1", "huber" or "cosine".
        {{smoothing}}

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.feature_matching().needs)
    ['cam', 'logits']
    """
    return Objective(
        adversarial_cross_entropy,
        {
            "adversarial_cross_entropy": smoothed("adv", label_smoothing, off_label_smoothing),
            "cam_distance": Term(cam_distance(distance), nonnegative("weight", weight)),
        },
        needs=("logits", "cam"),
    )
