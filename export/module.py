"""A classifier as a TensorFlow module of its weights and signatures, without Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tensorflow as tf

from export import pictures
from tfrobust.utils.types import Tensor

Outputs = Mapping[str, Tensor]


class Signatures:
    """The signatures of a classifier for TensorFlow Serving; see `export.savedmodel.export_classifier`.

    Kernels are stored in a precision and cast back before the computation; vectors are stored as they are, because they
    are small and the statistics of a normalization need the precision. The `tf.Module` of the weights does not contain
    the Keras model, with which a SavedModel would store every variable twice, and objects that only Keras can read.

    Where a graph is `guarded`, an image with a pixel that is NaN or outside [0, 1] gets logits of NaN: converters drop
    assertions, and an image of 0..255 would get a wrong label with high probability.
    """

    def __init__(self, classifier: Any, precision: str = "float32", guarded: bool = True) -> None:
        self._guarded = guarded
        self._classifier = classifier
        self._shape = tuple(classifier.input_shape[1:])
        self._trainable = [_stored(v, precision) for v in classifier.trainable_variables]
        self._others = [_stored(v, precision) for v in classifier.non_trainable_variables]
        self.module = tf.Module(name="classifier")
        self.module.weights = [*self._trainable, *self._others]
        # Traced once for all signatures; each of them computes only the outputs that it reads.
        self._outputs = _signature(self._pixels(tf.float32), self._call)

    def functions(self, encoded_too: bool = True) -> dict[str, Callable[..., Outputs]]:
        """Returns them by name: `explain` if there are maps, `predict_bytes` if asked for and for 1 or 3 channels."""
        pixels, whole = self._pixels(tf.float32), self._pixels(tf.uint8)
        encoded = tf.TensorSpec((None,), tf.string, name="image_bytes")
        found = {
            "serving_default": _signature(pixels, lambda pixels: self._labelled(self._outputs(_checked(pixels)))),
            "logits": _signature(pixels, lambda pixels: {"logits": _logits(self._outputs(_checked(pixels)))}),
            "uint8": _signature(whole, lambda pixels: self._labelled(self._outputs(_fractions(_some(pixels))))),
        }
        if encoded_too and self._shape[-1] in pictures.CHANNELS:
            decode = partial(pictures.decode, shape=self._shape)
            found["predict_bytes"] = _signature(
                encoded, lambda image_bytes: self._labelled(self._outputs(_fractions(decode(_some(image_bytes)))))
            )
        if {"attention", "cam"} & set(self._classifier.output):
            found["explain"] = _signature(pixels, lambda pixels: self._explained(self._outputs(_checked(pixels))))
        return found

    def logits(self) -> Any:
        """Returns the graph `pixels` float32 -> {"logits"} for converters, without assertions."""
        return _signature(self._pixels(tf.float32), lambda pixels: {"logits": _logits(self._outputs(pixels))})

    def _pixels(self, dtype: tf.DType) -> tf.TensorSpec:
        return tf.TensorSpec((None, *self._shape), dtype, name="pixels")

    def _call(self, pixels: Tensor) -> Outputs:
        given = [
            [tf.cast(stored, variable.dtype) for stored, variable in zip(kept, variables, strict=True)]
            for kept, variables in (
                (self._trainable, self._classifier.trainable_variables),
                (self._others, self._classifier.non_trainable_variables),
            )
        ]
        outputs = self._classifier.stateless_call(*given, pixels, training=False)[0]
        return {**outputs, "logits": _guarded(pixels, outputs["logits"])} if self._guarded else outputs

    def _labelled(self, outputs: Outputs) -> Outputs:
        logits = _logits(outputs)
        known = tf.logical_not(tf.reduce_any(tf.math.is_nan(logits), axis=-1))
        label = tf.where(known, tf.argmax(logits, axis=-1), -1)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits), "label": label}

    def _explained(self, outputs: Outputs) -> Outputs:
        labelled = self._labelled(outputs)
        maps = {f"attention_{block}": weights for block, weights in outputs.get("attention", {}).items()}
        if "cam" in outputs:
            maps["cam"] = tf.gather(outputs["cam"], tf.maximum(labelled["label"], 0), axis=3, batch_dims=1)
        return {**labelled, **{name: self._upsampled(values) for name, values in maps.items()}}

    def _upsampled(self, values: Tensor) -> Tensor:
        """Returns maps `(batch, h, w)` resized to the images, bilinearly."""
        return tf.image.resize(tf.cast(values[..., None], tf.float32), self._shape[:2])[..., 0]


def _stored(variable: Any, precision: str) -> tf.Variable:
    value = tf.convert_to_tensor(variable)
    value = tf.cast(value, precision) if value.dtype.is_floating and value.shape.rank > 1 else value
    return tf.Variable(value, trainable=False, name=variable.path)


def _signature(spec: tf.TensorSpec, function: Callable[..., Outputs]) -> Callable[..., Outputs]:
    # TensorFlow Serving leaves the shape to the graph, which would answer for pictures of another size.
    return tf.function(lambda batch: function(tf.ensure_shape(batch, spec.shape)), [spec], autograph=False)


def _logits(outputs: Outputs) -> Tensor:
    return tf.cast(outputs["logits"], tf.float32)


def _fractions(pixels: Tensor) -> Tensor:
    return tf.cast(pixels, tf.float32) / 255.0


def _some(batch: Tensor) -> Tensor:
    some = tf.debugging.Assert(tf.shape(batch)[0] > 0, ["Expected at least one image. Received an empty batch"])
    with tf.control_dependencies([some]):
        return tf.identity(batch)


def _guarded(pixels: Tensor, logits: Tensor) -> Tensor:
    """Returns the logits, and NaN for images with pixels that are NaN or outside [0, 1]."""
    inside = tf.reduce_all((pixels >= 0) & (pixels <= 1), axis=(1, 2, 3))  # false for NaN
    return tf.where(inside[:, None], logits, tf.cast(float("nan"), logits.dtype))


def _checked(pixels: Tensor) -> Tensor:
    """Returns the pixels, and fails if they are NaN or outside [0, 1], such as pixels of 0..255."""
    inside = tf.reduce_all((pixels >= 0) & (pixels <= 1))  # false for NaN
    message = "Expected pixels in [0, 1]. Received values from, to:"
    right = tf.debugging.Assert(inside, [message, tf.reduce_min(pixels), tf.reduce_max(pixels)])
    with tf.control_dependencies([right]):
        return _some(pixels)
