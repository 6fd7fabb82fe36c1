"""Trains with searches in float32 and in bfloat16 and compares what comes out: `python -m benchmarks.search_dtype`.

Each case is trained with several seeds in both dtypes, from the same weights on the same batches; each classifier is
then attacked in float32. Trainings and reports are kept under --workdir: a benchmark that was killed goes on where it
was. `search_dtype="auto"` may choose bfloat16 once a machine with 16-bit units has shown here that the trainings do not
become less robust: `SHOWN` in tfrobust/training/precision.py. Writes --out; with --write=docs/performance.md it writes
the table of --out without a measurement.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from tqdm import tqdm

from benchmarks import documents
from commands import cli
from tfrobust.utils.files import replacing
from tfrobust_base import words

BEGIN = "<!-- figures: python -m benchmarks.search_dtype -->"
DTYPES = ("float32", "bfloat16")


class Case(NamedTuple):
    """A data set, the objective of training, the radius of training and attack, the epochs, and the number of seeds."""

    data: str
    objective: str
    eps: float
    epochs: int
    seeds: int


CASES = {
    "digits-madry": Case("digits", "madry", 0.15, 40, 3),
    "digits-trades": Case("digits", "trades", 0.15, 40, 3),
    "mnist-madry": Case("mnist", "madry", 0.2, 3, 1),
}


def define_flags() -> None:
    """Defines the flags of the command."""
    documents.define_flags("search_dtype")
    flags.DEFINE_list("cases", list(CASES), f"Which of {', '.join(CASES)}.")
    flags.DEFINE_integer("epochs", 0, "Epochs of each training; 0: those of the case.", lower_bound=0)
    flags.DEFINE_integer("seeds", 0, "Trainings of each case and dtype; 0: those of the case.", lower_bound=0)
    flags.DEFINE_string("suite", "standard", "The attacks of the evaluation, as `tfrobust.evaluate` takes them.")
    flags.DEFINE_integer("images", 1000, "Greatest number of test images that are attacked.", lower_bound=1)
    flags.DEFINE_string("workdir", "runs/benchmark_search_dtype", "Folder of the trainings.")


def chosen_cases() -> dict[str, Case]:
    """Returns the cases of the flags; raises `Misuse` for an unknown one."""
    given = flags.FLAGS
    for name in given.cases:
        if name not in CASES:
            raise cli.Misuse(words.unknown("case", name, CASES))
    cases = {name: CASES[name] for name in given.cases}
    return {n: c._replace(epochs=given.epochs or c.epochs, seeds=given.seeds or c.seeds) for n, c in cases.items()}


def measure() -> dict[str, Any]:
    """Returns the figures of all trainings of all cases."""
    from tfrobust.training.precision import has_units

    cases = chosen_cases()
    # Both dtypes of a seed follow each other, so that a drift of the machine's speed meets both.
    runs = [(name, seed, dtype) for name, case in cases.items() for seed in range(case.seeds) for dtype in DTYPES]
    found: dict[str, Any] = {name: {**case._asdict(), "runs": {d: [] for d in DTYPES}} for name, case in cases.items()}
    for name, seed, dtype in tqdm(runs, "trained and attacked"):
        folder = Path(flags.FLAGS.workdir) / f"{name}-{seed}-{dtype}"
        found[name]["runs"][dtype].append(_figures(cases[name], seed, dtype, folder))
    settings = {"suite": flags.FLAGS.suite, "images": flags.FLAGS.images, "units": has_units()}
    return {**documents.origin("benchmarks.search_dtype"), **settings, "cases": found}


def _figures(case: Case, seed: int, dtype: str, folder: Path) -> dict[str, float | None]:
    """Returns the figures of a training, which is run, or resumed, if it is not there."""
    import keras

    import tfrobust
    from benchmarks.networks import config_of
    from commands.build import arrays_of
    from trainers.train import fit

    keras.backend.clear_session()
    config = config_of(case.data, case.eps, case.epochs, case.objective).to_dict()
    clock = clock_of(folder / "seconds.json")
    fit({**config, "seed": seed, "search_dtype": dtype}, folder, [clock])
    suite, images = flags.FLAGS.suite, flags.FLAGS.images
    kept = folder / f"{suite}-{images}.json"
    if not kept.exists():
        attacked = tuple(part[:images] for part in arrays_of(tfrobust.data.load(case.data, "test")))
        classifier = cli.load_classifier(folder / "classifier.keras")
        options = {"eps": case.eps, "attacks": suite, "probes": 0, "verbose": False}
        tfrobust.evaluate(classifier, attacked, **options, state=kept.with_suffix(".state")).save(kept)
    report = json.loads(kept.read_text())
    seconds = statistics.median(clock.seconds) if clock.seconds else None
    return {"clean": report["clean_accuracy"], "robust": report["robust_accuracy"], "seconds": seconds}


def clock_of(path: Path) -> Any:
    """Returns a callback that keeps the seconds of epochs in a file, without the first of a process, which traces."""
    import keras

    class Clock(keras.callbacks.Callback):
        seconds: list[float] = json.loads(path.read_text()) if path.exists() else []
        began: float | None = None

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            now = time.perf_counter()
            if self.began is not None:
                self.seconds.append(now - self.began)
                with replacing(path) as beside:
                    beside.write_text(json.dumps(self.seconds))
            self.began = now

    return Clock()


def tables(results: Mapping[str, Any]) -> str:
    """Returns a table of all cases, and a line for each of the difference that bfloat16 makes."""
    heads = ("training", "search in", "seeds", "clean, %", "worst case, %", "an epoch, in times of float32's")
    rows, notes = [], []
    for name, case in results["cases"].items():
        runs = case["runs"]
        for dtype in DTYPES:
            cells = [documents.percent([run[key] for run in runs[dtype]]) for key in ("clean", "robust")]
            rows.append((name, dtype, str(len(runs[dtype])), *cells, _time(runs, dtype, results["units"])))
        apart = [half["robust"] - single["robust"] for single, half in zip(*(runs[d] for d in DTYPES), strict=True)]
        notes.append(
            f"- {name}, eps {case['eps']:g}, {case['epochs']} epochs: bfloat16 changes the worst case by "
            f"{documents.percent(apart)} points."
        )
    units = "" if results["units"] else " The processor has no 16-bit units and emulates them: times are left out."
    described = f"`{results['suite']}` in float32 on at most {results['images']} test images; "
    return "\n\n".join(
        [
            documents.table(heads, rows),
            "\n".join(notes),
            f"Means over seeds ± sample standard deviation; differences are of the same seed.{units}",
            documents.signature(results, described),
        ]
    )


def _time(runs: Mapping[str, Sequence[Mapping[str, Any]]], dtype: str, units: bool) -> str:
    both = zip(runs[dtype], runs["float32"], strict=True)
    ratios = [run["seconds"] / single["seconds"] for run, single in both if run["seconds"] and single["seconds"]]
    return f"{statistics.median(ratios):.2f}" if units and ratios else ""


if __name__ == "__main__":
    cli.run(lambda _: documents.publish(BEGIN, measure, tables), define_flags)
