"""TRADES."""

from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.objectives.terms import clean_cross_entropy, kl_divergence
from tfrobust.schedules import Schedule, nonnegative


@register(search={"beta": (0.5, 20.0, "log")})
def trades(beta: Schedule = 6.0) -> Objective:
    """Trains by TRADES: min CE(x, y) + beta * max over the ball of KL(p(x) || p(x')).

    The search starts at x + 0.001 * N(0, 1), since the divergence has no gradient at x itself. In the outer loss
    gradients flow through p(x) too. Zhang et al. 2019 (Theoretically Principled Trade-off between Robustness and
    Accuracy), equation 5.

    Args:
        beta: 1 / lambda of the paper, at least 0, or a schedule over the fractional epoch. 6 for CIFAR-10, 1 for MNIST.

    {{returns}}

    Example:

    >>> tfrobust.objectives.trades(beta=1.0).outer["kl_divergence"].weight
    1.0
    """
    return Objective(
        kl_divergence,
        {"clean_cross_entropy": clean_cross_entropy, "kl_divergence": Term(kl_divergence, nonnegative("beta", beta))},
        start="normal",
    )
