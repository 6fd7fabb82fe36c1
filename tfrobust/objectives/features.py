"""Objectives that bind features or class activation maps of both sides."""

from tfrobust.attacks.view_losses import cam_distance, information
from tfrobust.objectives.objective import Objective, Schedule, Term, nonnegative, register
from tfrobust.objectives.terms import adversarial_cross_entropy, feature_distance, smoothed
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


@register(search={"weight": (0.01, 1.0, "log")})
def feature_regularization(weight: Schedule = 0.1) -> Objective:
    """Trains by feature regularization: min CE(x', y) + weight * ||f(x) - f(x')||_2, x' attacked on CE.

    The norm itself, not its square; f is the input of the last dense layer, and gradients flow through both sides. Liu
    and JaJa 2019 (Feature Prioritization and Regularization Improve Standard Accuracy and Adversarial Robustness): the
    loss of AT-reg; with an attention network it is AT-att-reg.

    Args:
        weight: lambda of the paper, at least 0, or a schedule over the fractional epoch. MNIST 0.01, CIFAR-10 0.1, with
            attention 0.01.

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.feature_regularization(weight=0.01).needs)
    ['features', 'logits']
    """
    return Objective(
        adversarial_cross_entropy,
        {
            "adversarial_cross_entropy": adversarial_cross_entropy,
            "feature_distance": Term(feature_distance, nonnegative("weight", weight)),
        },
        needs=("logits", "features"),
    )


@register(search={"weight": (0.01, 1.0, "log"), "off_label_smoothing": (0.0, 0.9)})
@renamed_arguments(smoothing="off_label_smoothing")
def infofeature(
    weight: float = 0.1,
    distance: str = "l2",
    classes: str = "all",
    off_label_smoothing: float = 0.5,
    minimize_distance: bool = False,
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

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.infofeature(minimize_distance=True).outer)
    ['adversarial_cross_entropy', 'cam_distance']
    """
    inner = information(weight, distance, classes)
    outer = {"adversarial_cross_entropy": Term(smoothed("adv", off_label_smoothing=off_label_smoothing))}
    if minimize_distance:
        outer["cam_distance"] = Term(cam_distance(distance, classes), weight)
    return Objective(inner, outer, needs=("logits", "cam"), start="uniform")
