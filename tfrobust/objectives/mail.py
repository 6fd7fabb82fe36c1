"""Margin-aware instance reweighting learning: MAIL-AT and MAIL-TRADES."""

from keras import ops

from tfrobust import losses
from tfrobust.objectives import recipes, terms
from tfrobust.objectives.objective import Loss, Objective, register
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_nonnegative, check_number
from tfrobust.views import Views


def _weighted(loss: Loss, slope: float, bias: float, constant: float | None) -> Loss:
    """Returns w * loss, w = sigmoid(slope * (m + bias)) of the margin m = max_{j != y} p'_j - p'_y, a constant."""
    for name, value in (("slope", slope), ("bias", bias)):
        check_number(name, value)
    if constant is not None:
        check_number("constant", constant, 0, above=True)

    def weighted(views: Views) -> Tensor:
        margin = losses.margin(ops.softmax(views.adv["logits"]), views.y)
        weights = ops.sigmoid(slope * (margin + bias))
        weights = terms.with_mean_one(weights, views) if constant is None else constant * ops.stop_gradient(weights)
        return weights * loss(views)

    return weighted


@register(search={"slope": (1.0, 30.0, "log"), "bias": (-1.0, 1.0)}, digits={"objective": recipes.WARMUP})
def mail_at(slope: float = 10.0, bias: float = -0.5, constant: float | None = None, warmup: float = 0) -> Objective:
    """Trains by MAIL-AT: min mean of w * CE(x', y), w = sigmoid(slope * (m + bias)), scaled to mean 1.

    m = max_{j != y} p'_j - p'_y is the margin of the update's own forward pass, without gradient: misclassified images
    weigh most. The mean of w is over the global batch. x' is attacked on CE from x + 0.001 * N(0, 1). Liu et al. 2021
    (Probabilistic Margins for Instance Reweighting in Adversarial Training), equations 5 and 8.

    Args:
        slope: gamma of the paper.
        bias: beta of the paper, with its sign in front.
        constant: Multiply w by this instead of scaling it to mean 1; the authors' code has 3.
        warmup: Number of epochs without weights at the beginning; 76 in the paper.

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.mail_at().outer)
    ['weighted_cross_entropy']
    """
    full = {"weighted_cross_entropy": (_weighted(terms.adversarial_cross_entropy, slope, bias, constant), 1.0)}
    unweighted = {"adversarial_cross_entropy": (terms.adversarial_cross_entropy, 1.0)}
    return Objective(terms.adversarial_cross_entropy, terms.after_warmup(warmup, unweighted, full), start="normal")


@register(
    search={"beta": (0.5, 20.0, "log"), "slope": (0.5, 10.0, "log"), "bias": (-1.0, 1.0)},
    digits={"objective": recipes.WARMUP},
)
def mail_trades(
    beta: float = 5.0, slope: float = 2.0, bias: float = 0.0, constant: float | None = None, warmup: float = 0
) -> Objective:
    """Trains by MAIL-TRADES: min CE(x, y) + beta * mean of w * KL(p(x) || p(x')), w as in `mail_at`.

    The weights are those of TRADES' divergence alone, which the search maximizes. Liu et al. 2021 (Probabilistic
    Margins for Instance Reweighting in Adversarial Training), equation 9.

    Args:
        beta: Weight of the divergence, at least 0.
        slope: gamma of the paper.
        bias: beta of the paper, with its sign in front.
        constant: Multiply w by this instead of scaling it to mean 1; the authors' code has 3.
        warmup: Number of epochs without weights at the beginning; 76 in the paper.

    {{returns}}

    Example:

    >>> sorted(tfrobust.objectives.mail_trades().outer)
    ['clean_cross_entropy', 'weighted_kl_divergence']
    """
    beta = check_nonnegative("beta", beta)
    full = {"weighted_kl_divergence": (_weighted(terms.kl_divergence, slope, bias, constant), beta)}
    outer = terms.after_warmup(warmup, {"kl_divergence": (terms.kl_divergence, beta)}, full)
    return Objective(terms.kl_divergence, {"clean_cross_entropy": terms.clean_cross_entropy, **outer}, start="normal")
