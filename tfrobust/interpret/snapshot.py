"""Computes pictures and figures of a few images, for a monitor of training."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfrobust import losses
from tfrobust.interpret.batches import Batch, Search, as_adversary, batches, graph, logits_of
from tfrobust.interpret.gradients import check_deviations, gradient, normalized, rescaled
from tfrobust.interpret.maps import enlarged
from tfrobust.utils.errors import invalid
from tfrobust.utils.types import Bounds, Tensor

__all__ = ["Snapshot", "as_adversary", "check_deviations"]

LEAST_SIDE = 64  # pixels of the shorter side of a picture that is large enough to see


@dataclasses.dataclass(eq=False)
class Snapshot:
    """Shows the first `count` images to a classifier and returns pictures and scalars, each by name.

    `RobustnessMonitor` describes the arguments.

    Raises:
        ValueError: for invalid images, for images of other than one or three channels, and an invalid attack.
    """

    classifier: keras.Model
    images: Any
    count: int
    attack: Any
    seed: int
    bounds: Bounds
    deviations: float
    threshold: float

    def __post_init__(self) -> None:
        self._batch = self._first()
        self._search = Search(self.classifier, self.attack, self.seed)
        self._graph = graph(self._seen)

    def __call__(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the pictures, with values in [0, 1], and the scalars."""
        x, y, _ = self._batch
        pictures, scalars = self._graph(x, y, self._search(self._batch))
        return pictures, scalars

    def _first(self) -> Batch:
        """Returns the first images as one batch, checked as a step of training checks them."""
        found: list[Batch] = []
        read = batches([self.classifier], self.images, "robustness monitor", (), self.count, self.bounds, endless=True)
        for batch in read:
            found.append(batch)
            if sum(len(part.y) for part in found) >= self.count:
                break
        first = Batch(*(tf.concat(parts, axis=0)[: self.count] for parts in zip(*found, strict=True)))
        if first.x.shape[-1] not in (1, 3):
            raise invalid("images", "one channel or three, of which a picture is made", first.x.shape)
        return first

    def _seen(self, x: Tensor, y: Tensor, x_adv: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        low, high = self.bounds
        g, outputs = gradient(self.classifier, x, y), self.classifier(x, training=False)
        pictures = {
            "images/clean": (x - low) / (high - low),
            "images/adversarial": (x_adv - low) / (high - low),
            "images/perturbation": (1 + normalized(x_adv - x)) / 2,
            "maps/gradient": rescaled(g, self.deviations),
            **{f"maps/{name}": rescaled(enlarged(values, x)[..., None]) for name, values in _maps(outputs).items()},
        }
        scalars = {
            "clean_accuracy": ops.mean(losses.correct(outputs["logits"], y)),
            "robust_accuracy": ops.mean(losses.correct(logits_of(self.classifier, x_adv), y)),
            "coverage": ops.mean(ops.cast(ops.max(ops.abs(normalized(g)), axis=-1) > self.threshold, "float32")),
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
