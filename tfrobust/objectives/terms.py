"""Losses of `Views` that several objectives share."""

from typing import Any

from keras import ops

from tfrobust import losses
from tfrobust.attacks.view_losses import adversarial_cross_entropy as adversarial_cross_entropy
from tfrobust.objectives.objective import Loss
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.validation import check_number
from tfrobust.views import Views

Tensor = Any


def clean_cross_entropy(views: Views) -> Tensor:
    """Computes CE(x, y), `(B,)`."""
    return losses.cross_entropy(views.clean["logits"], views.y)


def check_smoothing(name: str, value: float) -> None:
    """Raises InvalidArgument if `value` is outside [0, 1]."""
    check_number(name, value, 0, 1, expected="a share")


def smoothed(side: str, label_smoothing: float = 0.0, off_label_smoothing: float = 0.0) -> Loss:
    """Returns the cross entropy of one side with smoothed labels.

    Args:
        side: "clean" or "adv".
        label_smoothing: as in `losses.cross_entropy`.
        off_label_smoothing: likewise; one of the two is 0.

    Raises:
        ValueError: if a smoothing is outside [0, 1], or both are positive.
    """
    smoothing = {"label_smoothing": label_smoothing, "off_label_smoothing": off_label_smoothing}
    for name, value in smoothing.items():
        check_smoothing(name, value)
    if label_smoothing and off_label_smoothing:
        raise InvalidArgument(f"Expected `label_smoothing` or `off_label_smoothing`, not both. Received: {smoothing}")

    def smoothed_cross_entropy(views: Views) -> Tensor:
        return losses.cross_entropy(getattr(views, side)["logits"], views.y, **smoothing)

    return smoothed_cross_entropy


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
