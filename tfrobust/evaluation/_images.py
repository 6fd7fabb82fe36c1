"""Images and labels in host memory, read once and checked as they are read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfrobust import _tensorflow as backend
from tfrobust._batch import Contract, prepare
from tfrobust._errors import plain_errors
from tfrobust._reading import batches_of
from tfrobust.classifiers import check_classifier


class Images(NamedTuple):
    """Pixels `(N, H, W, C)` float32 within the bounds and labels `(N,)` int32."""

    x: np.ndarray
    y: np.ndarray

    def batches(self, numbers: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields (pixels, labels, numbers) of the numbered images, in as few batches as can be, all of about one size.

        A last batch of few images would cost nearly what a full one costs.
        """
        for packed in np.array_split(numbers, -(-len(numbers) // batch_size)) if len(numbers) else ():
            yield self.x[packed], self.y[packed], packed


def read(classifier: Any, data: Any, batch_size: int, bounds: tuple[float, float]) -> tuple[Images, int]:
    """Returns all images, checked as a step of training checks them, and the classifier's number of classes.

    Args:
        classifier: a Keras model, or a callable, which can only be asked what it gives.
        data: what `fit` takes, see `batches_of`; read once.
        batch_size: of arrays.
        bounds: least and greatest pixel value.

    Raises:
        ValueError: for what is no classifier or no data, wrong shapes, pixels outside the bounds or not finite, labels
            that are none, and no images.
    """
    backend.require("An evaluation")
    if isinstance(classifier, keras.Model) or not callable(classifier):
        check_classifier(classifier)
    batches = batches_of(data, batch_size)
    first = next(batches, None)
    if first is None or not len(first[0]):
        raise ValueError("Invalid data: expected at least one image. Received: none")
    if isinstance(classifier, keras.Model):
        contract = Contract.of(classifier, bounds)
    else:
        contract = Contract(*_asked(classifier, first[0]), bounds)
    check = backend.compiled(lambda x, y: prepare(contract.check(x, y), contract)[:2])
    xs, ys = [], []
    with plain_errors():
        for x, y in itertools.chain([first], batches):
            pixels, labels = check(tf.convert_to_tensor(x), tf.convert_to_tensor(y))
            # The checks let rounding pass; an attack needs the clean image inside the bounds.
            xs.append(np.clip(pixels.numpy(), *bounds))
            ys.append(labels.numpy())
    return Images(np.concatenate(xs), np.concatenate(ys)), contract.classes


def _asked(classify: Callable[[Any], Any], x: Any) -> tuple[tuple[int | None, ...], int]:
    """Returns input shape and number of classes of a callable, which can only be asked."""
    if len(x.shape) != 4:
        raise ValueError(f"Invalid shape of x: expected (batch, H, W, C). Received: {x.shape}")
    outputs = classify(tf.cast(x[:1], tf.float32))
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
    shape = None if logits is None else tuple(logits.shape)
    if shape is None or len(shape) != 2 or shape[-1] < 2:
        what = sorted(outputs) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise ValueError(
            "Invalid classifier: expected a callable that returns a dict with 'logits' (batch, at least 2 classes). "
            f"Received: {what}" + (f", logits {shape}" if shape is not None else "")
        )
    return (None, *x.shape[1:]), shape[-1]
