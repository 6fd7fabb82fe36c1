"""Geometry-aware instance-reweighted adversarial training."""

from keras import ops

from tfrobust import losses
from tfrobust.objectives import recipes, terms
from tfrobust.objectives.objective import Objective, register
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_number
from tfrobust.views import Views


def cross_entropy_and_correct(views: Views) -> tuple[Tensor, Tensor]:
    """Computes CE(x', y), and 1.0 where the iterate is still classified correctly, both `(B,)`."""
    logits = views.adv["logits"]
    return losses.cross_entropy(logits, views.y), losses.correct(logits, views.y)


@register(search={"bias": (-2.0, 2.0)}, digits={"objective": recipes.WARMUP})
def gairat(bias: float = -1.0, warmup: float = 0) -> Objective:
    """Trains by GAIRAT: min mean of w * CE(x', y), w = (1 + tanh(bias + 5 * (1 - kappa / (K // 2)))) / 2 of mean 1.

    kappa counts the K iterates of the attack that are still classified correctly (the start counts, the final x' does
    not), so images that are misclassified early weigh most. The mean of w is over the global batch. Zhang et al. 2021
    (Geometry-aware Instance-reweighted Adversarial Training), equation 6; bias is its Lambda.

    Known to look stronger than it is: 57.8 % under the authors' PGD-20, 35.9 % under AutoAttack in the thesis.

    Args:
        bias: Lambda.
        warmup: Number of epochs without weights at the beginning; 60 of 110 in the paper, 30 in shorter runs.

    Returns:
        An `Objective`. Its attack needs at least 2 steps.

    Example:

    >>> sorted(tfrobust.objectives.gairat(warmup=60).outer)
    ['adversarial_cross_entropy', 'weighted_cross_entropy']
    """
    check_number("bias", bias)

    def weighted_cross_entropy(views: Views) -> Tensor:
        if views.observed is None:
            raise InvalidArgument(
                "The objective 'gairat' reads `views.observed`: expected tfrobust.Observed(count, of)."
            )
        kappa, steps = views.observed
        # (1 + tanh(a)) / 2 = sigmoid(2 a), without the difference of near numbers.
        weights = ops.sigmoid(2.0 * (bias + 5.0 * (1.0 - kappa / (steps // 2))))
        return terms.with_mean_one(weights, views) * terms.adversarial_cross_entropy(views)

    unweighted = {"adversarial_cross_entropy": (terms.adversarial_cross_entropy, 1.0)}
    outer = terms.after_warmup(warmup, unweighted, {"weighted_cross_entropy": (weighted_cross_entropy, 1.0)})
    return Objective(cross_entropy_and_correct, outer, start="uniform", least_steps=2)
