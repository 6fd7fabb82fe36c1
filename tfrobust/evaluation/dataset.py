"""Reads images and labels, and checks them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfrobust.classifiers import check_classifier
from tfrobust.data.batch import BatchSpec, prepare
from tfrobust.data.containers import batches_of
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import invalid, plain_errors
from tfrobust.utils.graph import traced
from tfrobust.utils.spilled import ROWS, Folder, Rows, release, taken
from tfrobust.utils.types import Bounds, Classify


class Images(NamedTuple):
    """Pixels `(N, H, W, C)` float32 within the bounds, which may be mapped from a file, and labels `(N,)` int32."""

    x: np.ndarray
    y: np.ndarray

    def of(self, numbers: np.ndarray, folder: Folder = None) -> Images:
        """Returns the numbered images; many of them are kept in a temporary file of the folder."""
        return Images(taken(self.x, numbers, folder), self.y[numbers])

    def span(self) -> float:
        """Returns the difference of the greatest and the least pixel."""
        parts = [(x.min(), x.max()) for x, _, _ in self.batches(np.arange(len(self.y)), ROWS)]
        least, most = zip(*parts, strict=True)
        return float(max(most)) - float(min(least))

    def batches(self, numbers: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields (pixels, labels, numbers) of the numbered images, in the fewest batches, all of about equal size.

        A last batch of few images would cost nearly as much as a full one.
        """
        for packed in np.array_split(numbers, -(-len(numbers) // batch_size)) if len(numbers) else ():
            yield self.x[packed], self.y[packed], packed
            release(self.x)


def read(classifier: Any, data: Any, batch_size: int, bounds: Bounds, folder: Folder = None) -> tuple[Images, int]:
    """Returns all images, checked as a step of training checks them, and the classifier's number of classes.

    Many images are kept in a temporary file of the folder. The shapes of a callable are found by tracing it.

    Raises:
        ValueError: for an invalid classifier, wrong shapes, pixels outside the bounds or not finite, invalid labels, or
            an empty dataset.
    """
    backend.require("An evaluation")
    if isinstance(classifier, keras.Model) or not callable(classifier):
        check_classifier(classifier)
    batches = batches_of(data, batch_size)
    first = next(batches, None)
    if first is None or not len(first[0]):
        raise invalid("data", "at least one image", "none")
    if isinstance(classifier, keras.Model):
        spec = BatchSpec.of(classifier, bounds)
    else:
        spec = BatchSpec(*_traced_kind(classifier, first[0]), bounds)
    check = backend.compiled(lambda x, y: prepare(spec.check(x, y), spec)[:2])
    xs, ys = Rows(folder), []
    with plain_errors():
        for x, y in itertools.chain([first], batches):
            pixels, labels = check(tf.convert_to_tensor(x), tf.convert_to_tensor(y))
            # The checks tolerate rounding, but an attack needs the clean image inside the bounds.
            xs.append(np.clip(pixels.numpy(), *bounds))
            ys.append(labels.numpy())
    return Images(xs.array(), np.concatenate(ys)), spec.classes


def _traced_kind(classify: Classify, x: Any) -> tuple[tuple[int | None, ...], int]:
    """Returns the input shape and the number of classes of a callable, found by tracing it into a graph."""
    if len(x.shape) != 4:
        raise invalid("shape of x", "(batch, H, W, C)", x.shape)
    outputs = _traced_outputs(classify, x)
    named = isinstance(outputs, Mapping)
    logits = outputs.get("logits") if named else outputs
    shape, dtype = _shape_and_dtype(logits)
    if not named or shape.rank != 2 or (shape[-1] or 1) < 2 or not dtype.is_floating:
        received = f"{sorted(outputs)}" if named else type(outputs).__name__
        if named and "logits" in outputs:
            received += f", logits {shape} {dtype.name}"
        elif shape.rank is not None:
            received += f" {shape}"
        expected = "a callable that returns a dict with 'logits' (batch, at least 2 classes) in floating point"
        raise invalid("classifier", expected, f"{received}.{_advice(shape, dtype)}")
    return (None, *x.shape[1:]), shape[-1]


def _shape_and_dtype(value: Any) -> tuple[tf.TensorShape, tf.DType]:
    """Returns the shape and the type of a tensor or an array; unknown ones for any other object."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return tf.TensorShape(value.shape), tf.as_dtype(value.dtype)
    return tf.TensorShape(None), tf.variant


def _traced_outputs(classify: Classify, x: Any) -> Any:
    """Returns the outputs of a callable for symbolic pixels.

    Raises:
        ValueError: for a callable that computes outside of TensorFlow.
    """
    seen = []

    def look(z: Any) -> Any:
        seen.append(classify(z))
        return tf.constant(0)

    try:
        traced(look, tf.TensorSpec((1, *x.shape[1:]), tf.float32))
    except (NotImplementedError, tf.errors.OperatorNotAllowedInGraphError, AttributeError) as error:
        if not isinstance(error, AttributeError) or "numpy" in str(error):
            raise invalid(
                "classifier",
                "a callable in TensorFlow or keras.ops, since attacks trace it into their graphs",
                "one that computes in NumPy or the like. Wrap it: "
                "logits = tf.numpy_function(predict, [z], tf.float32), then "
                '{"logits": tf.ensure_shape(logits, (None, classes))}; it has no gradients, so that only attacks by '
                f"queries are meaningful (the suite 'black_box'). The error was: {error}",
            ) from error
        raise
    return seen[0]


def _advice(shape: tf.TensorShape, dtype: tf.DType) -> str:
    """Returns a sentence on how to wrap the output of a callable; empty if that is not clear."""
    if dtype == tf.variant:
        return ""
    if shape.rank is None or (shape.rank == 2 and shape[-1] is None):
        return " The number of classes is not known: give it by tf.ensure_shape(logits, (None, classes))."
    if shape.rank == 1 or (shape.rank == 2 and shape[-1] == 1):
        return (
            ' Of one that returns labels: lambda z: {"logits": tf.one_hot(predict(z), classes)}; only attacks on '
            "decisions are effective then: hop_skip_jump (the suites 'black_box' and 'standard')."
        )
    if shape.rank == 2:
        return ' Wrap it: lambda z: {"logits": tf.cast(predict(z), "float32")}.'
    return ""
