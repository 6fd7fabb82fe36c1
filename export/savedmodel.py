"""Writes a classifier as a SavedModel for TensorFlow Serving, which runs without Keras and tfrobust.

    tfrobust export --workdir=DIR            DIR/classifier.keras -> DIR/saved_model/1
    tfrobust export --model=FILE --out=DIR   FILE -> DIR/1

Existing versions stay; the next number is written.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from commands import cli
from commands.workdir import Workdir

if TYPE_CHECKING:
    from export.card import Facts

PRECISIONS = ("float32", "float16", "bfloat16")
CLASS_NAMES = "class_names.txt"


def export_classifier(
    classifier: Any, out: str | os.PathLike[str], facts: Facts | None = None, precision: str = "float32"
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
    megapixels.

    The version also has the class names (`assets/class_names.txt`), and in `assets.extra` requests for the warm-up, the
    model card and the hashes of all files.

    Args:
        classifier: a Keras model with named outputs, `logits` among them, on images of one size.
        out: folder of the versions, created if it is missing. TensorFlow Serving calls the model by its name.
        facts: facts for the card; None: nothing is known.
        precision: dtype of the stored kernels, "float32", "float16" or "bfloat16"; the computation is in float32.

    Returns:
        The path of the new version.

    Raises:
        InvalidArgument: if the classifier or the precision is invalid, a weight is not finite, or the facts are of
            another classifier.
        OSError: if the folder cannot be written.
    """
    import tensorflow as tf

    from export import card as _card
    from export import extra
    from export.module import Signatures
    from tfrobust.classifiers import check_classifier
    from tfrobust.utils import graph as backend
    from tfrobust.utils.errors import InvalidArgument
    from tfrobust.utils.registry import unknown

    backend.require("The export")
    check_classifier(classifier, reader="export")
    shape = classifier.input_shape[1:]
    if None in shape:
        raise InvalidArgument(
            f"Invalid classifier for the export: expected images of one size. Received: (H, W, C) = {shape}"
        )
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    facts = facts or _card.Facts()
    card = _card.card(classifier, facts, precision)
    signatures = Signatures(classifier, precision)
    functions = signatures.functions()
    with _new_version(Path(out)) as (version, beside), tempfile.TemporaryDirectory() as folder:
        names = Path(folder, CLASS_NAMES)
        names.write_text("".join(f"{name}\n" for name in card["classes"]), encoding="utf-8")
        signatures.module.class_names = tf.saved_model.Asset(str(names))
        tf.saved_model.save(signatures.module, str(beside), signatures=functions)
        (beside / extra.EXTRA).mkdir()
        _card.write(beside, card)
        extra.write_warm_up(beside, Path(out).resolve().name, functions)
        extra.write_sums(beside)
    return version


def export_workdir(
    workdir: Workdir,
    out: str | os.PathLike[str] | None = None,
    *,
    precision: str = "float32",
    unevaluated: bool = False,
) -> Path:
    """Exports a run's classifier with the facts of the run; see `export_classifier` for the rest.

    Args:
        workdir: folder of the run.
        out: folder of the versions; None: the run's own `saved_model`.
        precision: dtype of the stored kernels.
        unevaluated: whether a run without an evaluation is exported.

    Raises:
        Mistake: if the run has no evaluation and `unevaluated` is False.
    """
    config = workdir.read_config()
    _check_evaluated(workdir.evaluation, unevaluated)
    classifier = cli.load_classifier(workdir.classifier)
    from export import card as _card

    return export_classifier(classifier, out or workdir.saved_model, _card.of_run(workdir, config), precision)


def export_model(
    model: str | Path,
    out: str | os.PathLike[str],
    *,
    data: str | None = None,
    evaluation: str | Path | None = None,
    precision: str = "float32",
    unevaluated: bool = False,
) -> Path:
    """Exports the classifier of a .keras file; see `export_workdir`.

    `data` is the name of its data set, for the names of the classes; `evaluation` is the file of its report, which
    `Report.save` wrote.
    """
    cli.check_classifier_file(model)
    _check_evaluated(Path(evaluation) if evaluation else None, unevaluated)
    classifier = cli.load_classifier(model)
    import tfrobust
    from export import card as _card

    facts = _card.Facts(
        class_names=tfrobust.data.info(data).class_names if data else (),
        data={"name": data} if data else None,
        report=tfrobust.Report.load(evaluation) if evaluation else None,
    )
    return export_classifier(classifier, out, facts, precision)


def _check_evaluated(report: Path | None, unevaluated: bool) -> None:
    if not unevaluated and (report is None or not report.is_file()):
        raise cli.Mistake(
            "Expected an evaluation of the classifier (tfrobust evaluate writes one; beside --model it is "
            f"given as --evaluation=FILE.json), or --unevaluated. Received: {report or 'no evaluation'}"
            + ("" if report is None else ", where no file is")
        )


@contextlib.contextmanager
def _new_version(out: Path) -> Iterator[tuple[Path, Path]]:
    """Yields the folder of the next version and the one beside it that becomes it at the end of the block.

    Exports to one folder come one after the other, so that what is incomplete there was left by one that was killed.
    """
    from tfrobust.utils.files import locked, replacing, sweep

    with locked(out) as alone:
        if alone:
            sweep(out)
        taken = (int(path.name) for path in out.iterdir() if path.name.isdecimal())
        version = out / str(max(taken, default=0) + 1)
        with replacing(version) as beside:
            yield version, beside


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("workdir", None, "Folder of a training run; its classifier.keras is exported.")
    flags.DEFINE_string("model", None, "A classifier saved as FILE.keras, in place of --workdir.")
    flags.DEFINE_string("out", None, "Folder of the versions. Default with --workdir: WORKDIR/saved_model.")
    flags.DEFINE_string("data", None, "Data set of --model, which has the names of the classes; default: numbers.")
    flags.DEFINE_string("evaluation", None, "Report of --model, FILE.json; a run has its own.")
    flags.DEFINE_bool("unevaluated", False, "Export it without an evaluation; its card says so.")
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "Type of the stored kernels; computing stays float32.")


def main(_: list[str]) -> None:
    """Exports the classifier that the flags name and prints the path of the version."""
    given = flags.FLAGS
    cli.check_one_of(workdir=given.workdir, model=given.model)
    if given.model and not given.out:
        raise cli.Misuse("Nowhere to export to: expected --out=DIR beside --model=FILE. Received: no --out")
    if given.workdir and (given.data or given.evaluation):
        received = f"--data={given.data}, --evaluation={given.evaluation}"
        raise cli.Misuse(f"A run knows its data and its evaluation: expected neither beside --workdir. {received}")
    options = {"precision": given.precision, "unevaluated": given.unevaluated}
    if given.workdir:
        print(export_workdir(Workdir(given.workdir), given.out, **options))
    else:
        print(export_model(given.model, given.out, data=given.data, evaluation=given.evaluation, **options))


if __name__ == "__main__":
    cli.run(main, define_flags)
