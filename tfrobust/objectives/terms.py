"""Losses of `Views` that several objectives share."""

from collections.abc import Mapping

from keras import ops

from tfrobust import losses
from tfrobust.attacks.view_losses import adversarial_cross_entropy as adversarial_cross_entropy
from tfrobust.objectives.objective import Loss, Term
from tfrobust.schedules import From, Schedule, nonnegative
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_nonnegative, check_number
from tfrobust.views import Views

Weighted = Mapping[str, tuple[Loss, float]]  # name -> loss and weight


def clean_cross_entropy(views: Views) -> Tensor:
    """Computes CE(x, y), `(B,)`."""
    return losses.cross_entropy(views.clean["logits"], views.y)


def smoothed(side: str, label_smoothing: float = 0.0, off_label_smoothing: float = 0.0) -> Loss:
    """Returns the cross entropy of the side "clean" or "adv" with one kind of smoothing; see `losses.cross_entropy`."""
    smoothing = {"label_smoothing": label_smoothing, "off_label_smoothing": off_label_smoothing}
    for name, value in smoothing.items():
        check_number(name, value, 0, 1, expected="a share")
    if label_smoothing and off_label_smoothing:
        raise InvalidArgument(f"Expected `label_smoothing` or `off_label_smoothing`, not both. Received: {smoothing}")

    def smoothed_cross_entropy(views: Views) -> Tensor:
        return losses.cross_entropy(getattr(views, side)["logits"], views.y, **smoothing)

    return smoothed_cross_entropy


def cross_entropies(
    clean_weight: Schedule, adversarial_weight: Schedule, label_smoothing: float, off_label_smoothing: float
) -> dict[str, Term]:
    """Returns the terms of CE(x, y) and CE(x', y) by name, without those of weight 0; see `smoothed`."""
    weights = {"clean": nonnegative("clean_weight", clean_weight)}
    weights["adv"] = nonnegative("adversarial_weight", adversarial_weight)
    names = {"clean": "clean_cross_entropy", "adv": "adversarial_cross_entropy"}
    return {
        names[side]: Term(smoothed(side, label_smoothing, off_label_smoothing), weight)
        for side, weight in weights.items()
        if weight != 0
    }


def logit_distance(distance: str) -> Loss:
    """Returns the loss D(z, z') of clean and attacked logits; D is a name of `losses.DISTANCES`."""
    measure = losses.distance(distance)

    def logit_distance(views: Views) -> Tensor:
        return measure(views.clean["logits"], views.adv["logits"])

    return logit_distance


def kl_divergence(views: Views) -> Tensor:
    """Computes KL(p(x) || p(x')), summed over classes, `(B,)`."""
    return losses.kl_divergence(views.clean["logits"], views.adv["logits"])


def feature_distance(views: Views) -> Tensor:
    """Computes ||f(x) - f(x')||_2, `(B,)`; gradients flow through both sides."""
    return losses.l2_distance(views.clean["features"], views.adv["features"])


def clean_feature_norm(views: Views) -> Tensor:
    """Computes ||f(x)||_2, `(B,)`."""
    return losses.norm(views.clean["features"])


def adversarial_feature_norm(views: Views) -> Tensor:
    """Computes ||f(x')||_2, `(B,)`."""
    return losses.norm(views.adv["features"])


def with_mean_one(weights: Tensor, views: Views) -> Tensor:
    """Returns weights `(B,)` divided by their mean over the global batch, without gradients."""
    weights = ops.stop_gradient(weights)
    return weights / ops.maximum(views.batch_mean(weights), 1e-30)  # all may have rounded to zero


def after_warmup(warmup: float, before: Weighted, after: Weighted) -> dict[str, Term]:
    """Returns the terms of `before` until the epoch `warmup` and those of `after` from then on; at 0 only `after`."""
    check_nonnegative("warmup", warmup, "a number of epochs")
    if warmup == 0:
        return {name: Term(loss, weight) for name, (loss, weight) in after.items()}
    return {
        **{name: Term(loss, From(warmup, 0.0, before=weight)) for name, (loss, weight) in before.items()},
        **{name: Term(loss, From(warmup, weight)) for name, (loss, weight) in after.items()},
    }
