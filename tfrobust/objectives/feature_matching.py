"""Feature matching."""

from tfrobust.attacks.view_losses import cam_distance
from tfrobust.objectives import terms
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.utils.deprecation import renamed_arguments


@register(search={"weight": (0.1, 100.0, "log")})
@renamed_arguments(smoothing="off_label_smoothing")
def feature_matching(
    weight: Schedule = 10.0,
    distance: str = "mse",
    classes: str = "all",
    logit_weight: Schedule = 0.0,
    clean_weight: Schedule = 0.0,
    adversarial_weight: Schedule = 1.0,
    *,
    label_smoothing: float = 0.0,
    off_label_smoothing: float = 0.0,
) -> Objective:
    """Trains by feature matching: min a CE(x, y) + b CE(x', y) + weight * D(CAM(x), CAM(x')) + c D(z, z').

    x' is attacked on CE; a, b and c are `clean_weight`, `adversarial_weight`, `logit_weight`. Li et al. 2020 (Towards
    Adversarial Robustness via Feature Matching). The defaults, CE(x', y) + 10 * D of the maps of all classes, are this
    project's reading of InfoFeature's section 4.1, which gives the weight alone. Where the ReLU of the maps stands
    depends on the form of the classifier's head: before the sum over channels in the default, "clipped" (InfoFeature,
    equation 6), after the sum in "grad_cam", nowhere in "signed".

    The authors' public code is `feature_matching(10.0, "mse", "true", 10.0, 0.5, 0.5)` with the head `{"name": "dense",
    "form": "grad_cam"}`: Grad-CAM of the true class, 20 times half the mean square of the logits' difference, and the
    mean of CE over the clean and the attacked images together. One thing is left out: that code takes the mean of the
    labels' logits over all n logits of its batch before it forms Grad-CAM, which divides the term of the maps by n^2,
    more than a million.

    Args:
        weight: Weight of the maps' distance, at least 0, or a schedule over the fractional epoch.
        distance: D, "mse" (the mean of squares), "l2", "l1", "huber" or "cosine".
        classes: Use the maps of "all" classes, or of the "true" one.
        logit_weight: Weight of the logits' distance, at least 0, or a schedule; 0 leaves the term out.
        clean_weight: Weight of CE(x, y), at least 0, or a schedule; 0 leaves the term out.
        adversarial_weight: Weight of CE(x', y), at least 0, or a schedule; 0 leaves the term out.
        {{smoothing}}

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.feature_matching().needs)
    ['cam', 'logits']
    """
    outer = terms.cross_entropies(clean_weight, adversarial_weight, label_smoothing, off_label_smoothing)
    outer["cam_distance"] = Term(cam_distance(distance, classes), nonnegative("weight", weight))
    logit_weight = nonnegative("logit_weight", logit_weight)
    if logit_weight != 0:
        outer["logit_distance"] = Term(terms.logit_distance(distance), logit_weight)
    return Objective(terms.adversarial_cross_entropy, outer, needs=("logits", "cam"))
