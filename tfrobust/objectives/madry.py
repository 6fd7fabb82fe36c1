"""Madry's adversarial training."""

from tfrobust.objectives.objective import Objective, register
from tfrobust.objectives.terms import adversarial_cross_entropy, smoothed


@register
def madry(smoothing: float = 0.0) -> Objective:
    """Adversarial training: min over weights of max over the ball of CE(x', y).

    Madry et al. 2018 (Towards Deep Learning Models Resistant to Adversarial Attacks), equation 1.

    Args:
        smoothing: of the labels in the update, not in the search: the true class keeps 1 - smoothing, each other gets
            smoothing / (C - 1).

    Returns:
        An `Objective` that reads no clean forward pass.

    Raises:
        ValueError: for smoothing outside [0, 1].

    Example:

    >>> sorted(tfrobust.objectives.madry().outer)
    ['adversarial_cross_entropy']
    """
    return Objective(adversarial_cross_entropy, {"adversarial_cross_entropy": smoothed("adv", smoothing)})
