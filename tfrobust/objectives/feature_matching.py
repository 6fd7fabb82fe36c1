"""Feature matching."""

from typing import Any

from tfrobust import losses
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.objectives.terms import adversarial_cross_entropy, smoothed
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.utils.deprecation import renamed_arguments
from tfrobust.views import Views


@register(search={"weight": (0.1, 100.0, "log")})
@renamed_arguments(smoothing="off_label_smoothing")
def feature_matching(
    weight: Schedule = 10.0,
    distance: str = "mse",
    *,
    label_smoothing: float = 0.0,
    off_label_smoothing: float = 0.0,
) -> Objective:
    """Feature matching: min CE(x', y) + weight * D(CAM(x), CAM(x')), x' attacked on CE.

    Li et al. 2020, as the InfoFeature paper compares with it (its section 4.2); metric and clipped maps are this
    project's choice.

    Args:
        weight: lambda, at least 0, or a schedule over the fractional epoch.
        distance: D of the maps of all classes, "mse" (the mean of squares), "l2", "l1", "huber" or "cosine".
        label_smoothing: s in [0, 1]: the update's target is (1 - s) * one_hot(y) + s / C, as in Keras.
        off_label_smoothing: s in [0, 1]: the update's target is 1 - s for the label, s / (C - 1) for each other class.

    Returns:
        An `Objective` that needs the outputs `logits` and `cam`.

    Example:

    >>> sorted(tfrobust.objectives.feature_matching().needs)
    ['cam', 'logits']
    """
    measure = losses.distance(distance)

    def cam_distance(views: Views) -> Any:
        return measure(views.clean["cam"], views.adv["cam"])

    return Objective(
        adversarial_cross_entropy,
        {
            "adversarial_cross_entropy": smoothed("adv", label_smoothing, off_label_smoothing),
            "cam_distance": Term(cam_distance, nonnegative("weight", weight)),
        },
        needs=("logits", "cam"),
    )
