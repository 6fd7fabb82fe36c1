"""Feature scattering."""

from tfrobust.attacks.view_losses import scattering
from tfrobust.objectives import recipes
from tfrobust.objectives.objective import Objective, register
from tfrobust.objectives.terms import smoothed
from tfrobust.utils.deprecation import renamed_arguments


@register(search={"off_label_smoothing": (0.0, 0.9)}, digits={"attack": recipes.ONE_STEP})
@renamed_arguments(smoothing="off_label_smoothing")
def feature_scatter(off_label_smoothing: float = 0.5) -> Objective:
    """Trains by feature scattering: min CE(x', y) with smoothed labels; x' scatters the batch, whatever the labels.

    The search maximizes the optimal transport distance between clean and attacked logits, coupled over the batch (over
    the part of each replica); in the paper it is one step of size eps. Zhang and Wang 2019 (Defense Against Adversarial
    Attacks Using Feature Scattering-based Adversarial Training), algorithm 1.

    Known to look stronger than it is: 60.6 % reported, 36.64 % under AutoAttack (CIFAR-10, public leaderboard).

    Args:
        {{off_label_smoothing}}

    Returns:
        An `Objective`; its attack is `pgd(eps, step_size=eps, steps=1)`, or `attacks.feature_scatter(eps)`.

    Example:

    >>> sorted(tfrobust.objectives.feature_scatter().outer)
    ['adversarial_cross_entropy']
    """
    loss = smoothed("adv", off_label_smoothing=off_label_smoothing)
    return Objective(scattering, {"adversarial_cross_entropy": loss}, start="uniform")
