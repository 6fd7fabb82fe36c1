"""MART."""

from keras import ops

from tfrobust import losses
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.objectives.terms import adversarial_cross_entropy
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.utils.types import Tensor
from tfrobust.views import Views


def boosted_cross_entropy(views: Views) -> Tensor:
    """Computes CE(x', y) - log(1.0001 - max_{j != y} p'_j + 1e-12), `(B,)`."""
    p = ops.softmax(views.adv["logits"])
    others = ops.max(p * (1.0 - ops.one_hot(views.y, p.shape[-1], dtype=p.dtype)), axis=-1)
    return adversarial_cross_entropy(views) - ops.log(1.0001 - others + 1e-12)


def weighted_kl_divergence(views: Views) -> Tensor:
    """Computes KL(p(x) || p(x')) * (1.0000001 - p_y(x)), `(B,)`, with log(p(x') + 1e-12)."""
    log_p = ops.log_softmax(views.clean["logits"])
    p, q = ops.exp(log_p), ops.softmax(views.adv["logits"])
    divergence = ops.sum(losses.weighted(p, log_p - ops.log(q + 1e-12)), axis=-1)
    true = ops.sum(p * ops.one_hot(views.y, p.shape[-1], dtype=p.dtype), axis=-1)
    return divergence * (1.0000001 - true)


@register(search={"beta": (0.5, 20.0, "log")})
def mart(beta: Schedule = 5.0) -> Objective:
    """Trains by MART: min BCE(x', y) + beta * KL(p(x) || p(x')) * (1 - p_y(x)).

    x' is attacked on CE from x + 0.001 * N(0, 1). BCE adds a margin to the cross entropy: - log(1 - max_{j != y} p'_j).
    Wang et al. 2020 (Improving Adversarial Robustness Requires Revisiting Misclassified Examples), equation 11, with
    the constants of the authors' code.

    Args:
        beta: lambda of the paper, at least 0, or a schedule over the fractional epoch. 5 for ResNet-18, 6 for a wide
            ResNet.

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.mart(beta=6.0).outer)
    ['boosted_cross_entropy', 'weighted_kl_divergence']
    """
    return Objective(
        adversarial_cross_entropy,
        {
            "boosted_cross_entropy": boosted_cross_entropy,
            "weighted_kl_divergence": Term(weighted_kl_divergence, nonnegative("beta", beta)),
        },
        start="normal",
    )
