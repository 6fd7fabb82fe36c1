"""Gradient maps and attention of small runs, beside the papers': `python -m benchmarks.interpretation --runs=DIR`.

DIR holds the runs of `trainers/configs/interpretation.py`, each in a folder named as its row, and DATA_judge, the row
DATA_plain with another seed. Writes --out; `--write=FILE.md` measures nothing and puts the tables of --out into a
document, between its two marks.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import documents
from commands import cli
from commands.workdir import Workdir
from tfrobust.utils.html import interval
from trainers.configs.interpretation import DATA, METHODS
from trainers.interpret import interpret_workdirs

BEGIN = "<!-- figures: python -m benchmarks.interpretation -->"
SECTIONS = ("gradient_map_test", "relevance")


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("runs", "runs/interpretation", "Folder of the runs.")
    flags.DEFINE_list("data", list(DATA), "Data sets of the runs.")
    flags.DEFINE_integer("images", 1000, "Number of the first images of each split.", lower_bound=2)
    documents.define_flags("interpretation")


def measured() -> dict[str, Any]:
    """Returns all figures and their origin."""
    figures = {name: _of_data(Path(flags.FLAGS.runs), name, flags.FLAGS.images) for name in flags.FLAGS.data}
    return {**documents.origin("benchmarks.interpretation"), "data": figures}


def _of_data(runs: Path, data: str, images: int) -> dict[str, Any]:
    found = [Workdir(runs / f"{data}_{method}") for method in METHODS]
    workdirs = [workdir for workdir in found if workdir.classifier.exists()]
    study = interpret_workdirs(workdirs, Workdir(runs / f"{data}_judge"), images, sections=SECTIONS)
    reports = {workdir.path.name: json.loads(workdir.evaluation.read_text()) for workdir in workdirs}
    accuracies = ("clean_accuracy", "robust_accuracy", "eps", "images")
    return {
        "epochs": workdirs[0].read_config()["epochs"],
        "evaluations": {name: {key: report[key] for key in accuracies} for name, report in reports.items()},
        "study": study.numbers,
    }


def tables(results: Mapping[str, Any]) -> str:
    """Returns the tables of all data sets."""
    parts = [part for data, found in results["data"].items() for part in _tables(data, found)]
    return "\n\n".join([*parts, documents.signature(results)])


def _tables(data: str, found: Mapping[str, Any]) -> Iterator[str]:
    gradients, relevance = (found["study"][section] for section in SECTIONS)
    judge = {split: gradients[split]["settings"]["judge_accuracy"] for split in ("train", "test")}
    images = {split: gradients[split]["images"] for split in ("train", "test")}
    yield f"### {data}: the judge labels gradient maps"
    yield (
        f"{images['train']} training and {images['test']} test images, {found['epochs']} epochs. The judge is right on "
        f"{judge['train']:.1%} and {judge['test']:.1%} of the images themselves."
    )
    heads = ("clean", "PGD-20", "clipped, train", "clipped, test", "raw, test", "clipped and negated, test")
    rows = []
    for name, report in found["evaluations"].items():
        train, test = (gradients[split]["figures"][name] for split in ("train", "test"))
        shares = (report["clean_accuracy"], report["robust_accuracy"], train["clipped"])
        tested = [_with_interval(test[form], images["test"]) for form in ("clipped", "raw", "clipped, negated")]
        rows.append([f"`{name}`", *(f"{share:.1%}" for share in shares), *tested])
    yield documents.table(("classifier", *heads), rows)
    yield f"### {data}: attention against robustness"
    rows = []
    for name, splits in relevance.items():
        for block, test in splits["test"].items():
            values = (splits["train"][block], test)
            correlations = [f"{v['correlation']:+.2f} [{v['low']:+.2f}, {v['high']:+.2f}]" for v in values]
            attention = test["attention"]
            rows.append([f"`{name}`", f"{len(attention)}", *correlations, f"{attention[0]:.3f}, {attention[-1]:.3f}"])
    correlation = ("rank correlation, train", "test")
    ends = "attention of the first and the last rank, test"
    yield documents.table(("classifier", "positions", *correlation, ends), rows)


def _with_interval(share: float, count: int) -> str:
    low, high = interval(share, count)[:2]
    return f"{share:.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    cli.run(lambda _: documents.publish(BEGIN, measured, tables), define_flags)
