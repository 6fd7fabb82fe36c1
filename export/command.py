"""The command of a format, which exports the classifier of a run or of a .keras file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from commands import cli
from commands.workdir import Workdir
from export.version import Format, write_version

if TYPE_CHECKING:
    import numpy as np

    from tfrobust.evaluation import Report

SAMPLES = 200  # images of the training split by which integers are scaled
IMAGES = 500  # images of the test split on which a file is evaluated


def export_workdir(
    form: Format,
    workdir: Workdir,
    out: str | os.PathLike[str] | None = None,
    *,
    precision: str = "float32",
    unevaluated: bool = False,
    images: int = IMAGES,
) -> Path:
    """Exports a run's classifier with the facts of the run; see `write_version` for the rest.

    Args:
        form: The format.
        workdir: Folder of the run.
        out: Folder of the versions; None: the run's own.
        precision: One of the format's.
        unevaluated: Whether a run without an evaluation is exported; a file of it is not evaluated either.
        images: Number of the test split's first images on which a file is evaluated.

    Raises:
        Mistake: if the run has no evaluation and `unevaluated` is False.
    """
    config = workdir.read_config()
    _check_evaluated(workdir.evaluation, unevaluated)
    classifier = cli.load_classifier(workdir.classifier)
    from export import card as _card

    facts = _card.of_run(workdir, config)
    return _export(form, classifier, out or workdir.path / form.folder, facts, precision, images)


def export_model(
    form: Format,
    model: str | Path,
    out: str | os.PathLike[str],
    *,
    data: str | None = None,
    evaluation: str | Path | None = None,
    precision: str = "float32",
    unevaluated: bool = False,
    images: int = IMAGES,
) -> Path:
    """Exports the classifier of a .keras file; see `export_workdir`.

    `data` is the name of its data set, which has the names of the classes and the images for samples and evaluation;
    `evaluation` is the file of its report, which `Report.save` wrote.
    """
    cli.check_classifier_file(model)
    _check_evaluated(Path(evaluation) if evaluation else None, unevaluated)
    if data is None and (precision in form.sampled or (form.measured and not unevaluated)):
        raise cli.Misuse(
            f"Expected --data=NAME, whose images scale or evaluate the file. Received: --model={model} alone"
        )
    classifier = cli.load_classifier(model)
    import tfrobust
    from export import card as _card

    facts = _card.Facts(
        class_names=tfrobust.data.info(data).class_names if data else (),
        data={"name": data} if data else None,
        report=tfrobust.Report.load(evaluation) if evaluation else None,
    )
    return _export(form, classifier, out, facts, precision, images)


def _export(form: Format, classifier: Any, out: Any, facts: Any, precision: str, images: int) -> Path:
    samples, measure = None, None
    if precision in form.sampled:
        samples = _first(facts.data, "train", SAMPLES)[0]
    if form.measured and facts.report is not None:
        measure = _measuring(classifier, facts, images)
    return write_version(form, classifier, out, facts, precision, samples=samples, measure=measure)


def _first(data: Mapping[str, Any], split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    import tfrobust
    from commands.build import arrays_of, first_images

    return arrays_of(first_images(tfrobust.data.load(split=split, **data), count))


def _measuring(classifier: Any, facts: Any, images: int) -> Callable[[Path], Report]:
    """Returns the function that evaluates a file in the threat model of the classifier's own evaluation."""

    def measure(folder: Path) -> Report:
        import tfrobust

        file = tfrobust.classifiers.open(folder, source=classifier)
        ball = {"eps": facts.report.eps, "norm": facts.report.norm, "seed": facts.report.seed}
        return tfrobust.evaluate(file, _first(facts.data, "test", images), attacks="shipped", **ball)

    return measure


def _check_evaluated(report: Path | None, unevaluated: bool) -> None:
    if not unevaluated and (report is None or not report.is_file()):
        raise cli.Mistake(
            "Expected an evaluation of the classifier (tfrobust evaluate writes one; beside --model it is "
            f"given as --evaluation=FILE.json), or --unevaluated. Received: {report or 'no evaluation'}"
            + ("" if report is None else ", where no file is")
        )


def define_flags(form: Format) -> None:
    """Defines the flags of the command of a format."""
    flags.DEFINE_string("workdir", None, "Folder of a training run; its classifier.keras is exported.")
    flags.DEFINE_string("model", None, "A classifier saved as FILE.keras, in place of --workdir.")
    flags.DEFINE_string("out", None, f"Folder of the versions. Default with --workdir: WORKDIR/{form.folder}.")
    flags.DEFINE_string("data", None, "Data set of --model, which has the names of the classes; default: numbers.")
    flags.DEFINE_string("evaluation", None, "Report of --model, FILE.json; a run has its own.")
    flags.DEFINE_bool("unevaluated", False, "Export it without an evaluation; its card says so.")
    precisions = "; ".join(f"{name}: {meaning}" for name, meaning in form.precisions.items())
    flags.DEFINE_enum("precision", "float32", list(form.precisions), f"{precisions}.")
    if form.measured:
        flags.DEFINE_integer("images", IMAGES, "Test images on which the file is evaluated.", lower_bound=1)


def main(form: Format, _: list[str]) -> None:
    """Exports the classifier that the flags name and prints the path of the version."""
    given = flags.FLAGS
    cli.check_one_of(workdir=given.workdir, model=given.model)
    if given.model and not given.out:
        raise cli.Misuse("Nowhere to export to: expected --out=DIR beside --model=FILE. Received: no --out")
    if given.workdir and (given.data or given.evaluation):
        received = f"--data={given.data}, --evaluation={given.evaluation}"
        raise cli.Misuse(f"A run knows its data and its evaluation: expected neither beside --workdir. {received}")
    options = {"precision": given.precision, "unevaluated": given.unevaluated}
    if form.measured:
        options["images"] = given.images
    if given.workdir:
        print(export_workdir(form, Workdir(given.workdir), given.out, **options))
    else:
        options |= {"data": given.data, "evaluation": given.evaluation}
        print(export_model(form, given.model, given.out, **options))
