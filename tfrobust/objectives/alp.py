"""Adversarial logit pairing."""

from typing import Any

from tfrobust import losses
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.objectives.terms import adversarial_cross_entropy, smoothed
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.views import Views


@register
def alp(
    weight: Schedule = 0.1,
    clean_weight: Schedule = 0.0,
    adversarial_weight: Schedule = 1.0,
    distance: str = "mse",
    smoothing: float = 0.0,
) -> Objective:
    """Adversarial logit pairing: min clean_weight * CE(x, y) + adversarial_weight * CE(x', y) + weight * D(z, z').

    x' is attacked on CE. Kannan et al. 2018 (Adversarial Logit Pairing), equation 2. The defaults are those of the
    InfoFeature paper; the authors' mixed form is `alp(0.5, 0.5, 0.5)`; the thesis' equation 2.13 is
    `alp(weight, 1.0, 0.0, distance)` with "l2", "l1" or "huber".

    Args:
        weight: of the logits' distance, at least 0, or a schedule over the fractional epoch.
        clean_weight: likewise; 0 leaves the term out.
        adversarial_weight: likewise.
        distance: D, "mse" (the mean of squares), "l2", "l1", "huber" or "cosine".
        smoothing: of the labels in the update: the true class keeps 1 - smoothing, each other gets smoothing / (C - 1).

    Returns:
        An `Objective`.

    Raises:
        ValueError: for negative weights, an unknown distance and smoothing outside [0, 1].

    Example:

    >>> sorted(tfrobust.objectives.alp(0.5, clean_weight=0.5, adversarial_weight=0.5).outer)
    ['adversarial_cross_entropy', 'clean_cross_entropy', 'logit_distance']
    """
    of = losses.distance(distance)

    def logit_distance(views: Views) -> Any:
        return of(views.clean["logits"], views.adv["logits"])

    weights = {
        "clean_cross_entropy": (smoothed("clean", smoothing), nonnegative("clean_weight", clean_weight)),
        "adversarial_cross_entropy": (
            smoothed("adv", smoothing),
            nonnegative("adversarial_weight", adversarial_weight),
        ),
    }
    outer = {name: Term(loss, weight) for name, (loss, weight) in weights.items() if weight != 0}
    return Objective(
        adversarial_cross_entropy, {**outer, "logit_distance": Term(logit_distance, nonnegative("weight", weight))}
    )
