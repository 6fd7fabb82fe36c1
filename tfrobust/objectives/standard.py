"""Standard training."""

from tfrobust.objectives import recipes
from tfrobust.objectives.objective import Objective, register
from tfrobust.objectives.terms import smoothed
from tfrobust.utils.deprecation import renamed_arguments


@register(search={"label_smoothing": (0.0, 0.5)}, digits=recipes.STANDARD)
@renamed_arguments(smoothing="off_label_smoothing")
def standard(*, label_smoothing: float = 0.0, off_label_smoothing: float = 0.0) -> Objective:
    """Standard training: min CE(x, y). Nothing is attacked.

    Args:
        label_smoothing: s in [0, 1]: the target is (1 - s) * one_hot(y) + s / C, as in Keras.
        off_label_smoothing: s in [0, 1]: the target is 1 - s for the label, s / (C - 1) for each other class.

    Returns:
        An `Objective` without an inner loss.

    Example:

    >>> tfrobust.objectives.standard().inner is None
    True
    """
    return Objective(None, {"clean_cross_entropy": smoothed("clean", label_smoothing, off_label_smoothing)})
