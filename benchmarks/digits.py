"""Every objective on handwritten digits, trained and attacked alike: `python -m benchmarks.digits` writes a table.

Each row of trainers/configs/digits.py is trained with several seeds by the command that a user would type, in a folder
of its own; the table is made of their reports. A benchmark that was killed goes on where it was.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import app, flags
from tqdm import tqdm

from trainers.configs import digits
from trainers.workdir import Workdir

SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each objective.", lower_bound=1)
JOBS = flags.DEFINE_integer("jobs", 2, "Runs at a time, with one thread each.", lower_bound=1)
OBJECTIVES = flags.DEFINE_list("objectives", list(digits.OBJECTIVES), "Which objectives; default: all.")
FOLDER = flags.DEFINE_string("workdir", "runs/benchmark_digits", "Folder of the runs.")
OUT = flags.DEFINE_string("out", "results/digits.md", "The table.")

CONFIG = Path(__file__).parents[1] / "trainers" / "configs" / "digits.py"
EPS = 0.15
PGD, CW = "PGD-50 x 3", "CW-Linf-100 x 5"
ATTACKS = {
    PGD: {"name": "pgd", "steps": 50, "restarts": 3, "start": "uniform", "keep": "best"},
    CW: {"name": "cw_linf", "steps": 100, "restarts": 5, "start": "uniform", "keep": "best"},
}
SMALL_EPS = 0.05  # fine-tuning is judged at a small eps, against the network that it began with
NOTES = Path(__file__).with_name("digits_notes.md")


def command(objective: str, seed: int, folder: Path) -> list[str]:
    """Returns the command of one run; its evaluation is this benchmark's own."""
    return [
        *(sys.executable, "-m", "trainers.train", f"--config={CONFIG}:{objective}"),
        *(f"--config.seed={seed}", "--config.evaluation.attacks=", f"--workdir={folder}"),
    ]


def train(objective: str, seed: int, folder: Path) -> None:
    """Trains one row with one seed, unless that is done.

    Raises:
        RuntimeError: for a run that failed, with the end of its log.
    """
    if (folder / "saved_model" / "1").exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    with log.open("w") as file:
        code = subprocess.run(
            command(objective, seed, folder), stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
        ).returncode
    if code:
        raise RuntimeError(f"{objective}, seed {seed}, failed: " + " | ".join(log.read_text().splitlines()[-3:]))


def evaluate(classifier: Path, config: Mapping[str, Any], eps: float, to: Path) -> dict[str, Any]:
    """Returns the report of a classifier on the test split as a dict; made once."""
    if not to.exists():
        import keras

        import tfrobust
        from trainers.setup import load_data

        # Evaluations follow one another: each gets all the threads, and lets go of its graphs.
        keras.backend.clear_session()
        report = tfrobust.evaluate(
            keras.models.load_model(classifier), load_data(config, "test"), eps=eps, attacks=ATTACKS, verbose=False
        )
        report.save(to)
    return json.loads(to.read_text())


def measure(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns a pair of reports for the classifier of each phase: at eps and at a small eps."""
    workdir = Workdir(folder)
    config = workdir.read_config()
    stages = [workdir.of_phase(number) for number in range(1, len(config["phases"]))] + [workdir]
    return [
        (
            evaluate(stage.classifier, config, EPS, stage.path / "at_eps.json"),
            evaluate(stage.classifier, config, SMALL_EPS, stage.path / "at_small_eps.json"),
        )
        for stage in stages
    ]


def percent(shares: list[float]) -> str:
    """Returns mean and sample standard deviation in percent."""
    spread = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{spread}"


def under(report: Mapping[str, Any], attack: str) -> float:
    """Returns the accuracy under one attack of a report."""
    return next(result["accuracy"] for result in report["attacks"] if result["name"] == attack)


def table(measured: Mapping[str, list[list[tuple[dict, dict]]]]) -> str:
    """Returns the rows of all objectives, the most robust first."""
    lines = [f"| objective | clean | {PGD} | {CW} | worst case |", "|---|---|---|---|---|"]
    finals = {name: [stages[-1][0] for stages in runs] for name, runs in measured.items()}
    for name, reports in sorted(
        finals.items(), key=lambda item: -statistics.mean(r["robust_accuracy"] for r in item[1])
    ):
        columns = (
            [r["clean_accuracy"] for r in reports],
            *([under(r, attack) for r in reports] for attack in ATTACKS),
            [r["robust_accuracy"] for r in reports],
        )
        lines.append(f"| `{name}` | " + " | ".join(map(percent, columns)) + " |")
    return "\n".join(lines)


def fine_tuning(measured: Mapping[str, list[list[tuple[dict, dict]]]]) -> str:
    """Returns what phases did to the classifier that they began with, for the objectives that have phases."""
    lines = [
        f"| objective | clean before | clean after | worst case at eps {SMALL_EPS} before | after |",
        "|---|---|---|---|---|",
    ]
    for name, runs in measured.items():
        if all(len(stages) > 1 for stages in runs):
            ends = [[stages[place][1] for stages in runs] for place in (0, -1)]
            columns = [[r[key] for r in end] for key in ("clean_accuracy", "robust_accuracy") for end in ends]
            lines.append(f"| `{name}` | " + " | ".join(map(percent, columns)) + " |")
    return "\n".join(lines)


def main(_: list[str]) -> None:
    began = time.monotonic()
    jobs = [(name, seed) for name in OBJECTIVES.value for seed in range(SEEDS.value)]
    folders = {(name, seed): Path(FOLDER.value) / f"{name}-{seed}" for name, seed in jobs}
    with concurrent.futures.ThreadPoolExecutor(JOBS.value) as pool:
        running = [pool.submit(train, *job, folders[job]) for job in jobs]
        for done in tqdm(concurrent.futures.as_completed(running), "trained", len(running)):
            done.result()
    measured: dict[str, list[Any]] = {name: [] for name in OBJECTIVES.value}
    for job in tqdm(jobs, "attacked"):
        measured[job[0]].append(measure(folders[job]))
    minutes = (time.monotonic() - began) / 60
    versions = measured[jobs[0][0]][0][-1][0]["versions"]
    text = f"""# Every objective on handwritten digits

scikit-learn's digits, 8x8; test split of 359 images, which chose nothing. Every row of `trainers/configs/digits.py`:
the network `digits` (a cosine head or leaky ReLU where the method asks for it), Adam, batches of 64, 40 epochs of
PGD-10 at eps {EPS} (feature scattering and adversarial interpolation: one step of size eps, as in their papers; phases
where the method has them), the classifier with the best validation accuracy under PGD-20 kept. {SEEDS.value} seeds,
mean ± sample standard deviation, in percent. Worst case: right under every restart of both attacks, per image. CW-Linf
is the strongest attack that the library has today; the evaluation is not AutoAttack.

{table(measured)}

Phases: what became of the classifier of phase 1. `dra` is judged so in its paper.

{fine_tuning(measured)}

{NOTES.read_text().strip()}

`python -m benchmarks.digits --seeds={SEEDS.value}`; {platform.machine()}, {os.cpu_count()} cores, no GPU, TensorFlow
{versions["tensorflow"]}, Keras {versions["keras"]}; {minutes:.0f} minutes.
"""
    Path(OUT.value).parent.mkdir(parents=True, exist_ok=True)
    Path(OUT.value).write_text(text)
    print(text)


if __name__ == "__main__":
    app.run(main)
