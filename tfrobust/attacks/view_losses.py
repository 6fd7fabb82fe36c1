"""Losses of an attack: functions of `Views` with one number for each image, `Views -> (B,)`."""

from collections.abc import Callable
from typing import Any

from keras import ops

from tfrobust import losses
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_nonnegative
from tfrobust.views import Views

Loss = Callable[[Views], Any]

CLASSES = ("all", "true")


def adversarial_cross_entropy(views: Views) -> Tensor:
    """Computes CE(x', y), `(B,)`: the default loss of a gradient attack."""
    return losses.cross_entropy(views.adv["logits"], views.y)


def cosine_cross_entropy(views: Views) -> Tensor:
    """Computes CE(cos', y), `(B,)`, of the cosines of a normalized head in place of its logits z = s * cos.

    The softmax of numbers in [-1, 1] is nearly uniform, so that this loss weighs all wrong classes almost alike: its
    attack is weaker than that on the logits. SPAT's published PGD figures are of this attack (its authors' code).
    """
    return losses.cross_entropy(views.adv["cosine"], views.y)


def margin(views: Views) -> Any:
    """Computes max_{j != y} z'_j - z'_y, `(B,)`."""
    return losses.margin(views.adv["logits"], views.y)


def margin_to_target(views: Views) -> Any:
    """Computes z'_t - z'_y, `(B,)`, where t is the class that the run reaches for."""
    logits, labels = views.adv["logits"], ops.stack([views.target, views.y], axis=-1)
    reached, left = ops.unstack(ops.take_along_axis(logits, labels, axis=-1), axis=-1)
    return reached - left


def cam_distance(distance: str = "l2", classes: str = "all") -> Loss:
    """Returns the loss D(CAM(x), CAM(x')), `Views -> (B,)`.

    Args:
        distance: D of the flattened maps, "l2", "l1", "cosine", "mse" or "huber"; see `tfrobust.losses`.
        classes: Use the maps of "all" classes, or that of the "true" class.
    """
    measure = losses.distance(distance)
    if classes not in CLASSES:
        raise unknown("value for `classes`", classes, CLASSES)

    def chosen(views: Views, cam: Tensor) -> Tensor:
        if classes == "all":
            return cam
        true = ops.reshape(ops.one_hot(views.y, cam.shape[-1], dtype="bool"), (-1, 1, 1, cam.shape[-1]))
        return ops.sum(ops.where(true, cam, ops.zeros_like(cam)), axis=-1)

    def cam_distance(views: Views) -> Tensor:
        return measure(chosen(views, views.clean["cam"]), chosen(views, views.adv["cam"]))

    return cam_distance


def information(
    weight: float = 0.1, distance: str = "l2", classes: str = "all", cross_entropy_weight: float = 1.0
) -> Loss:
    """Returns the loss cross_entropy_weight * CE(x', y) + weight * D(CAM(x), CAM(x')), `(B,)`; see `infofeature`."""
    weight = check_nonnegative("weight", weight)
    cross_entropy_weight = check_nonnegative("cross_entropy_weight", cross_entropy_weight)
    map_distance = cam_distance(distance, classes)

    def information(views: Views) -> Tensor:
        return cross_entropy_weight * adversarial_cross_entropy(views) + weight * map_distance(views)

    return information


def scattering(views: Views) -> Any:
    """Computes each row's part of the optimal transport distance of clean and attacked logits, `(B,)`."""
    return losses.optimal_transport(views.clean["logits"], views.adv["logits"])


def nearness(views: Views) -> Any:
    """Computes minus the cosine distance of f(x') to the features of the partner in the reversed batch, `(B,)`."""
    partner = ops.flip(views.clean["features"], axis=0)
    return -losses.cosine_distance(views.adv["features"], partner)


NAMED: dict[str, Loss] = {loss.__name__: loss for loss in (adversarial_cross_entropy, cosine_cross_entropy, margin)}


def get(loss: str | Loss | None) -> Loss | None:
    """Returns the loss for a name of `NAMED`; a function, or None, unchanged."""
    if loss is None or callable(loss):
        return loss
    if loss not in NAMED:
        raise unknown("loss", loss, NAMED)
    return NAMED[loss]
