"""Adversarial logit pairing."""

from typing import Any

from tfrobust import losses
from tfrobust.objectives import terms
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.utils.deprecation import renamed_arguments
from tfrobust.views import Views


@register(search={"weight": (0.01, 10.0, "log")})
@renamed_arguments(smoothing="off_label_smoothing")
def alp(
    weight: Schedule = 0.1,
    clean_weight: Schedule = 0.0,
    adversarial_weight: Schedule = 1.0,
    distance: str = "mse",
    *,
    label_smoothing: float = 0.0,
    off_label_smoothing: float = 0.0,
) -> Objective:
    """Trains by logit pairing: min clean_weight * CE(x, y) + adversarial_weight * CE(x', y) + weight * D(z, z').

    x' is attacked on CE. Kannan et al. 2018 (Adversarial Logit Pairing), equation 2. The defaults are those of the
    InfoFeature paper; the authors' mixed form is `alp(0.5, 0.5, 0.5)`; the thesis' equation 2.13 is `alp(weight, 1.0,
    0.0, distance)` with "l2", "l1" or "huber".

    Args:
        weight: Weight of the distance, at least 0, or a schedule over the fractional epoch.
        clean_weight: Weight of CE(x, y), at least 0, or a schedule; 0 leaves the term out.
        adversarial_weight: Weight of CE(x', y), at least 0, or a schedule; 0 leaves the term out.
        distance: D, "mse" (the mean of squares), "l2", "l1", "huber" or "cosine".
        {{smoothing}}

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.alp(0.5, clean_weight=0.5, adversarial_weight=0.5).outer)
    ['adversarial_cross_entropy', 'clean_cross_entropy', 'logit_distance']
    """
    measure = losses.distance(distance)

    def logit_distance(views: Views) -> Any:
        return measure(views.clean["logits"], views.adv["logits"])

    weights = {
        "clean": nonnegative("clean_weight", clean_weight),
        "adv": nonnegative("adversarial_weight", adversarial_weight),
    }
    names = {"clean": "clean_cross_entropy", "adv": "adversarial_cross_entropy"}
    outer = {
        names[side]: Term(terms.smoothed(side, label_smoothing, off_label_smoothing), weight)
        for side, weight in weights.items()
        if weight != 0
    }
    return Objective(
        terms.adversarial_cross_entropy,
        {**outer, "logit_distance": Term(logit_distance, nonnegative("weight", weight))},
    )
