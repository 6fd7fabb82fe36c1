"""Measures accuracy on transformed images."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from tfrobust import losses
from tfrobust.classifiers import in_inference
from tfrobust.evaluation.dataset import Images, read
from tfrobust.utils.errors import invalid, invalid_value
from tfrobust.utils.graph import specs, traced
from tfrobust.utils.types import Bounds, Tensor

Change = Callable[[Tensor, Tensor], Tensor]  # (pixels, numbers of the images) -> pixels; in graph code


class Accuracy:
    """Finds the images on which a classifier is right after a transformation; see `evaluate` for the arguments.

    The data are read once.
    """

    def __init__(self, classifier: Any, data: Any, batch_size: int = 256, bounds: Bounds = (0.0, 1.0)) -> None:
        self.images, self.classes = read(classifier, data, batch_size, bounds)
        self.batch_size = batch_size
        self.numbers = np.arange(len(self.images.y))
        classify = in_inference(classifier)
        self.classify = traced(lambda z: ops.cast(classify(z)["logits"], "float32"), specs(self.images.x)[0])

    def right(self, change: Change | None = None) -> np.ndarray:
        """Returns where the classifier is right on transformed images, `(N,)` bool; None: on the images themselves."""
        if change is None:
            return self.right_on(self.images.x)
        pixels, _, numbers, _ = specs(self.images.x)
        return self._right(traced(change, pixels, numbers))

    def right_on(self, z: np.ndarray) -> np.ndarray:
        """Returns where the classifier is right on other pixels for the same labels, `(N,)` bool."""
        return self._right(lambda _, packed: z[packed])

    def _right(self, pixels: Callable[[np.ndarray, np.ndarray], Any]) -> np.ndarray:
        batches = self.images.batches(self.numbers, self.batch_size)
        rows = [losses.correct(self.classify(pixels(x, packed)), y) for x, y, packed in batches]
        return np.concatenate([np.asarray(right) > 0 for right in rows])


def check_named(argument: str, classifiers: Any) -> None:
    """Raises ValueError for an argument that is not a mapping name -> classifier with at least one entry."""
    if not isinstance(classifiers, Mapping) or not classifiers:
        raise invalid_value(argument, "a mapping name -> classifier", classifiers)


def read_for_all(classifiers: Mapping[str, Any], data: Any, batch_size: int, bounds: Bounds) -> tuple[Images, int]:
    """Returns all images, read once and checked for every classifier, and the number of classes that all share.

    Raises:
        ValueError: for classifiers of different numbers of classes, and for everything that `evaluate` refuses.
    """
    (first, classifier), *others = classifiers.items()
    images, classes = read(classifier, data, batch_size, bounds)
    last = slice(int(images.y.argmax()), int(images.y.argmax()) + 1)  # the image of the greatest label
    for name, other in others:
        _, theirs = read(other, (images.x[last], images.y[last]), batch_size, bounds)
        if theirs != classes:
            expected = f"one of {classes} classes, as {first!r} has"
            raise invalid(f"classifier {name!r}", expected, f"one of {theirs}")
    return images, classes
