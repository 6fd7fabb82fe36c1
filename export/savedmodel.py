"""Writes a classifier as a SavedModel that TensorFlow Serving loads; neither Keras nor tfrobust is needed to run it.

    python -m export.savedmodel --workdir=DIR            DIR/classifier.keras -> DIR/saved_model/1
    python -m export.savedmodel --model=FILE --out=DIR   FILE -> DIR/1

An existing version stays: the next number is written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from absl import flags

from trainers import _cli


def export_classifier(classifier: Any, out: str | os.PathLike[str]) -> Path:
    """Writes `out/N`, N the next free version number: a SavedModel of the classifier, whole or not at all.

    Its signature `serving_default` takes `pixels` `(batch, H, W, C)` float32, fractions of the range [0, 1], and gives
    `logits` and `probabilities` = softmax(logits), `(batch, classes)` float32, and `label` = argmax(logits), `(batch,)`
    int64. TensorFlow Serving sees the version only when it is complete.

    Args:
        classifier: a Keras model with named outputs, `logits` among them.
        out: folder of the versions; made where it is missing.

    Returns:
        The path of the new version.

    Raises:
        ValueError: for a model without named outputs.
        OSError: where nothing can be written.
    """
    import tensorflow as tf

    from tfrobust._files import replacing
    from tfrobust.classifiers import check_classifier

    check_classifier(classifier, reader="export")
    pixels = tf.TensorSpec(classifier.input_shape, tf.float32, name="pixels")

    @tf.function(input_signature=[pixels], autograph=False)
    def serve(pixels: Any) -> dict[str, Any]:
        logits = tf.cast(classifier(pixels, training=False)["logits"], tf.float32)
        return {"logits": logits, "probabilities": tf.nn.softmax(logits), "label": tf.argmax(logits, axis=-1)}

    # A plain module of the weights: of Keras' own objects a SavedModel would keep what only Keras can read.
    module = tf.Module()
    module.weights = [variable.value for variable in classifier.variables]
    module.serve = serve
    version = _next_version(Path(out))
    with replacing(version) as beside:
        tf.saved_model.save(module, str(beside), signatures={"serving_default": serve})
    return version


def _next_version(out: Path) -> Path:
    taken = [int(path.name) for path in out.iterdir() if path.name.isdecimal()] if out.is_dir() else []
    return out / str(max(taken, default=0) + 1)


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("workdir", None, "Folder of a training run; its classifier.keras is exported.")
    flags.DEFINE_string("model", None, "A classifier saved as FILE.keras.")
    flags.DEFINE_string("out", None, "Folder of the versions. Default with --workdir: WORKDIR/saved_model.")


def main(_: list[str]) -> None:
    """Exports what the flags name and prints the path of the version."""
    workdir, model, out = (flags.FLAGS[name].value or "" for name in ("workdir", "model", "out"))
    if bool(workdir) == bool(model):
        received = "both" if model else "neither"
        raise _cli.Misuse(f"Nothing to export: expected one of --workdir=DIR and --model=FILE. Received: {received}")
    if model and not out:
        raise _cli.Misuse("Nowhere to export to: expected --out=DIR beside --model=FILE. Received: no --out")
    path = Path(model or Path(workdir, "classifier.keras"))
    print(export_classifier(_cli.load_classifier(path), out or Path(workdir, "saved_model")))


if __name__ == "__main__":
    _cli.run(main, define_flags)
