"""Standard training."""

from tfrobust.objectives import recipes, terms
from tfrobust.objectives.objective import Objective, register
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
