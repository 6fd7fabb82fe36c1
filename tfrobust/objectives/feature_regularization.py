"""The regularizer of feature prioritization and regularization."""

from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.objectives.terms import adversarial_cross_entropy, feature_distance
from tfrobust.schedules import Schedule, nonnegative


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
