"""Madry's adversarial training."""

from tfrobust.objectives.objective import Objective, register
from tfrobust.objectives.terms import adversarial_cross_entropy


@register
def madry() -> Objective:
    """Adversarial training: min over weights of max over the ball of CE(x', y).

    Madry et al. 2018 (Towards Deep Learning Models Resistant to Adversarial Attacks), equation 1.

    Returns:
        An `Objective` that reads no clean forward pass.

    Example:

    >>> sorted(tfrobust.objectives.madry().outer)
    ['adversarial_cross_entropy']
    """
    return Objective(adversarial_cross_entropy, {"adversarial_cross_entropy": adversarial_cross_entropy})
