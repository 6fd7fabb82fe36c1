"""Checks a batch, brings it into the form that objectives read, and pads an empty local batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfrobust.classifiers import divides_pixels
from tfrobust.data.containers import description, single_entry
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument, demand, invalid, plain_errors
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Bounds, Tensor

KERAS_BATCH_SIZE = 32  # batch size of arrays without a given one
LABELS = "labels", "integers or one-hot rows"
PIXELS = "pixels", "numbers"
SLACK = 1e-4  # a resized or bfloat16 image may leave [0, 1] by rounding


class Batch(NamedTuple):
    """A batch in the form that objectives read."""

    x: Tensor  # pixels, `(B, H, W, C)` float32
    y: Tensor  # labels, `(B,)` int32
    weight: Tensor | None  # sample weights, `(B,)`
    present: Tensor  # `(B,)`: 1.0, or 0.0 for the padding row of an empty local batch
    given_y: Tensor  # labels in the user's form, for compiled metrics

    def noise(self, seed: Any) -> Noise:
        """Returns noise whose rows are indexed by the global batch."""
        return Noise(seed, backend.rows_before(tf.cast(tf.reduce_sum(self.present), tf.int32)))

    @property
    def one(self) -> Tensor:
        """The number 1, with a data dependency on the batch.

        Keras starts a further step to learn that data of unknown size have ended. A counter that does not depend on the
        batch is raised in that step, too.
        """
        return tf.cast(tf.reduce_min(self.y) >= 0, tf.int64)

    def mean(self, values: Tensor) -> Tensor:
        """Returns the mean of `(B,)` values over the global batch."""
        total = backend.global_sum(tf.reduce_sum(tf.where(self.present > 0, values, 0.0)))
        return total / tf.maximum(backend.global_sum(tf.reduce_sum(self.present)), 1.0)


class BatchSpec(NamedTuple):
    """The input shape (with the batch dimension), classes and pixel bounds that a classifier expects of a batch."""

    input_shape: tuple[int | None, ...]
    classes: int
    bounds: Bounds
    divides: str = ""  # name of the layer that shows that the classifier expects pixels in 0..255

    @classmethod
    def of(cls, classifier: keras.Model, bounds: Bounds) -> BatchSpec:
        """Returns the specification of a Keras model with named outputs."""
        classes = int(classifier.output["logits"].shape[-1])
        return cls(classifier.input_shape, classes, bounds, divides_pixels(classifier))

    def check(self, x: Any, y: Any = None, weight: Any = None) -> Any:
        """Returns `(x, y)` or `(x, y, sample_weight)`, gated on checks of their values.

        A dict of one entry is replaced by that entry; unknown static shapes are set to the expected ones.

        Raises:
            ValueError: if the data or their static shapes are invalid.
            tf.errors.InvalidArgumentError: if values are invalid, when the batch arrives; `plain_errors` converts it.
        """
        if y is None:
            raise invalid("data", "(x, y) with labels", description(x) if isinstance(x, Mapping) else "x alone")
        x, y = _numbers(single_entry(x, "x"), *PIXELS), _numbers(single_entry(y, "y"), *LABELS)
        self.check_shapes(x, y)
        x, y = self._shaped(x, y)
        within = [_pixels_in(tf.cast(x, tf.float32), self.bounds, self.divides), _labels_in(y, self.classes)]
        with tf.control_dependencies(within):
            return keras.utils.pack_x_y_sample_weight(tf.identity(x), tf.identity(y), weight)

    def check_shapes(self, x: Tensor, y: Tensor) -> None:
        """Raises ValueError for invalid static shapes; sizes that are unknown are checked when the batch arrives."""
        if x.shape.rank is not None:
            expected, received = tuple(self.input_shape[1:]), tuple(x.shape[1:])
            if not tf.TensorShape(expected).is_compatible_with(received):
                turned = len(received) == 3 and (received[1], received[2], received[0]) == expected
                hint = " The images are channels first: transpose them to channels last." if turned else ""
                raise InvalidArgument(f"{self._wanted_x()} Received: {x.shape}.{hint}")
        if not (y.shape.rank in (None, 1) or (y.shape.rank == 2 and y.shape[-1] in (None, 1, self.classes))):
            forms = f"integer labels (batch,) or (batch, 1), or one-hot labels (batch, {self.classes})"
            raise invalid("shape of y", forms, y.shape)

    def _shaped(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns pixels and labels with static shapes; unknown ones are checked when the batch arrives."""
        sizes, expected = tf.shape(x), self.input_shape[1:]
        if x.shape.rank is None or not x.shape[1:].is_fully_defined():
            wanted = tf.constant([-1 if size is None else size for size in expected])
            given = tf.concat([sizes[1:], -tf.ones_like(wanted)], axis=0)[: len(expected)]
            fits = tf.reduce_all((given == wanted) | (wanted < 0)) & (tf.size(sizes) == 1 + len(expected))
            sentence = tf.strings.format(f"{self._wanted_x()} Received: {{}}", sizes)
            x = _gated(fits, sentence, x, [1 if size is None else size for size in (None, *expected)])
            x.set_shape((None, *expected))
        if y.shape.rank is None or (y.shape.rank == 2 and y.shape[-1] is None):
            text = (
                "Invalid shape of y: expected integer labels (batch,) or (batch, 1) where no static shape is known; "
                f"give one-hot labels theirs: `y = tf.ensure_shape(y, (None, {self.classes}))`. Received: {{}}"
            )
            y = tf.reshape(_gated(tf.size(y) == sizes[0], tf.strings.format(text, tf.shape(y)), y, [1]), [-1])
        return x, y

    def _wanted_x(self) -> str:
        return f"Invalid shape of x: expected (batch, {', '.join(map(str, self.input_shape[1:]))})."


def prepare(data: Any, spec: BatchSpec) -> Batch:
    """Returns the `Batch` of checked data, the form that objectives read."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    labels = tf.argmax(y, axis=-1) if _one_hot(y, spec.classes) else tf.reshape(y, [-1])
    if weight is not None:
        weight = tf.reshape(tf.cast(weight, tf.float32), [-1])
    present = tf.ones_like(tf.cast(labels, tf.float32))
    batch = Batch(tf.cast(x, tf.float32), tf.cast(labels, tf.int32), weight, present, y)
    return _never_empty(batch) if backend.replicas() > 1 else batch


def check_direct(x: Any, y: Any, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """Returns the checked pixels `(B, H, W, C)` float32 and labels `(B,)` int32 of a direct call of an attack.

    Raises:
        ValueError: if shapes are invalid, pixels are outside the bounds, or labels are neither integers nor one-hot
            rows; in a graph `tf.errors.InvalidArgumentError`, when it runs.
    """
    x, y = _numbers(x, *PIXELS), _numbers(y, *LABELS)
    if x.shape.rank not in (None, 4):
        raise invalid("shape of x", "a batch of images, (batch, H, W, C)", x.shape)
    if y.shape.rank not in (None, 1, 2) or not x.shape[:1].is_compatible_with(y.shape[:1]):
        forms = f"a label for each of the images {x.shape}: (batch,), (batch, 1) or one-hot (batch, classes)"
        raise invalid("shape of y", forms, y.shape)
    x = tf.cast(x, tf.float32)
    one_hot = y.shape.rank == 2 and y.shape[-1] != 1
    with plain_errors():
        valid = [_pixels_in(x, bounds, ""), _labels_in(y, y.shape[-1]) if one_hot else _integers(y)]
        with tf.control_dependencies(valid):
            return tf.identity(x), tf.cast(tf.argmax(y, axis=-1) if one_hot else tf.reshape(y, [-1]), tf.int32)


def check_labels(y: Tensor, classes: int) -> Tensor:
    """Returns labels `(B,)` int32, gated on the check that they are from 0 to classes - 1; see `plain_errors`."""
    with tf.control_dependencies([_labels_in(y, classes)]):
        return tf.identity(y)


def _gated(condition: Tensor, sentence: Tensor, tensor: Tensor, shape: list[int]) -> Tensor:
    """Returns the tensor with a data dependency on a check, which raises the sentence.

    A control dependency does not suffice for checks of shapes: an optimized graph may run an operation before the
    check, and then fails with TensorFlow's own message.
    """

    def refuse() -> Tensor:
        with tf.control_dependencies([demand(condition, sentence)]):
            return tf.zeros(shape, tensor.dtype)

    return tf.cond(condition, lambda: tensor, refuse)


def _numbers(part: Any, subject: str, expected: str) -> Tensor:
    try:
        tensor = tf.convert_to_tensor(part)
    except (TypeError, ValueError) as error:
        raise invalid(subject, f"{expected} in a dense tensor", type(part).__name__) from error
    if tensor.dtype == tf.bool:
        return tf.cast(tensor, tf.int32)
    if not (tensor.dtype.is_integer or tensor.dtype.is_floating):
        raise invalid(subject, expected, f"dtype {tensor.dtype.name}")
    return tensor


def _one_hot(y: Tensor, classes: int) -> bool:
    return len(y.shape) == 2 and y.shape[-1] == classes and classes > 1


def _pixels_in(x: Tensor, bounds: Bounds, divides: str) -> tf.Operation:
    least, most = tf.reduce_min(x), tf.reduce_max(x)
    slack = SLACK * (bounds[1] - bounds[0])
    inside = (least >= bounds[0] - slack) & (most <= bounds[1] + slack)  # False for NaN
    text = f"Invalid pixels: expected values in [{bounds[0]:g}, {bounds[1]:g}].{_advice(bounds, divides)}"
    return _demand(inside | tf.equal(tf.size(x), 0), text, least, most)


def _advice(bounds: Bounds, divides: str) -> str:
    """Returns the remedies for pixels in 0..255 and for standardized pixels."""
    if tuple(bounds) != (0.0, 1.0):
        return ""
    wrapped = "tfrobust.expose(model, preprocess=keras.layers.Rescaling(255.0))"
    if divides:
        return (
            f" The classifier's layer {divides!r} shows that it takes pixels in 0..255 itself: give attacks and "
            f"evaluations bounds=(0, 255), with eps in the same units; or divide the images by 255 and take {wrapped}, "
            "or they are divided twice."
        )
    return (
        f" Divide images of 0..255 by 255. Where the model itself wants 0..255, take {wrapped} as well, or do not "
        "divide and give attacks and evaluations bounds=(0, 255). Mean and deviation go into `preprocess=` too."
    )


def _labels_in(y: Tensor, classes: int) -> tf.Operation:
    if _one_hot(y, classes):
        y = tf.cast(y, tf.float32)
        hard = tf.reduce_all((y == 0) | (y == 1)) & tf.reduce_all(tf.reduce_sum(y, axis=-1) == 1)
        text = "Invalid labels: expected one-hot rows (a single 1); soft labels are not supported."
        return _demand(hard, text, tf.reduce_min(y), tf.reduce_max(y))
    least, most = tf.reduce_min(y), tf.reduce_max(y)
    inside = _all_integers(y) & (tf.cast(least, tf.int64) >= 0) & (tf.cast(most, tf.int64) < classes)
    text = f"Invalid labels: expected integers from 0 to {classes - 1}."
    return _demand(inside | tf.equal(tf.size(y), 0), text, least, most)


def _integers(y: Tensor) -> tf.Operation:
    text = "Invalid labels: expected whole numbers or one-hot rows."
    return _demand(_all_integers(y), text, tf.reduce_min(y), tf.reduce_max(y))


def _all_integers(y: Tensor) -> Tensor:
    return tf.reduce_all(tf.equal(tf.cast(tf.cast(y, tf.int64), y.dtype), y))


def _demand(condition: Tensor, text: str, least: Tensor, most: Tensor) -> tf.Operation:
    return demand(condition, text + " Received: least {}, greatest {}", least, most)


def enough_for(replicas: int, x: Any, batch_size: int | None) -> Any:
    """Returns the data, gated on the check that the first batch has a row for each replica.

    Raises:
        ValueError: if the first batch of arrays has fewer; a dataset is checked when its first batch arrives.
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
        raise InvalidArgument(f"{text} Received: {rows}")
    return x


def _never_empty(batch: Batch) -> Batch:
    """Pads an empty local batch with one black image, which no mean counts."""
    missing = tf.maximum(1 - tf.shape(batch.x)[0], 0)

    def padded(tensor: Tensor) -> Tensor:
        return tf.pad(tensor, [[0, missing], *[[0, 0]] * (len(tensor.shape) - 1)])

    return Batch(*(None if part is None else padded(part) for part in batch))
