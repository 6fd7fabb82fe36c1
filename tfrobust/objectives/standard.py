"""Standard training."""

from tfrobust.objectives.objective import Objective, register
from tfrobust.objectives.terms import smoothed


@register
def standard(smoothing: float = 0.0) -> Objective:
    """Standard training: min CE(x, y). Nothing is attacked.

    Args:
        smoothing: of the labels: the true class keeps 1 - smoothing, each other gets smoothing / (C - 1).

    Returns:
        An `Objective` without an inner loss.

    Raises:
        ValueError: for smoothing outside [0, 1].

    Example:

    >>> tfrobust.objectives.standard().inner is None
    True
    """
    return Objective(None, {"clean_cross_entropy": smoothed("clean", smoothing)})
