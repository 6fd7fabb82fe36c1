"""Losses that several objectives share, as functions of `Views`."""

from typing import Any

from tfrobust import losses
from tfrobust.views import Views

Tensor = Any


def clean_cross_entropy(views: Views) -> Tensor:
    """CE(x, y), `(B,)`."""
    return losses.cross_entropy(views.clean["logits"], views.y)


def adversarial_cross_entropy(views: Views) -> Tensor:
    """CE(x', y), `(B,)`."""
    return losses.cross_entropy(views.adv["logits"], views.y)


def kl_divergence(views: Views) -> Tensor:
    """KL(p(x) || p(x')), summed over classes, `(B,)`."""
    return losses.kl_divergence(views.clean["logits"], views.adv["logits"])


def feature_distance(views: Views) -> Tensor:
    """||f(x) - f(x')||_2, `(B,)`; gradients flow through both sides."""
    return losses.l2_distance(views.clean["features"], views.adv["features"])
