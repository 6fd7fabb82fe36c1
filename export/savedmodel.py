"""Writes a classifier as a SavedModel for TensorFlow Serving, which runs without Keras and tfrobust.

    tfrobust export --workdir=DIR            DIR/classifier.keras -> DIR/saved_model/1
    tfrobust export --model=FILE --out=DIR   FILE -> DIR/1

Existing versions stay; the next number is written.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import cli
from export import command
from export.version import CLASS_NAMES, Format, Network, write_version

if TYPE_CHECKING:
    from export.card import Facts


def _write(network: Network, pictures: bool = True) -> None:
    import tensorflow as tf

    from export import extra
    from export.module import Signatures

    signatures = Signatures(network.classifier, network.precision)
    functions = signatures.functions(pictures)
    names = network.folder / CLASS_NAMES
    # TensorFlow makes the folder `assets` of the files that a module names, and copies them into it.
    kept = names.rename(network.folder / names.name)
    signatures.module.class_names = tf.saved_model.Asset(str(kept))
    tf.saved_model.save(signatures.module, str(network.folder), signatures=functions)
    kept.unlink()
    extra.write_warm_up(network.folder, network.name, functions)


STORED = "type of the stored kernels; computing stays float32"
FORMAT = Format("saved_model", dict.fromkeys(("float32", "float16", "bfloat16"), STORED), _write, measured=False)


def export_classifier(
    classifier: Any,
    out: str | os.PathLike[str],
    facts: Facts | None = None,
    precision: str = "float32",
    *,
    pictures: bool = True,
) -> Path:
    """Writes a SavedModel of the classifier to `out/N`, N the next free version number, in one atomic step.

    Its signatures take a batch of at least one image:

    | signature | input | outputs |
    |---|---|---|
    | `serving_default` | `pixels` `(batch, H, W, C)` float32 in [0, 1] | `logits`, `probabilities`, `label` |
    | `uint8` | `pixels` `(batch, H, W, C)` uint8 in 0..255 | the same |
    | `predict_bytes` | `image_bytes` `(batch,)` string, PNG or JPEG | the same |
    | `logits` | `pixels` float32 | `logits` |
    | `explain` | `pixels` float32 | the same as the first, and maps `(batch, H, W)` in the size of the image |

    `logits` and `probabilities` = softmax(logits) are `(batch, classes)` float32, `label` = argmax(logits) is
    `(batch,)` int64. `explain` exists if the network has maps: `attention_BLOCK` for every block with attention, and
    `cam`, the class activation map of the label. `predict_bytes` exists for images with 1 or 3 channels. Pixels that
    are NaN or outside [0, 1] are refused, and so are pictures that are cut short, of another format, or of more than 16
    megapixels. Where a converter drops the check, such images get logits of NaN and the label -1.

    The version also has the class names (`assets/class_names.txt`), and in `assets.extra` requests for the warm-up, the
    model card and the hashes of all files.

    Args:
        classifier: a Keras model with named outputs, `logits` among them, on images of one size.
        out: folder of the versions, created if it is missing. TensorFlow Serving calls the model by its name.
        facts: facts for the card; None: nothing is known.
        precision: dtype of the stored kernels, "float32", "float16" or "bfloat16"; the computation is in float32.
        pictures: whether to write `predict_bytes`. Converters to other formats take all signatures unless they are told
            which, and LiteRT decodes no pictures.

    Returns:
        The path of the new version.

    Raises:
        InvalidArgument: if the classifier or the precision is invalid, a weight is not finite, or the facts are of
            another classifier.
        OSError: if the folder cannot be written.
    """
    form = FORMAT if pictures else FORMAT._replace(write=functools.partial(_write, pictures=False))
    return write_version(form, classifier, out, facts, precision)


export_workdir = functools.partial(command.export_workdir, FORMAT)
export_model = functools.partial(command.export_model, FORMAT)
define_flags = functools.partial(command.define_flags, FORMAT)
main = functools.partial(command.main, FORMAT)


if __name__ == "__main__":
    cli.run(main, define_flags)
