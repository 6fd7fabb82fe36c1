"""The classifier under evaluation: what is right, and whether an attack kept to the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from tfrobust import _batch
from tfrobust.attacks import Ball
from tfrobust.evaluation._graph import specs, traced
from tfrobust.evaluation._images import Images
from tfrobust.evaluation._line_up import SLACK, Contestant
from tfrobust.evaluation.alarms import Evidence, right

Tensor = Any
Classify = Callable[[Tensor], Mapping[str, Any]]

ROUNDING = 1e-6  # what rounding may add to a radius, absolute


class Judge:
    """The classifier under evaluation and the images: what is right, and whether an attack kept to the rules."""

    def __init__(self, classifier: Classify, ball: Ball, images: Images, batch_size: int) -> None:
        self.classifier = classifier
        self.ball = ball
        self.images = images
        self.batch_size = batch_size
        self.not_numbers: dict[str, int] = {}
        pixels = specs(images.x)[0]
        self._measure = traced(self._measured, pixels, pixels)
        everything = np.arange(len(images.y))
        self.logits = np.concatenate(
            [self._judged("clean", x, x) for x, _, _ in images.batches(everything, batch_size)]
        )
        self.right_clean = right(self.logits, images.y)

    def survivors(self, contestant: Contestant, clean: np.ndarray, seed: Callable[[int], Tensor]) -> np.ndarray:
        """Returns which of the numbered images are still right after every restart; each runs on those left of it."""
        if not len(clean):
            return clean
        search = contestant.search(self.classifier, self.images.x)
        alive = clean
        for restart in range(contestant.restarts):
            kept = [alive[:0]]
            for x, y, packed in self.images.batches(alive, self.batch_size):
                numbers = ops.convert_to_tensor(packed, "int32")
                x_adv = search(ops.convert_to_tensor(x), ops.convert_to_tensor(y), numbers, seed(restart))
                kept.append(packed[right(self._judged(contestant.name, x, x_adv), y)])
            alive = np.concatenate(kept)
        return alive

    def evidence(self) -> Evidence:
        """Returns what the alarms look at."""
        first = slice(0, self.batch_size)
        return Evidence(self.classifier, self.images.x[first], self.images.y[first], self.logits, self.not_numbers)

    def _measured(self, x: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        logits = ops.cast(self.classifier(z)["logits"], "float32")
        return logits, self.ball.distance(z, x), ops.min(z), ops.max(z)

    def _judged(self, name: str, x: np.ndarray, x_adv: Any) -> np.ndarray:
        """Returns the logits of what an attack returned, `(B, C)`, or refuses it."""
        received = np.asarray(x_adv)
        if received.shape != x.shape:
            raise _refused(name, f"shape {x.shape}", f"{received.shape}")
        z = received.astype("float32")
        if bad := int((~np.isfinite(z)).any(axis=(1, 2, 3)).sum()):
            raise _refused(name, "finite pixels", f"NaN or infinity in {bad} images; a NaN gradient leads there")
        logits, distance, least, most = (np.asarray(part) for part in self._measure(x, z))
        if distance.max() > self.ball.radius * (1 + SLACK) + ROUNDING:
            raise _refused(name, f"adversaries in {self.ball!r}", f"a distance of {distance.max():.6g}")
        low, high = self.ball.bounds
        slack = _batch.SLACK * (high - low)  # as much as the images themselves may
        if least < low - slack or most > high + slack:
            raise _refused(name, f"pixels in [{low:g}, {high:g}]", f"least {least:.6g}, greatest {most:.6g}")
        if count := int(np.isnan(logits).any(axis=-1).sum()):
            self.not_numbers[name] = self.not_numbers.get(name, 0) + count
        return logits


def _refused(name: str, expected: str, received: str) -> ValueError:
    return ValueError(f"Invalid result of the attack {name!r}: expected {expected}. Received: {received}")
