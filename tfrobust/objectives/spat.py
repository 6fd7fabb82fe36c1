"""Self-paced adversarial training."""

from typing import Any

from keras import ops

from tfrobust import losses
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.objectives.terms import clean_cross_entropy, kl_divergence
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_nonnegative
from tfrobust.views import Views


def paced_cross_entropy(beta: float, detached: bool) -> Any:
    """Returns the cross entropy of g_j * z_j with g_y = 1 - cos_y + beta and g_j = cos_j + beta otherwise."""

    def paced_cross_entropy(views: Views) -> Tensor:
        logits, cosine = views.clean["logits"], views.clean["cosine"]
        true = ops.one_hot(views.y, cosine.shape[-1], dtype=cosine.dtype)
        factors = beta + true * (1.0 - cosine) + (1.0 - true) * cosine
        return losses.cross_entropy((ops.stop_gradient(factors) if detached else factors) * logits, views.y)

    return paced_cross_entropy


def paced_divergence(alpha: float) -> Any:
    """Returns sum_j k_j * (k_j + alpha), k_j = p_j(x) * log(p_j(x) / p_j(x'))."""

    def paced_divergence(views: Views) -> Tensor:
        log_p, log_q = ops.log_softmax(views.clean["logits"]), ops.log_softmax(views.adv["logits"])
        k = losses.weighted(ops.exp(log_p), log_p - log_q)
        return ops.sum(k * (k + alpha), axis=-1)

    return paced_divergence


@register(
    search={"weight": (1.0, 20.0, "log"), "alpha": (0.0, 1.0), "beta": (0.0, 1.0)},
    digits={"model": {"name": "digits", "head": "cosine"}},
)
def spat(
    weight: Schedule = 6.0,
    alpha: float = 0.2,
    beta: float = 0.2,
    paced_accuracy: bool = True,
    paced_robustness: bool = True,
    detached: bool = False,
) -> Objective:
    """Trains by SPAT: min CE(g * z(x), y) + weight * max over the ball of D(p, p').

    D is alpha * KL(p || p') + sum_j (p_j log(p_j / p'_j))^2. The logits are z_j = s * cos_j of a normalized cosine
    head, which owns the scale s; the self-paced factors g_y = 1 - cos_y + beta and g_j = cos_j + beta weigh pairs of
    similar classes. The search starts at x + 0.001 * N(0, 1). Thesis, equations 3.9 to 3.15. The self-paced cross
    entropy without normalization (table 3.8) is this objective on `head={"name": "cosine", "scale": None}`.

    Args:
        weight: lambda, at least 0, or a schedule over the fractional epoch.
        alpha: Weight of the divergence within the maximum, at least 0.
        beta: Offset of the factors, at least 0.
        paced_accuracy: False: factors of 1: the cross entropy of the logits (with a cosine head NCE, table 3.7).
        paced_robustness: False: KL(p || p') alone, with `weight` (table 3.7).
        detached: Treat the factors as constants.

    {{returns}}

    Example:

    >>> classifier = tfrobust.models.get("digits", head="cosine")
    >>> trainer = tfrobust.AdversarialTrainer(classifier, "spat", tfrobust.attacks.pgd(eps=0.15))
    >>> sorted(trainer.objective.outer)
    ['paced_cross_entropy', 'paced_divergence']
    """
    accuracy = {"paced_cross_entropy": paced_cross_entropy(check_nonnegative("beta", beta), detached)}
    robustness = {"paced_divergence": paced_divergence(check_nonnegative("alpha", alpha))}
    if not paced_accuracy:
        accuracy = {"clean_cross_entropy": clean_cross_entropy}
    if not paced_robustness:
        robustness = {"kl_divergence": kl_divergence}
    ((name, divergence),) = robustness.items()
    return Objective(
        divergence,
        {**accuracy, name: Term(divergence, nonnegative("weight", weight))},
        needs=("logits", "cosine") if paced_accuracy else ("logits",),
        start="normal",
    )
