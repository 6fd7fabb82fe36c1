"""Writes a classifier as a file for phones and small devices, which LiteRT (TensorFlow Lite) runs.

    tfrobust export-litert --workdir=DIR                     DIR/classifier.keras -> DIR/litert/1/model.tflite
    tfrobust export-litert --workdir=DIR --precision=int8    with integer kernels and activations

The file is evaluated by itself, and its model card has these figures. Existing versions stay; the next number is
written. Needs `pip install tfrobust[deploy]`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import cli
from export import command
from export.version import Format, Network, write_version

if TYPE_CHECKING:
    import numpy as np

    from export.card import Facts
    from tfrobust.evaluation import Report

FILE = "model.tflite"


def _write(network: Network) -> None:
    import tensorflow as tf

    from export.module import Signatures

    signatures = Signatures(network.classifier, guarded=network.samples is None)
    function = signatures.logits()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], signatures.module)
    if network.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if network.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if network.samples is not None:
        converter.representative_dataset = functools.partial(_calibration, network.samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.float32
    (network.folder / FILE).write_bytes(converter.convert())


def _calibration(samples: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yields the samples one by one; two values of the first are black and white, so that uint8 is pixels * 255."""
    for number, image in enumerate(samples):
        image = image[None].copy()
        if number == 0:
            image.flat[:2] = 0.0, 1.0
        yield [image]


FORMAT = Format(
    "litert",
    {
        "float32": "the classifier's own",
        "float16": "kernels in 16 bits, half the size",
        "dynamic": "kernels in 8 bits, activations in float32, a quarter of the size",
        "int8": "kernels and activations in 8 bits, input uint8 0..255",
    },
    _write,
    sampled=("int8",),
)


def export_classifier(
    classifier: Any,
    out: str | os.PathLike[str],
    facts: Facts | None = None,
    precision: str = "float32",
    *,
    samples: np.ndarray | None = None,
    measure: Callable[[Path], Report] | None = None,
) -> Path:
    """Writes `out/N/model.tflite`, N the next free version number, in one atomic step.

    The file has one input and one output, `logits` `(batch, classes)` float32. The input is `(batch, H, W, C)` pixels,
    float32 in [0, 1]; an image with a pixel that is NaN or outside gets logits of NaN. With "int8" it is uint8, 0..255.
    The batch is 1 unless the interpreter resizes it.

    The version also has the class names (`assets/class_names.txt`), and in `assets.extra` the model card and the hashes
    of all files.

    Args:
        classifier: A Keras model with named outputs, `logits` among them, on images of one size.
        out: Folder of the versions, created if it is missing.
        facts: Facts for the card; None: nothing is known.
        precision: "float32", "float16" (kernels in 16 bits), "dynamic" (kernels in 8 bits), or "int8" (all in 8 bits).
        samples: For "int8", images `(N, H, W, C)` in [0, 1] from which the ranges of the activations are taken, about
            200 of the training data.
        measure: See `export.version.write_version`.

    Returns:
        The path of the new version.

    Raises:
        InvalidArgument: if the classifier, the precision or the samples are invalid, or the facts are of another
            classifier.
        OSError: if the folder cannot be written.
    """
    return write_version(FORMAT, classifier, out, facts, precision, samples=samples, measure=measure)


export_workdir = functools.partial(command.export_workdir, FORMAT)
export_model = functools.partial(command.export_model, FORMAT)
define_flags = functools.partial(command.define_flags, FORMAT)
main = functools.partial(command.main, FORMAT)


if __name__ == "__main__":
    cli.run(main, define_flags)
