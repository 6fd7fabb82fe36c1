"""Losses that several objectives share, as functions of `Views`."""

from typing import Any

from keras import ops

from tfrobust import losses
from tfrobust.attacks.view_losses import adversarial_cross_entropy as adversarial_cross_entropy
from tfrobust.objectives.objective import Loss
from tfrobust.utils.validation import check_number
from tfrobust.views import Views

Tensor = Any


def clean_cross_entropy(views: Views) -> Tensor:
    """CE(x, y), `(B,)`."""
    return losses.cross_entropy(views.clean["logits"], views.y)


def check_smoothing(smoothing: float) -> None:
    """Raises ValueError for smoothing outside [0, 1]."""
    check_number("smoothing", smoothing, 0, 1, expected="a share")


def smoothed(side: str, smoothing: float) -> Loss:
    """Returns the cross entropy of the "clean" or the "adv" side with smoothed labels.

    Args:
        side: "clean" or "adv".
        smoothing: the label keeps 1 - smoothing, each other class gets smoothing / (C - 1).

    Raises:
        ValueError: for smoothing outside [0, 1].
    """
    check_smoothing(smoothing)

    def smoothed_cross_entropy(views: Views) -> Tensor:
        return losses.cross_entropy(getattr(views, side)["logits"], views.y, smoothing)

    return smoothed_cross_entropy


def kl_divergence(views: Views) -> Tensor:
    """KL(p(x) || p(x')), summed over classes, `(B,)`."""
    return losses.kl_divergence(views.clean["logits"], views.adv["logits"])


def feature_distance(views: Views) -> Tensor:
    """||f(x) - f(x')||_2, `(B,)`; gradients flow through both sides."""
    return losses.l2_distance(views.clean["features"], views.adv["features"])


def clean_feature_norm(views: Views) -> Tensor:
    """||f(x)||_2, `(B,)`."""
    return losses.norm(views.clean["features"])


def adversarial_feature_norm(views: Views) -> Tensor:
    """||f(x')||_2, `(B,)`."""
    return losses.norm(views.adv["features"])


def with_mean_one(weights: Tensor, views: Views) -> Tensor:
    """Returns weights `(B,)` over their mean in the global batch, as constants."""
    weights = ops.stop_gradient(weights)
    return weights / ops.maximum(views.batch_mean(weights), 1e-30)  # all of them may have rounded to zero
