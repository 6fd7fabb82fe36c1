"""Every objective on handwritten digits, trained and attacked alike: `python -m benchmarks.digits` writes a table.

Each row of trainers/configs/digits.py is trained with several seeds by the command that a user would type, in a folder
of its own; the table is made of their reports. A benchmark that was killed goes on where it was.
"""

import concurrent.futures
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
from absl import app, flags
from tqdm import tqdm

import tfrobust
from benchmarks import documents
from benchmarks.subprocesses import call
from commands.build import load_data
from commands.workdir import Workdir
from trainers.configs import digits

SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each objective.", lower_bound=1)
JOBS = flags.DEFINE_integer("jobs", 2, "Runs at a time, with one thread each.", lower_bound=1)
OBJECTIVES = flags.DEFINE_list("objectives", list(digits.rows()), "Which objectives; default: all.")
FOLDER = flags.DEFINE_string("workdir", "runs/benchmark_digits", "Folder of the runs.")
OUT = flags.DEFINE_string("out", "results/digits.md", "The table.")

CONFIG = Path(__file__).parents[1] / "trainers" / "configs" / "digits.py"
EPS = 0.15
PGD, CW = "PGD-50 x 3", "CW-Linf-100 x 5"
ATTACKS = {
    PGD: {"name": "pgd", "steps": 50, "restarts": 3, "start": "uniform", "keep": "best"},
    CW: {"name": "cw_linf", "steps": 100, "restarts": 5, "start": "uniform", "keep": "best"},
}
SMALL_EPS = 0.05  # for fine-tuning, which is compared with the network that it began with
COLUMNS = ("clean", *ATTACKS, "worst case")
NOTES = Path(__file__).with_name("digits_notes.md")

RATE = "learning_rate.initial_learning_rate"
ADAM = ("optimizer.name=adam", f"{RATE}=0.002", "weight_decay=0.0")
# Variants of methods whose row is not satisfactory: label -> overrides of the row, with seed 0.
TRIES: dict[str, dict[str, tuple[str, ...]]] = {
    "aelf": {
        "Adam 2e-3, weight 1": (*ADAM, "objective.weight=1.0"),
        "Adam 2e-3, weight 0.03": (*ADAM, "objective.weight=0.03"),
        "Adam 2e-3, weight 0.1, decay 0.01": (*ADAM, "objective.weight=0.1", "weight_decay=0.01"),
        "Adam 5e-4, weight 0.1": (*ADAM, f"{RATE}=0.0005", "objective.weight=0.1"),
        "Adam 2e-3, weight 0.1, attacked on the margin": (*ADAM, "objective.weight=0.1", "attack.name=cw_linf"),
        "SGD 0.05, weight 0.1, no decay": (f"{RATE}=0.05", "objective.weight=0.1", "weight_decay=0.0"),
    },
    "aelfs": {"beta 0.5 (the paper's for MNIST)": ("objective.beta=0.5",)},
}


class Run(NamedTuple):
    """One training: a row of the config, its seed, and the fields that override the row."""

    row: str
    seed: int = 0
    label: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        words = "".join(c if c.isalnum() or c in ".-" else " " for c in self.label).split()
        return Path(FOLDER.value) / "-".join([self.row, str(self.seed), *words])

    @property
    def options(self) -> list[str]:
        """The flags of trainers.train that a user would type; the evaluation is this benchmark's own."""
        fields = (f"seed={self.seed}", "evaluation.attacks=", *self.overrides)
        last = dict(field.split("=", 1) for field in fields)  # the last value of a field that is set twice
        return [
            f"--config={CONFIG}:{self.row}",
            f"--workdir={self.folder}",
            *(f"--config.{field}={value}" for field, value in last.items()),
        ]


def train(run: Run) -> None:
    """Trains a run that is not trained yet; a failure is a `RuntimeError` with the end of the log."""
    folder = run.folder
    if (folder / "saved_model" / "1").exists():
        return
    call(folder.parent / f"{folder.name}.log", "trainers.train", *run.options)


def evaluate(classifier: Path, config: Mapping[str, Any], eps: float, to: Path) -> dict[str, Any]:
    """Returns the report of a classifier on the test split as a dict; it is computed once."""
    if not to.exists():
        # Evaluations run one after the other: each uses all threads, and frees the graphs of the last one.
        keras.backend.clear_session()
        network, data = keras.models.load_model(classifier), load_data(config, "test")
        report = tfrobust.evaluate(network, data, eps=eps, attacks=ATTACKS, batch_size=512, verbose=False)
        report.save(to)
    return json.loads(to.read_text())


def measure(folder: Path) -> list[dict[str, Any]]:
    """Returns the reports of a run: at eps and, where there are phases, of the first and the last at a small eps."""
    workdir = Workdir(folder)
    config = workdir.read_config()
    ends = [workdir.of_phase(1), workdir] if len(config["phases"]) > 1 else []
    return [
        evaluate(workdir.classifier, config, EPS, workdir.path / "at_eps.json"),
        *(evaluate(end.classifier, config, SMALL_EPS, end.path / "at_small_eps.json") for end in ends),
    ]


def seconds(folder: Path) -> float:
    """Returns the duration of a run from its config to its export."""
    return (folder / "saved_model" / "1").stat().st_mtime - (folder / "config.json").stat().st_mtime


def cells(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the accuracies of some reports: clean, under each attack, in the worst case."""
    under = [{result["name"]: result["accuracy"] for result in report["attacks"]} for report in reports]
    return [
        documents.percent([report["clean_accuracy"] for report in reports]),
        *(documents.percent([found[attack] for found in under]) for attack in ATTACKS),
        documents.percent([report["robust_accuracy"] for report in reports]),
    ]


def table(measured: Mapping[str, list[list[dict]]]) -> str:
    """Returns the rows of all objectives, the most robust first."""
    finals = {name: [reports[0] for reports in runs] for name, runs in measured.items()}
    robust = {name: statistics.mean(r["robust_accuracy"] for r in reports) for name, reports in finals.items()}
    rows = ([f"`{name}`", *cells(finals[name])] for name in sorted(finals, key=lambda name: -robust[name]))
    return documents.table(("objective", *COLUMNS), rows)


def fine_tuning(measured: Mapping[str, list[list[dict]]]) -> str:
    """Returns the accuracies before and after the last phase, for the objectives that have phases."""
    heads = ("objective", "clean before", "clean after", f"worst case at eps {SMALL_EPS} before", "after")
    keys = [(key, end) for key in ("clean_accuracy", "robust_accuracy") for end in (1, 2)]
    rows = (
        [f"`{name}`", *(documents.percent([reports[end][key] for reports in runs]) for key, end in keys)]
        for name, runs in measured.items()
        if all(len(reports) > 1 for reports in runs)
    )
    return documents.table(heads, rows)


def tries(measured: Mapping[Run, list[dict]]) -> str:
    """Returns the results of `TRIES`, one line each."""
    rows = ([f"`{run.row}`", run.label, *cells(reports[:1])] for run, reports in measured.items())
    return documents.table(("objective", "tried", *COLUMNS), rows)


def main(_: list[str]) -> None:
    runs = [Run(name, seed) for name in OBJECTIVES.value for seed in range(SEEDS.value)]
    tried = [Run(name, 0, *item) for name in OBJECTIVES.value for item in TRIES.get(name, {}).items()]
    with concurrent.futures.ThreadPoolExecutor(JOBS.value) as pool:
        running = [pool.submit(train, run) for run in runs + tried]
        for done in tqdm(concurrent.futures.as_completed(running), "trained", len(running)):
            done.result()
    reports = {run: measure(run.folder) for run in tqdm(runs + tried, "attacked")}
    measured = {name: [reports[run] for run in runs if run.row == name] for name in OBJECTIVES.value}
    minutes = sum(seconds(run.folder) for run in reports) / JOBS.value / 60
    versions = reports[runs[0]][0]["versions"]
    text = f"""# Every objective on handwritten digits

scikit-learn's digits, 8x8; test split of 359 images, which chose nothing. Every row of `trainers/configs/digits.py`:
the network `digits` (a cosine head or leaky ReLU where the method asks for it), Adam (`aelf`: SGD with decay), batches
of 64, 40 epochs of PGD-10 at eps {EPS} (feature scattering and adversarial interpolation: one step of size eps, as in
their papers; phases where the method has them), the classifier with the best validation accuracy under PGD-20 kept.
{SEEDS.value} seeds, mean ± sample standard deviation, in percent. Worst case: right under every restart of both
attacks, per image. CW-Linf is the strongest attack that the library has today; the evaluation is not AutoAttack.

{table(measured)}

Phases: what became of the classifier of phase 1. `dra` is judged so in its paper.

{fine_tuning(measured)}

{NOTES.read_text().strip()}

{tries({run: reports[run] for run in tried})}

`python -m benchmarks.digits --seeds={SEEDS.value} --jobs={JOBS.value}`; {platform.machine()}, {os.cpu_count()} cores,
no GPU, TensorFlow {versions["tensorflow"]}, Keras {versions["keras"]}; the trainings took {minutes:.0f} minutes,
{JOBS.value} at a time.
"""
    Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
    Path(OUT.value).write_text(text)
    print(text)


if __name__ == "__main__":
    app.run(main)
