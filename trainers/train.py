"""Trains a classifier by a config: `tfrobust train --config=FILE.py[:ROW] --workdir=DIR`.

A config may list phases, which are fits of one classifier in sequence, each from the classifier that the previous one
kept; all but the last are in phases/N. The same command resumes a killed run from its last epoch, and ends with the
weights of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from commands import cli, imports
from commands.config_flag import chosen_config, define_config
from commands.paper import beside_paper
from commands.workdir import Workdir
from tfrobust_base import words
from trainers.configs import digits

if TYPE_CHECKING:
    from tfrobust.evaluation import Report

CONFIGS = Path(__file__).parent / "configs"


def define_flags() -> None:
    """Defines the flags of the command."""
    define_config("digits", CONFIGS)
    flags.DEFINE_string("workdir", None, "Folder of the run; made if it is missing.")


def run(config: dict[str, Any], path: str | Path) -> Report | None:
    """Trains, keeps the best classifier, evaluates it on the test split and exports it, all into one folder.

    Args:
        config: a config such as that of `trainers/configs/digits.py`, as a plain dict.
        path: folder of the run; a run that is there with the same config is resumed.

    Returns:
        The report on the test split, or None if the config has no evaluation.

    Raises:
        InvalidArgument: if a field of the config is invalid.
        Mistake: if the folder is of another config.
    """
    from commands.build import given
    from export.savedmodel import export_workdir
    from tfrobust.training.distribution import is_chief, wait_for_all
    from trainers.evaluate import evaluate_workdir

    imports.need(*imports.PAGE, *imports.EXPORT)
    workdir, report, strategy = Workdir(path), None, fit(config, path)
    if is_chief(strategy):
        if config["evaluation"]["attacks"]:
            report = evaluate_workdir(workdir, **given(config["evaluation"]))
        if not (workdir.saved_model / "1").exists():
            export_workdir(workdir, unevaluated=report is None)
    wait_for_all(strategy)  # a worker that ended earlier would look like one that died
    return report


def fit(config: dict[str, Any], path: str | Path, callbacks: Iterable[Any] = ()) -> Any:
    """Trains and keeps the best classifier, which is the first part of `run`; returns the strategy of the training.

    `callbacks` are further Keras callbacks for the last fit.
    """
    import keras

    from commands import provenance, strategies
    from commands.build import build_classifier, build_trainer, check_evaluation, digest_of_data, phases_of
    from commands.forecast import forecast_of
    from tfrobust.training.distribution import is_chief, wait_for_all
    from tfrobust.utils.validation import check_integer

    workdir = Workdir(path)
    config = workdir.resumed(config)
    phases = phases_of(config)
    check_integer("seed", config["seed"], 0, 2**31 - 1)
    strategy = strategies.get(config["strategy"])  # first of all, because the machines have to connect
    check_evaluation(config)
    keras.utils.set_random_seed(config["seed"])
    with strategy.scope():
        classifier = build_classifier(config)
        trainers = [build_trainer(phase, classifier, number) for number, phase in enumerate(phases)]
    config = {**config, "imports": imports.used(config, classifier), "search_dtype": trainers[0].search_dtype}
    with workdir.held() if is_chief(strategy) else contextlib.nullcontext():
        if is_chief(strategy):
            workdir.claim(config)
            provenance.record(workdir.provenance)
            workdir.claim_data(config["data"]["name"], digest_of_data(config))
        wait_for_all(strategy)
        workdir.check(config)  # every machine needs the same command and the shared folder
        forecast = forecast_of(config, zip(trainers, [phase["epochs"] for phase in phases], strict=True))
        epochs_before = 0
        for number, (phase, trainer) in enumerate(zip(phases, trainers, strict=True), 1):
            if len(phases) > 1:
                print(f"Phase {number} of {len(phases)}: {trainer.objective.name}", flush=True)
            folder = workdir if number == len(phases) else workdir.of_phase(number)
            last = number == len(phases)
            _fit(trainer, phase, workdir, folder, epochs_before, forecast, callbacks if last else ())
            epochs_before += phase["epochs"]
            wait_for_all(strategy)
            classifier.load_weights(folder.classifier)  # the next phase starts with the kept classifier
    return strategy


def _fit(
    trainer: Any,
    phase: dict[str, Any],
    run: Workdir,
    workdir: Workdir,
    epochs_before: int,
    forecast: Any,
    callbacks: Iterable[Any],
) -> None:
    """Trains one phase of a run, or the rest of it, and keeps its classifier in the folder of the phase."""
    import keras

    import tfrobust
    from commands import progress
    from commands.build import digest_of_data, frozen, load_data
    from tfrobust.training.distribution import is_chief
    from tfrobust.utils import graph as backend

    with frozen(trainer.classifier, phase["frozen"]):
        checkpoints = tfrobust.callbacks.Checkpoints(trainer, workdir.checkpoints)
        first = checkpoints.restore()
        chief = is_chief(trainer.distribute_strategy)
        rows = workdir.cut_history(first) if chief else []
        if first >= phase["epochs"]:
            return
        keeper = [_keeper(phase["monitor"], workdir, rows)] if chief else []
        if backend.unscaled(trainer.optimizer).use_ema:  # on all machines, because validation uses the averages too
            keeper = [tfrobust.callbacks.AveragedWeights(*keeper)]
        verbose, shown = progress.of_fit() if chief else (0, [])
        writers = [
            forecast,
            keras.callbacks.CSVLogger(workdir.history, append=True),
            keras.callbacks.TensorBoard(workdir.tensorboard, write_graph=False),
        ]
        train = load_data(phase, "train", first_epoch=epochs_before + first)
        held_out = load_data(phase, "validation") if phase["data"]["validation"] else None
        if chief:  # a file that was added since the start could be in both
            run.claim_data(phase["data"]["name"], digest_of_data(phase))
        trainer.fit(
            train,
            validation_data=held_out,
            initial_epoch=first,
            epochs=phase["epochs"],
            verbose=verbose,
            callbacks=[
                *keeper,
                *shown,
                *(writers if chief else []),
                *callbacks,
                tfrobust.callbacks.TerminateOnDivergence(workdir.path),
                checkpoints,  # last, so that an epoch counts as done when the others have written it
            ],
        )


def _keeper(monitor: str, workdir: Any, rows: list[dict[str, str]]) -> Any:
    """Returns the callback that keeps the best classifier; the best figure so far is read from the history."""
    import keras

    if not monitor:
        return keras.callbacks.ModelCheckpoint(workdir.classifier)
    best = kept_row(rows, monitor)
    return keras.callbacks.ModelCheckpoint(
        workdir.classifier,
        monitor=monitor,
        save_best_only=True,
        initial_value_threshold=float(best[monitor]) if best else None,
    )


def kept_row(rows: Iterable[Mapping[str, str]], monitor: str) -> Mapping[str, str] | None:
    """Returns the row of the kept classifier: the first best one, or the last without a monitor; None without rows."""
    rows = list(rows)
    if not monitor:
        return rows[-1] if rows else None
    best = max if monitor.endswith("accuracy") else min  # the loss and its terms fall
    return best((row for row in rows if row.get(monitor)), key=lambda row: float(row[monitor]), default=None)


def _check_objectives(config: Mapping[str, Any]) -> None:
    """Finds an unknown objective before the slow imports; a config that has made them may have registered its own."""
    known = {} if "tfrobust" in sys.modules else digits.objectives()
    for phase in (config, *config["phases"]):
        name = phase.get("objective", {}).get("name")
        if known and name is not None and name not in known:
            raise cli.Misuse(f"{words.unknown('objective', name, known)} {imports.HINT}")


def main(_: list[str]) -> None:
    """Trains by the config of the flags and prints the report."""
    config = chosen_config()  # a missing file is found here, before the slow imports
    if not flags.FLAGS.workdir:
        raise cli.Misuse("Expected --workdir=DIR, the folder of the run. Received: none")
    _check_objectives(config)
    from commands.strategies import losses_told

    with losses_told():
        report = run(config, flags.FLAGS.workdir)
    if report is not None:
        print(report)
        print(beside_paper(report, config["paper"]), end="")
    print(f"Everything of this run is in {flags.FLAGS.workdir}")


if __name__ == "__main__":
    cli.run(main, define_flags)
