"""One batch of a step: brought to one form, checked as it arrives, never empty."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfrobust import _tensorflow as backend
from tfrobust._errors import demand

Tensor = Any

KERAS_BATCH_SIZE = 32  # of arrays, where none is given
SLACK = 1e-4  # a resized or bfloat16 image may leave [0, 1] by rounding


class Batch(NamedTuple):
    """Pixels `(B, H, W, C)` float32, labels `(B,)` int32, user's weights `(B,)` or None, and which rows are real."""

    x: Tensor
    y: Tensor
    weight: Tensor | None
    present: Tensor  # (B,): 1.0, or 0.0 for the one row that stands in for an empty local batch
    given_y: Tensor  # as the user gave them, for compiled metrics

    def noise(self, seed: Any) -> backend.Noise:
        """Returns noise whose rows are those of the global batch."""
        return backend.Noise(seed, backend.rows_before(tf.cast(tf.reduce_sum(self.present), tf.int32)))

    def mean(self, values: Tensor) -> Tensor:
        """Returns the mean of `(B,)` values over the global batch."""
        total = backend.global_sum(tf.reduce_sum(tf.where(self.present > 0, values, 0.0)))
        return total / tf.maximum(backend.global_sum(tf.reduce_sum(self.present)), 1.0)


class Contract(NamedTuple):
    """What a classifier expects of a batch: input shape with the batch dimension, classes, pixel bounds."""

    input_shape: tuple[int | None, ...]
    classes: int
    bounds: tuple[float, float]

    def check(self, x: Tensor, y: Tensor = None, weight: Tensor = None) -> Any:
        """Returns `(x, y)` or `(x, y, sample_weight)`, once the values are found to be what they should be.

        Raises:
            tf.errors.InvalidArgumentError: when the batch arrives; `plain_errors` makes a plain sentence of it.
        """
        self.check_shapes(x, y)
        y = _numbers(y)
        with tf.control_dependencies([_pixels_in(tf.cast(x, tf.float32), self.bounds), _labels_in(y, self.classes)]):
            return keras.utils.pack_x_y_sample_weight(tf.identity(x), tf.identity(y), weight)

    def check_shapes(self, x: Tensor, y: Tensor) -> None:
        """Raises ValueError, while a step is traced, for data without labels and shapes that cannot be."""
        if y is None:
            raise ValueError("Invalid data: expected (x, y) with labels. Received: x alone")
        _check_shapes(x, y, self.input_shape, self.classes)


def prepare(data: Any, contract: Contract) -> Batch:
    """Returns what Keras hands to a step, `(x, y)` or `(x, y, sample_weight)`, in the one form that objectives read.

    Raises:
        ValueError: for data without labels and shapes that cannot be; while the step is traced.
    """
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    contract.check_shapes(x, y)
    x, y = tf.cast(x, tf.float32), _numbers(y)
    labels = tf.argmax(y, axis=-1) if _one_hot(y, contract.classes) else tf.reshape(y, [-1])
    if weight is not None:
        weight = tf.reshape(tf.cast(weight, tf.float32), [-1])
    batch = Batch(x, tf.cast(labels, tf.int32), weight, tf.ones_like(tf.cast(labels, tf.float32)), y)
    return _never_empty(batch) if backend.replicas() > 1 else batch


def _numbers(y: Tensor) -> Tensor:
    y = tf.convert_to_tensor(y)
    if y.dtype == tf.bool:
        return tf.cast(y, tf.int32)
    if not (y.dtype.is_integer or y.dtype.is_floating):
        raise ValueError(f"Invalid labels: expected integers or one-hot rows. Received: dtype {y.dtype.name}")
    return y


def _one_hot(y: Tensor, classes: int) -> bool:
    return len(y.shape) == 2 and y.shape[-1] == classes and classes > 1


def _check_shapes(x: Tensor, y: Tensor, input_shape: tuple[int | None, ...], classes: int) -> None:
    expected, received = tuple(input_shape[1:]), tuple(x.shape[1:])
    fits = len(expected) == len(received) and all(
        e is None or r is None or e == r for e, r in zip(expected, received, strict=True)
    )
    if not fits:
        turned = len(received) == 3 and (received[1], received[2], received[0]) == expected
        hint = " The images are channels first: transpose them to channels last." if turned else ""
        raise ValueError(f"Invalid shape of x: expected (batch, {_text(expected)}). Received: {x.shape}.{hint}")
    if not (len(y.shape) == 1 or (len(y.shape) == 2 and y.shape[-1] in (1, classes))):
        raise ValueError(
            "Invalid shape of y: expected integer labels (batch,) or (batch, 1), or one-hot labels "
            f"(batch, {classes}). Received: {y.shape}"
        )


def _text(shape: tuple[int | None, ...]) -> str:
    return ", ".join(map(str, shape))


def _pixels_in(x: Tensor, bounds: tuple[float, float]) -> tf.Operation:
    least, most = tf.reduce_min(x), tf.reduce_max(x)
    slack = SLACK * (bounds[1] - bounds[0])
    inside = (least >= bounds[0] - slack) & (most <= bounds[1] + slack)  # False for NaN
    text = f"Invalid pixels: expected values in [{bounds[0]:g}, {bounds[1]:g}] (images of 0..255 divided by 255; "
    return _demand(inside | tf.equal(tf.size(x), 0), text + "mean and deviation inside the classifier).", least, most)


def _labels_in(y: Tensor, classes: int) -> tf.Operation:
    if _one_hot(y, classes):
        y = tf.cast(y, tf.float32)
        hard = tf.reduce_all((y == 0) | (y == 1)) & tf.reduce_all(tf.reduce_sum(y, axis=-1) == 1)
        text = "Invalid labels: expected one-hot rows (a single 1); soft labels are not supported."
        return _demand(hard, text, tf.reduce_min(y), tf.reduce_max(y))
    least, most = tf.reduce_min(y), tf.reduce_max(y)
    whole = tf.reduce_all(tf.equal(tf.cast(tf.cast(y, tf.int64), y.dtype), y))
    inside = whole & (tf.cast(least, tf.int64) >= 0) & (tf.cast(most, tf.int64) < classes)
    text = f"Invalid labels: expected integers from 0 to {classes - 1}."
    return _demand(inside | tf.equal(tf.size(y), 0), text, least, most)


def _demand(condition: Tensor, text: str, least: Tensor, most: Tensor) -> tf.Operation:
    sentence = tf.strings.format(text + " Received: least {}, greatest {}", (least, most))
    return demand(condition, sentence)


def enough_for(replicas: int, x: Any, batch_size: int | None) -> Any:
    """Returns the data, whose first batch has a row for each replica: found at once, or of a dataset when it arrives.

    Raises:
        ValueError: for arrays whose first batch has fewer.
    """
    text = f"Invalid data: expected a first batch of at least {replicas} images, one for each replica."

    def checked(index: Tensor, batch: Any) -> Any:
        rows = tf.shape(keras.tree.flatten(batch)[0])[0]
        sentence = tf.strings.format(text + " Received: {}", rows)
        with tf.control_dependencies([demand((index > 0) | (rows >= replicas), sentence)]):
            return keras.tree.map_structure(tf.identity, batch)

    if isinstance(x, tf.data.Dataset):
        return x.enumerate().map(checked)
    if hasattr(x, "shape") and (rows := min(len(x), batch_size or KERAS_BATCH_SIZE)) < replicas:
        raise ValueError(f"{text} Received: {rows}")
    return x


def _never_empty(batch: Batch) -> Batch:
    """A replica without examples takes a step on one black image that counts for nothing."""
    missing = tf.maximum(1 - tf.shape(batch.x)[0], 0)

    def padded(tensor: Tensor) -> Tensor:
        return tf.pad(tensor, [[0, missing], *[[0, 0]] * (len(tensor.shape) - 1)])

    return Batch(*(None if part is None else padded(part) for part in batch))
