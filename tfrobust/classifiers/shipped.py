"""Classifiers as they are shipped: files of LiteRT and ONNX, SavedModels, and models on a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfrobust.classifiers import runtimes
from tfrobust.classifiers.checks import check_classifier
from tfrobust.classifiers.runtimes import Runtime
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument, invalid
from tfrobust.utils.types import Tensor


class Shipped:
    """A classifier in a file or on a server, with the logits that its runtime computes.

    It is called as `(pixels (B, H, W, C)) -> {"logits": (B, classes)}`, also in a graph. With a `source`, the float
    classifier that it was made of, its gradients are those of the source at the same pixels (a straight-through
    estimate, Athalye et al. 2018, section 4.1). A SavedModel has its own gradients; any other file without a source has
    none.

    Args:
        name: Where it was opened.
        runtime: The network.
        source: A Keras model with named outputs, or None.
        digest: SHA-256 of its files; "" for a model on a server.
    """

    def __init__(self, name: str, runtime: Runtime, source: keras.Model | None = None, digest: str = "") -> None:
        self.name, self.digest, self.source = name, digest, source
        self.classes = runtime.classes
        self.input_shape = (None, *runtime.input_shape)
        self._runtime = runtime
        if source is not None:
            self._check_source(source)

    @property
    def differentiable(self) -> bool:
        """Whether it has gradients of its own."""
        return self._runtime.in_graph

    def __call__(self, pixels: Tensor, training: bool = False) -> dict[str, Tensor]:
        """Returns {"logits": (B, classes)} of pixels `(B, H, W, C)`; it is always in inference mode."""
        pixels = tf.cast(pixels, tf.float32)
        if not pixels.shape.is_compatible_with(self.input_shape):
            height, width, channels = self.input_shape[1:]
            raise invalid(f"images for {self.name}", f"shape (batch, {height}, {width}, {channels})", pixels.shape)
        if self._runtime.in_graph:
            logits = self._runtime.logits(pixels)
        else:
            logits = tf.numpy_function(self._runtime.logits, [pixels], tf.float32, stateful=False)
        logits = tf.ensure_shape(logits, (pixels.shape[0], self.classes))
        if self.source is not None and not self._runtime.in_graph:
            float_logits = self.source(pixels, training=False)["logits"]
            logits = backend.with_gradient_of(logits, tf.cast(float_logits, tf.float32))
        return {"logits": logits}

    def __repr__(self) -> str:
        return f"tfrobust.classifiers.open({self.name!r})"

    def _check_source(self, source: Any) -> None:
        check_classifier(source, reader="straight-through gradient")
        theirs = (*source.input_shape[1:], source.output["logits"].shape[-1])
        ours = (*self.input_shape[1:], self.classes)
        if theirs != ours:
            raise invalid("source", f"a classifier of the same (H, W, C, classes) {ours}", theirs)


def open(
    path: str | os.PathLike[str], *, source: keras.Model | str | os.PathLike[str] | None = None, timeout: float = 10.0
) -> keras.Model | Shipped:
    """Returns the classifier in a file, in an exported version, or on a server, for `tfrobust.evaluate` and others.

    | path | runtime | needs |
    |---|---|---|
    | `classifier.keras` | Keras; the model itself is returned | |
    | `saved_model/1`, or `saved_model` for its latest version | TensorFlow | |
    | `model.tflite` | LiteRT | `pip install tfrobust[deploy]` |
    | `model.onnx` | ONNX Runtime; images as `(B, H, W, C)` or `(B, C, H, W)` | `pip install tfrobust[deploy]` |
    | `grpc://HOST:PORT/NAME`, `http://HOST:PORT/NAME`, `https://...` | TensorFlow Serving, or `export.serve` | |

    The file has to take images of one size with pixels in [0, 1], which are rounded to its own integers if it is
    quantized, and to return logits `(B, classes)`, at least two. The output "logits" is read if there is one; a file
    with a single output may return probabilities, whose logarithms are taken as logits.

    Args:
        path: Where the classifier is.
        source: The float classifier that the file was made of, a Keras model or the path of one; attacks follow its
            gradients. None: a file of LiteRT or ONNX, and a model on a server, have no gradients.
        timeout: Seconds until a request to a server is given up.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ImportError: if the runtime is not installed.
        ValueError: if the file is damaged, of another kind, or not a classifier of images.

    Example:

    >>> classifier = tfrobust.models.get("digits")
    >>> import tempfile
    >>> file = os.path.join(tempfile.mkdtemp(), "classifier.keras")
    >>> classifier.save(file)
    >>> tfrobust.classifiers.open(file).name == classifier.name
    True
    """
    text = os.fspath(path)
    given = open(source) if isinstance(source, (str, os.PathLike)) else source
    if "://" in text:
        return Shipped(text, runtimes.server(text, timeout), given)
    file = runtimes.find(Path(text))
    if file.suffix == ".keras":
        return keras.models.load_model(file, compile=False)
    opener = runtimes.OPENERS.get(file.suffix)
    if opener is None:
        endings = ", ".join([".keras", *runtimes.OPENERS])
        raise InvalidArgument(f"Invalid file: expected one that ends in {endings}, or an export. Received: {file}")
    return Shipped(text, opener(file), given, runtimes.digest(file))
