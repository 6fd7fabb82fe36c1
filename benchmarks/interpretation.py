"""Gradient maps and attention of small runs, beside the papers': `python -m benchmarks.interpretation --runs=DIR`.

DIR holds the runs of `trainers/configs/interpretation.py`, each in a folder named as its row, and DATA_judge, the row
DATA_plain with another seed. Writes --out; `--write=FILE.md` measures nothing and puts the tables of --out into a
document, between its two marks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import documents
from commands import cli
from commands.workdir import Workdir
from tfrobust.utils.files import replacing
from tfrobust.utils.html import interval
from trainers.configs.interpretation import DATA, METHODS
from trainers.interpret import interpret_workdirs

BEGIN = "<!-- figures: python -m benchmarks.interpretation -->"
SECTIONS = ("gradient_map_test", "relevance")


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_string("runs", "runs/interpretation", "Folder of the runs.")
    flags.DEFINE_list("data", list(DATA), "Whose runs are looked at.")
    flags.DEFINE_integer("images", 1000, "How many of each split's first images.", lower_bound=2)
    flags.DEFINE_string("out", "benchmarks/results/interpretation.json", "Where the figures are written.")
    flags.DEFINE_string("write", None, "A document that gets the tables of --out; nothing is measured.")


def measured(runs: Path, names: list[str], images: int) -> dict[str, Any]:
    """Returns all figures, with what they were measured on.

    Args:
        runs: folder of the runs.
        names: of data sets.
        images: of each split.
    """
    return {
        **documents.origin("benchmarks.interpretation"),
        "data": {name: _of_data(runs, name, images) for name in names},
    }


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
    parts = ["\n".join(_table(data, found)) for data, found in results["data"].items()]
    return "\n\n".join([*parts, documents.signature(results)])


def _table(data: str, found: Mapping[str, Any]) -> Iterator[str]:
    gradients, relevance = (found["study"][section] for section in SECTIONS)
    judge = {split: gradients[split]["settings"]["judge_accuracy"] for split in ("train", "test")}
    images = {split: gradients[split]["images"] for split in ("train", "test")}
    yield f"### {data}: the judge labels gradient maps"
    yield ""
    yield (
        f"{images['train']} training and {images['test']} test images, {found['epochs']} epochs. The judge is right on "
        f"{judge['train']:.1%} and {judge['test']:.1%} of the images themselves."
    )
    yield ""
    yield "| classifier | clean | PGD-20 | clipped, train | clipped, test | raw, test | clipped and negated, test |"
    yield "|---|---|---|---|---|---|---|"
    for name, report in found["evaluations"].items():
        train, test = (gradients[split]["figures"][name] for split in ("train", "test"))
        cells = [report["clean_accuracy"], report["robust_accuracy"], train["clipped"]]
        shown = [f"{cell:.1%}" for cell in cells]
        shown += [_with_interval(test[form], images["test"]) for form in ("clipped", "raw", "clipped, negated")]
        yield f"| `{name}` | {' | '.join(shown)} |"
    yield ""
    yield f"### {data}: attention against robustness"
    yield ""
    yield "| classifier | positions | rank correlation, train | test | attention of the first and the last rank, test |"
    yield "|---|---|---|---|---|"
    for name, splits in relevance.items():
        for block, test in splits["test"].items():
            values = [splits["train"][block], test]
            correlations = [f"{v['correlation']:+.2f} [{v['low']:+.2f}, {v['high']:+.2f}]" for v in values]
            ends = f"{test['attention'][0]:.3f}, {test['attention'][-1]:.3f}"
            yield f"| `{name}` | {len(test['attention'])} | {' | '.join(correlations)} | {ends} |"


def _with_interval(share: float, count: int) -> str:
    low, high = interval(share, count)[:2]
    return f"{share:.1%} [{low:.1%}, {high:.1%}]"


def main(_: list[str]) -> None:
    """Measures and prints the tables, or puts them into a document."""
    out = Path(flags.FLAGS.out)
    if flags.FLAGS.write:
        documents.write(Path(flags.FLAGS.write), BEGIN, tables(json.loads(out.read_text())))
        return
    results = measured(Path(flags.FLAGS.runs), flags.FLAGS.data, flags.FLAGS.images)
    with replacing(out) as beside:
        beside.write_text(json.dumps(results, indent=1) + "\n")
    print(tables(results))


if __name__ == "__main__":
    cli.run(main, define_flags)
