"""Standard training."""

from tfrobust.objectives.objective import Objective, register
from tfrobust.objectives.terms import clean_cross_entropy


@register
def standard() -> Objective:
    """Standard training: min CE(x, y). Nothing is attacked.

    Returns:
        An `Objective` without an inner loss.

    Example:

    >>> tfrobust.objectives.standard().inner is None
    True
    """
    return Objective(None, {"clean_cross_entropy": clean_cross_entropy})
