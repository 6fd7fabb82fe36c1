"""Madry's adversarial training."""

from tfrobust.objectives import terms
from tfrobust.objectives.objective import Objective, register
from tfrobust.utils.deprecation import renamed_arguments


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
