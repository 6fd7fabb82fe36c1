"""Writes a classifier as a file of ONNX, which ONNX Runtime and many others run.

    tfrobust export-onnx --workdir=DIR            DIR/classifier.keras -> DIR/onnx/1/model.onnx

The file is evaluated by itself, and its model card has these figures. Existing versions stay; the next number is
written. Needs `pip install tfrobust[deploy]`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import cli
from export import command
from export.version import Format, Network, write_version

if TYPE_CHECKING:
    from export.card import Facts
    from tfrobust.evaluation import Report

FILE = "model.onnx"
OPSET = 17  # of ONNX 1.12, 2022, which runtimes on devices know


def _write(network: Network) -> None:
    from export.module import Signatures
    from tfrobust.utils.optional import imported

    convert = imported("tf2onnx.convert", "deploy", "The export to ONNX")
    function = Signatures(network.classifier).logits()
    convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET, output_path=str(network.folder / FILE)
    )


FORMAT = Format("onnx", {"float32": "the classifier's own"}, _write)


def export_classifier(
    classifier: Any,
    out: str | os.PathLike[str],
    facts: Facts | None = None,
    *,
    measure: Callable[[Path], Report] | None = None,
) -> Path:
    """Writes `out/N/model.onnx`, N the next free version number, in one atomic step.

    Its input `pixels` is `(batch, H, W, C)` float32 in [0, 1], its output `logits` `(batch, classes)` float32. An image
    with a pixel that is NaN or outside gets logits of NaN. The version has the same further files as one of
    `export.litert.export_classifier`, whose arguments and errors these are.
    """
    return write_version(FORMAT, classifier, out, facts, measure=measure)


export_workdir = functools.partial(command.export_workdir, FORMAT)
export_model = functools.partial(command.export_model, FORMAT)
define_flags = functools.partial(command.define_flags, FORMAT)
main = functools.partial(command.main, FORMAT)


if __name__ == "__main__":
    cli.run(main, define_flags)
