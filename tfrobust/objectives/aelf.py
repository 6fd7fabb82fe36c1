"""Attention-extended learning, one way."""

from typing import Any

from keras import ops

from tfrobust import losses
from tfrobust.objectives import recipes
from tfrobust.objectives.objective import Objective, Term, register
from tfrobust.objectives.terms import adversarial_cross_entropy, clean_cross_entropy
from tfrobust.schedules import Schedule, nonnegative
from tfrobust.views import Views


@register(
    search={"weight": (0.01, 1.0, "log")},
    # choice: under Adam nothing holds the scale of the features (results/digits.md).
    digits={
        "model": {"name": "digits", "activation": "leaky_relu"},
        "optimizer": {"name": "sgd"},
        **recipes.training(0.2, 40, "val_robust_accuracy"),
        "weight_decay": 5e-4,
    },
)
def aelf(weight: Schedule = 0.3, distance: str = "l2") -> Objective:
    """Trains by AELF: min CE(x, y) + weight * ||f(x') - stop(f(x))||: only the attacked features follow the clean ones.

    The head learns from CE(x, y) alone, since the second term does not reach it. x' is attacked on CE. AELF paper,
    algorithm 1 and equation 8; its weight is printed nowhere, and the paper measures AELFs only.

    The method costs little clean accuracy and gains some robustness, far less than `madry` or `aelfs`, and under Adam
    at times none (results/digits.md): no label reaches an attacked image, and nothing holds the scale of the features.
    It is there to be compared with AELFs; for robustness take that.

    Args:
        weight: lambda, at least 0, or a schedule over the fractional epoch. choice: 0.3; on digits a greater weight
            costs clean accuracy, and a smaller one costs robustness without a gain.
        distance: "l2" or "l1" norm of the difference, as in the paper; or another of `tfrobust.losses.DISTANCES`.

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.aelf().outer)
    ['clean_cross_entropy', 'one_way_feature_distance']
    """
    measure = losses.distance(distance)

    def one_way_feature_distance(views: Views) -> Any:
        return measure(views.adv["features"], ops.stop_gradient(views.clean["features"]))

    return Objective(
        adversarial_cross_entropy,
        {
            "clean_cross_entropy": clean_cross_entropy,
            "one_way_feature_distance": Term(one_way_feature_distance, nonnegative("weight", weight)),
        },
        needs=("logits", "features"),
    )
