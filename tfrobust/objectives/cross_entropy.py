"""Objectives of cross entropies: standard, adversarial and joint training, and logit pairing."""

from typing import Any

from tfrobust import losses
from tfrobust.objectives import recipes, terms
from tfrobust.objectives.objective import Objective, Schedule, Term, Views, nonnegative, register
from tfrobust.utils.deprecation import renamed_arguments


@register(search={"label_smoothing": (0.0, 0.5)}, digits=recipes.STANDARD)
@renamed_arguments(smoothing="off_label_smoothing")
def standard(*, label_smoothing: float = 0.0, off_label_smoothing: float = 0.0) -> Objective:
    """Trains on clean images: min CE(x, y). Nothing is attacked.

    Args:
        {{smoothing}}

    Returns:
        An `Objective` without an inner loss.

    Example:

    >>> tfrobust.objectives.standard().inner is None
    True
    """
    return Objective(None, {"clean_cross_entropy": terms.smoothed("clean", label_smoothing, off_label_smoothing)})


@register(search={"label_smoothing": (0.0, 0.5)})
@renamed_arguments(smoothing="off_label_smoothing")
def madry(*, label_smoothing: float = 0.0, off_label_smoothing: float = 0.0) -> Objective:
    """Trains on adversaries alone: min over weights of max over the ball of CE(x', y).

    Madry et al. 2018 (Towards Deep Learning Models Resistant to Adversarial Attacks), equation 1.

    Args:
        {{smoothing}}

    Returns:
        An `Objective` that reads no clean forward pass.

    Example:

    >>> sorted(tfrobust.objectives.madry().outer)
    ['adversarial_cross_entropy']
    """
    loss = terms.smoothed("adv", label_smoothing, off_label_smoothing)
    return Objective(terms.adversarial_cross_entropy, {"adversarial_cross_entropy": loss})


@register(search={"adversarial_weight": (0.1, 10.0, "log")})
def joint(
    clean_weight: Schedule = 0.5, adversarial_weight: Schedule = 0.5, share: float = 1.0, beta: Schedule = 0.0
) -> Objective:
    """Trains jointly: min clean_weight * CE(x, y) + adversarial_weight * CE(x', y) [+ beta * (||f(x)|| + ||f(x')||)].

    x' is attacked on CE. Goodfellow et al. 2015, section 6; Kurakin et al. 2017. In the AELF paper lambda1 is
    `clean_weight`, lambda2 is `adversarial_weight`, and half of each batch is attacked (`share=0.5`); each mean is over
    its own part. With `beta`, after a standard training, it is that paper's JT*. RST is CE(x) + beta * CE(x'), so
    `joint(1.0, beta)`; FGSM-AT is `joint(alpha, 1 - alpha)` with the attack `fgsm`.

    Args:
        clean_weight: lambda1, at least 0, or a schedule over the fractional epoch.
        adversarial_weight: lambda2, at least 0, or a schedule.
        share: Attacked part of the batch; at 1.0 the whole batch is used both ways.
        beta: Weight of the norms of the features, at least 0, or a schedule; 0 leaves them out.

    {{returns}}

    Example:

    >>> tfrobust.objectives.joint(share=0.5).share
    0.5
    """
    beta = nonnegative("beta", beta)
    outer = {
        "clean_cross_entropy": Term(terms.clean_cross_entropy, nonnegative("clean_weight", clean_weight)),
        "adversarial_cross_entropy": Term(
            terms.adversarial_cross_entropy, nonnegative("adversarial_weight", adversarial_weight)
        ),
    }
    if beta != 0:
        outer["clean_feature_norm"] = Term(terms.clean_feature_norm, beta)
        outer["adversarial_feature_norm"] = Term(terms.adversarial_feature_norm, beta)
    needs = ("logits", "features") if beta != 0 else ("logits",)
    return Objective(terms.adversarial_cross_entropy, outer, needs=needs, share=share)


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
