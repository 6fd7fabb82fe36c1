"""Adversarial logit pairing."""

from tfrobust.objectives import terms
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.utils.deprecation import renamed_arguments


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
    outer = terms.cross_entropies(clean_weight, adversarial_weight, label_smoothing, off_label_smoothing)
    pairing = Term(terms.logit_distance(distance), nonnegative("weight", weight))
    return Objective(terms.adversarial_cross_entropy, {**outer, "logit_distance": pairing})
