"""Pictures and figures of a few images, for a monitor of training."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfrobust import losses
from tfrobust.interpret.batches import Batch, Bounds, Search, as_adversary, batches, graph, logits_of
from tfrobust.interpret.gradients import check_deviations, gradient, normalized, rescaled
from tfrobust.interpret.maps import enlarged
from tfrobust.utils.errors import InvalidArgument

__all__ = ["Snapshot", "as_adversary", "check_deviations"]

Tensor = Any

LEAST_SIDE = 64  # pixels, of a picture that is large enough to see


class Snapshot:
    """Shows a few images to a classifier and returns pictures and scalars, each by name: see `RobustnessMonitor`.

    Args:
        classifier: with named outputs.
        images: batches or arrays in any container that `fit` takes.
        count: number of the first images that are shown.
        attack: as `Search` takes it.
        seed: of the attack's random starts.
        bounds: least and greatest pixel value.
        deviations: standard deviations to which the gradient is clipped.
        threshold: of `coverage`.

    Raises:
        ValueError: for invalid images, for images of other than one or three channels, and an invalid attack.
    """

    def __init__(
        self,
        classifier: keras.Model,
        images: Any,
        count: int,
        attack: Any,
        seed: int,
        bounds: Bounds,
        deviations: float,
        threshold: float,
    ) -> None:
        self._classifier = classifier
        self._bounds = bounds
        self._deviations = deviations
        self._threshold = threshold
        self._batch = self._first(images, count)
        self._search = Search(classifier, attack, seed)
        self._graph = graph(self._seen)

    def __call__(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the pictures, with values in [0, 1], and the scalars."""
        x, y, _ = self._batch
        pictures, scalars = self._graph(x, y, self._search(self._batch))
        return pictures, scalars

    def _first(self, images: Any, count: int) -> Batch:
        """Returns the first images as one batch, checked as a step of training checks them."""
        found: list[Batch] = []
        for batch in batches([self._classifier], images, "robustness monitor", (), count, self._bounds, endless=True):
            found.append(batch)
            if sum(len(part.y) for part in found) >= count:
                break
        first = Batch(*(tf.concat(parts, axis=0)[:count] for parts in zip(*found, strict=True)))
        if first.x.shape[-1] not in (1, 3):
            raise InvalidArgument(
                f"Invalid images: expected one channel or three, of which a picture is made. Received: {first.x.shape}"
            )
        return first

    def _seen(self, x: Tensor, y: Tensor, x_adv: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        low, high = self._bounds
        g, outputs = gradient(self._classifier, x, y), self._classifier(x, training=False)
        pictures = {
            "images/clean": (x - low) / (high - low),
            "images/adversarial": (x_adv - low) / (high - low),
            "images/perturbation": (1 + normalized(x_adv - x)) / 2,
            "maps/gradient": rescaled(g, self._deviations),
            **{f"maps/{name}": rescaled(enlarged(values, x)[..., None]) for name, values in _maps(outputs).items()},
        }
        scalars = {
            "clean_accuracy": ops.mean(losses.correct(outputs["logits"], y)),
            "robust_accuracy": ops.mean(losses.correct(logits_of(self._classifier, x_adv), y)),
            "coverage": ops.mean(ops.cast(ops.max(ops.abs(normalized(g)), axis=-1) > self._threshold, "float32")),
        }
        return {name: _magnified(picture) for name, picture in pictures.items()}, scalars


def _maps(outputs: Any) -> dict[str, Tensor]:
    """Returns the attention and the class activation maps among the outputs, each `(B, h, w)`."""
    maps = {f"attention/{block}": weights for block, weights in outputs.get("attention", {}).items()}
    if "cam" in outputs:
        label = ops.argmax(outputs["logits"], axis=-1)[:, None, None, None]
        maps["class_activation"] = ops.take_along_axis(outputs["cam"], label, axis=-1)[..., 0]
    return maps


def _magnified(pictures: Tensor) -> Tensor:
    factor = -(-LEAST_SIDE // min(pictures.shape[1:3]))
    return ops.repeat(ops.repeat(pictures, factor, axis=1), factor, axis=2)
