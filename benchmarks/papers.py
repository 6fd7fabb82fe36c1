"""Tests the papers' claims on real data: `python -m benchmarks.papers [TABLE ...]` trains, measures and decides.

Every row of trainers/configs/reproduction.py is trained with its seeds and measured on the test split by the commands
that a user would type, in a folder of its own; claims.py decides each claim by the intervals of the figures. Killed at
any moment and started again, it goes on. A table ends with its file in results/papers, and the page is made of these
files alone: `--write` makes it anew.
"""

import concurrent.futures
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags
from tqdm import tqdm

from benchmarks import claims, documents, studies
from benchmarks.studies import Study
from benchmarks.subprocesses import call
from commands import provenance
from commands.workdir import Workdir, read_json
from tfrobust.evaluation import Report, Table
from tfrobust.utils.files import replacing
from trainers.beyond import figures as table_figures
from trainers.configs import reproduction

CONFIG = Path(reproduction.__file__)


class Experiment(NamedTuple):
    """A table of `reproduction.TABLES`: its title, what is reduced in it, its seeds, and further evaluations."""

    title: str
    reduction: str
    seeds: int = 1
    evaluations: tuple["Evaluation", ...] = ()
    studies: tuple[Study, ...] = ()


class Evaluation(NamedTuple):
    """A further evaluation of some rows by trainers.evaluate, whose robust accuracy is a column."""

    column: str
    rows: tuple[str, ...]
    options: tuple[str, ...]


EXPERIMENTS = {
    "thesis_t4_2": Experiment(
        "Thesis, table 4.2: DRA on MNIST",
        "all of MNIST, the thesis' network; 10 epochs for 100, TRADES with 10 steps for 40",
    ),
    "thesis_t4_3": Experiment(
        "Thesis, table 4.3: DRA on CIFAR-10",
        "8,336 images of CIFAR-10 at 16x16 for 50,000 at 32x32, WRN-16-2 for ResNet-50, 30 + 12 + 3 epochs",
        # In L1 a radius is the mean absolute change.
        evaluations=tuple(
            Evaluation(f"DRA {eps}/255", ("vanilla",), ("--attacks=dra", "--norm=l1", f"--eps={eps / 255}"))
            for eps in (1, 2)
        ),
        # DRA's radius is there a fourth of the flag's.
        studies=(Study(("vanilla",), ("hard_classes", "attacks"), options=(f"--eps={4 / 255}", "--images=2000")),),
    ),
    "thesis_t3_6": Experiment(
        "Thesis, table 3.6: the scale s of SPAT",
        "8,336 images of CIFAR-10 at 16x16 for 50,000 at 32x32, WRN-16-2 for ResNet-18, 20 epochs for 100",
    ),
    "thesis_t3_7": Experiment("Thesis, table 3.7: the factors of SPAT", "as in table 3.6"),
    "aelf_t2": Experiment(
        "AELF, table 2: shifted MNIST",
        "all of MNIST at 16x16 for 32x32, shifted by 4 pixels for 8, WRN-10-1 for CNN_B, 12 epochs for 50, 8 steps for "
        "16 in training",
        seeds=2,
    ),
    "fpr_t1": Experiment(
        "FPR, table 1: feature regularization on MNIST",
        "all of MNIST, the papers' network; 4,800 updates for 100,000, 10 steps for 40 in training",
        seeds=2,
    ),
    "fpr_t2": Experiment(
        "FPR-v2, table 2: attention and regularization on CIFAR-10",
        "8,336 images of CIFAR-10 for 50,000, the papers' narrow network, 20 epochs in batches of 64",
        seeds=2,
        studies=(
            Study(
                ("madry", "at_reg", "at_att", "at_att_reg"),
                ("gradient_map_test", "relevance"),
                judge="judge",
                options=("--images=2000",),
            ),
        ),
    ),
    "infofeature_t1": Experiment(
        "InfoFeature, table 1: regularizers of loss and attack on CIFAR-10",
        "8,336 images of CIFAR-10 for 50,000, WRN-10-1 for ResNet-18, 30 epochs for 120",
        seeds=3,
        evaluations=(
            Evaluation(
                "AutoAttack, 200 images",
                ("feature_scatter", "adv_interpolation", "infofeature_half_step"),
                ("--attacks=standard", "--images=200"),
            ),
        ),
    ),
}


class Run(NamedTuple):
    """The training of a row of a table with one seed."""

    table: str
    row: str
    seed: int

    @property
    def workdir(self) -> Workdir:
        """The folder of the run."""
        return Workdir(Path(flags.FLAGS.workdir) / self.table / f"{self.row}-{self.seed}")

    @property
    def config(self) -> dict[str, Any]:
        """The config of the run."""
        return reproduction.get_config(f"{self.table}/{self.row}").to_dict()

    @property
    def twin(self) -> "Run":
        """The run of the same row with the next seed, on which the adversaries of a black box are made."""
        return self._replace(seed=(self.seed + 1) % EXPERIMENTS[self.table].seeds)

    def train(self) -> None:
        """Trains the run, or the rest of it, and evaluates it."""
        if not self.workdir.evaluation.exists():
            config = f"--config={CONFIG}:{self.table}/{self.row}"
            self._call("trainers.train", config, f"--config.seed={self.config['seed'] + self.seed}")

    def measure(self) -> None:
        """Measures what else the table asks for."""
        workdir, tables = self.workdir, self.config["tables"]
        if not all((workdir.path / "tables" / f"{kind}.json").exists() for kind in tables):
            sources = tables.get("transfer", {}).get("sources", ())
            self._call("trainers.beyond", *(f"--source={name}={self.twin.workdir.classifier}" for name in sources))
        for _, file, options in self._evaluations():
            if not file.exists():
                self._call("trainers.evaluate", *options, f"--output={file}")

    def figures(self) -> dict[str, tuple[float, float]]:
        """Returns all measured shares, in [0, 1], with their standard errors, by their columns."""
        workdir = self.workdir
        report = Report.load(workdir.evaluation)
        found = {"clean": report.clean_accuracy, **{result.name: result.accuracy for result in report.attacks}}
        measured = {column: (share, report.images) for column, share in found.items()}
        for kind in self.config["tables"]:
            table = Table.load(workdir.path / "tables" / f"{kind}.json")
            shares = table_figures(table, "classifier").items()
            measured.update({column: (share, table.images) for column, share in shares if share is not None})
        for column, file, _ in self._evaluations():
            report = Report.load(file)
            measured[column] = report.robust_accuracy, report.images
        return {column: (share, claims.share_error(share, images)) for column, (share, images) in measured.items()}

    def _evaluations(self) -> list[tuple[str, Path, tuple[str, ...]]]:
        """Returns column, file and flags of the further evaluations of this row."""
        return [
            (column, self.workdir.path / f"evaluation-{number}.json", options)
            for number, (column, rows, options) in enumerate(EXPERIMENTS[self.table].evaluations)
            if self.row in rows
        ]

    def _call(self, module: str, *options: str) -> None:
        path = self.workdir.path
        call(path.with_name(f"{path.name}.log"), module, f"--workdir={path}", *options)


def studied(table: str, number: int, seed: int) -> dict[str, studies.Row]:
    """Returns the rows of a study of a table with one seed; it is made once."""
    study = EXPERIMENTS[table].studies[number]
    runs = {row: Run(table, row, seed).workdir.path for row in study.rows}
    output = Path(flags.FLAGS.workdir) / table / f"study-{number}-{seed}.html"
    if not output.exists():
        judge = [f"--judge={Run(table, study.judge, seed).workdir.path}"] if study.judge else []
        folders = [f"--workdir={folder}" for folder in runs.values()]
        sections = f"--sections={','.join(study.sections)}"
        call(
            output.with_suffix(".log"),
            "trainers.interpret",
            *folders,
            *judge,
            sections,
            *study.options,
            f"--output={output}",
        )
    of_runs = studies.rows_of(read_json(output.with_suffix(".json")))
    rows = {folder.name: row for row, folder in runs.items()}
    return {
        f"{measurement} {rows[name]}": row
        for (measurement, name), row in ((title.rsplit(" ", 1), row) for title, row in of_runs.items())
    }


def measured(table: str) -> dict[str, Any]:
    """Trains and measures a table, and returns its figures with their origin, ready for JSON."""
    experiment = EXPERIMENTS[table]
    rows = list(reproduction.TABLES[table].rows)
    runs = [Run(table, row, seed) for row in rows for seed in range(experiment.seeds)]
    for work, name in ((Run.train, "trained"), (Run.measure, "measured")):
        _for_each(work, runs, f"{table}, {name}")
    found = {row: _row([run for run in runs if run.row == row]) for row in rows}
    for number in range(len(experiment.studies)):
        by_seed = [studied(table, number, seed) for seed in range(experiment.seeds)]
        for row in by_seed[0]:
            found[row] = {"figures": {column: [rows[row][column] for rows in by_seed] for column in by_seed[0][row]}}
    return {"origin": documents.origin("benchmarks.papers"), "rows": found}


def _for_each(work: Callable[[Run], None], runs: Sequence[Run], name: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(flags.FLAGS.jobs) as pool:
        working = [pool.submit(work, run) for run in runs]
        for done in tqdm(concurrent.futures.as_completed(working), name, len(working)):
            done.result()


def _row(runs: Sequence[Run]) -> dict[str, Any]:
    """Returns the figures of a row, column -> value and standard error of each seed, and their origin."""
    found = [run.figures() for run in runs]
    configs = [run.workdir.read_config() for run in runs]
    return {
        "paper": configs[0]["paper"],
        "figures": {column: [figures[column] for figures in found] for column in found[0]},
        "images": Report.load(runs[0].workdir.evaluation).images,
        "config": {key: value for key, value in configs[0].items() if key not in ("paper", "search", "seed")},
        "seeds": [config["seed"] for config in configs],
        "provenance": [provenance.read(run.workdir.provenance) for run in runs],
    }


def page(tables: dict[str, dict[str, Any]]) -> str:
    """Returns the page of the tables' figures."""
    parts = [
        "# The papers' claims on real data",
        "Each table of a paper is trained again in a reduced form, by `python -m benchmarks.papers`, and each of its "
        "claims is decided by a rule that was written down before. A claim is an inequality of accuracies on test "
        "images that chose nothing. It *holds* or *does not hold* where the interval of 95 % of the difference lies on "
        "one side of the claim's margin, and *cannot be told* where it covers the margin. The intervals cover another "
        "draw of the test images and, where a row has several seeds, other trainings; with one seed they say nothing "
        "of other trainings. The paper's figures are of larger networks, more images and longer trainings: claims are "
        "compared, not figures.",
        summary(tables),
        *(section(table, results) for table, results in tables.items()),
    ]
    return "\n\n".join(parts) + "\n"


def summary(tables: dict[str, dict[str, Any]]) -> str:
    """Returns the number of claims of each table by their verdict."""
    verdicts = (claims.HOLDS, claims.FAILS, claims.OPEN)
    rows = []
    for table, results in tables.items():
        found = [verdict for _, verdict in decided(table, results)]
        rows.append([EXPERIMENTS[table].title, *(str(found.count(verdict)) for verdict in verdicts)])
    return documents.table(("table", *verdicts), rows)


def decided(table: str, results: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the claims of a table with their verdicts."""
    rows = {row: found["figures"] for row, found in results["rows"].items()}
    return [(claim.sentence, claim.decide(rows)) for claim in claims.CLAIMS[table]]


def section(table: str, results: dict[str, Any]) -> str:
    """Returns the claims and the figures of a table."""
    experiment, rows = EXPERIMENTS[table], results["rows"]
    trained = {row: found for row, found in rows.items() if "config" in found}
    first = next(iter(trained.values()))
    entries = (entry for found in trained.values() for run in found["provenance"] for entry in run)
    commits = sorted({(entry["commit"] or "unknown")[:12] for entry in entries})
    verdicts = ([sentence, f"**{verdict}**"] for sentence, verdict in decided(table, results))
    return "\n\n".join(
        [
            f"## {experiment.title}",
            f"Reduced: {experiment.reduction}. Seeds: {', '.join(map(str, first['seeds']))}. "
            f"{first['images']:,} test images.",
            documents.table(("claim", "verdict"), verdicts),
            "Accuracy in percent, paper / measured:",
            documents.table(("row", *_columns(trained)), _lines(trained)),
            *_studied({row: found for row, found in rows.items() if row not in trained}),
            documents.signature(results["origin"], f"commit {', '.join(commits)}; "),
        ]
    )


def _studied(rows: dict[str, Any]) -> Iterable[str]:
    """Yields the sentence and the table of the figures of studies that a claim names."""
    named = {(place.row, column) for places in _places() for place in places for column in place.columns}
    lines = [
        [row, column, str(claims.figure(*zip(*cells, strict=True)))]
        for row, found in rows.items()
        for column, cells in found["figures"].items()
        if (row, column) in named
    ]
    if lines:
        yield "Further measurements, in percent; a correlation of 1 is 100:"
        yield documents.table(("measurement", "of", "measured"), lines)


def _places() -> Iterable[tuple[claims.Place, claims.Place]]:
    return ((part.greater, part.lesser) for found in claims.CLAIMS.values() for claim in found for part in claim.parts)


def _columns(rows: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(column for found in rows.values() for column in found["figures"]))


def _lines(rows: dict[str, Any]) -> Iterable[list[str]]:
    for row, found in rows.items():
        cells = [f"`{row}`"]
        for column in _columns(rows):
            measured, paper = found["figures"].get(column), found["paper"].get(column)
            ours = "-" if measured is None else str(claims.figure(*zip(*measured, strict=True)))
            cells.append(ours if paper is None else f"{paper:g} / {ours}")
        yield cells


def define_flags() -> None:
    """Defines the flags of the command."""
    flags.DEFINE_integer("jobs", 2, "Commands at a time, with one thread each.", lower_bound=1)
    flags.DEFINE_string("workdir", "runs/papers", "Folder of the runs.")
    flags.DEFINE_string("figures", "results/papers", "Folder of the measured figures, a file for each table.")
    flags.DEFINE_string("out", "results/papers.md", "The page.")
    flags.DEFINE_bool("write", False, "Only write the page of the figures that are there.")


def main(arguments: list[str]) -> None:
    """Measures the tables that the command names, by default all of them, and writes the page."""
    chosen, folder = arguments[1:] or list(EXPERIMENTS), Path(flags.FLAGS.figures)
    if unknown := sorted(set(chosen) - set(EXPERIMENTS)):
        raise app.UsageError(f"Expected tables of {', '.join(EXPERIMENTS)}. Received: {', '.join(unknown)}")
    for table in () if flags.FLAGS.write else chosen:
        results = measured(table)
        with replacing(folder / f"{table}.json") as beside:
            beside.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    files = {table: folder / f"{table}.json" for table in EXPERIMENTS}
    text = page({table: read_json(file) for table, file in files.items() if file.exists()})
    with replacing(flags.FLAGS.out) as beside:
        beside.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    define_flags()
    app.run(main)
