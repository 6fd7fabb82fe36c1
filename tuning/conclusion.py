"""Concludes a search: evaluates the finalists, chooses the winner and writes the files of the outcome."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from commands.build import phases_of
from commands.workdir import Workdir
from tfrobust.evaluation import Report
from tfrobust.utils import html
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.files import replacing
from trainers.evaluate import evaluate_workdir
from tuning import page
from tuning.aims import Aim, ranked
from tuning.outcome import SUITE, TOLD, Entry, Outcome
from tuning.spaces import space_of, with_values
from tuning.trials import Store


def conclude(
    config: Mapping[str, Any], path: str | Path, store: Store, aim: Aim, say: Callable[[str], None] = print
) -> Outcome:
    """Evaluates the finalists, chooses the winner and writes the outcome into the search's folder.

    The best `search.finalists` trials that meet the constraint are evaluated by `standard` on validation data, and the
    best of them by these figures wins; the test split chooses nothing. Among trials that differ only in their epochs,
    as Hyperband's do, only the longest may win. `say` receives a line before each evaluation.

    Raises:
        InvalidArgument: if no trial meets the constraint; the table and the page are written first.
    """
    path = Path(path)
    outcome = Outcome(path, aim, tuple(_decided(store, aim, config["search"]["finalists"], say)))
    space = space_of(config)
    _write_table(path / "trials.csv", [dimension.field for dimension in space], outcome)
    with replacing(path / "search.html") as beside:
        beside.write_text(html.render("search.html", **page.context(config, space, outcome)), encoding="utf-8")
    for entry in outcome.entries:
        _log(path / "tensorboard" / entry.trial.key, entry)
    if not any(entry.winner for entry in outcome.entries):
        raise InvalidArgument(f"{_why_none(outcome)}. All trials: {path / 'trials.csv'}")
    winner = store.workdir(outcome.winner.trial)
    best = best_config(config, outcome.winner)
    if winner.config.exists():  # its training may have found more code of the user's, and chose what "auto" is
        kept = winner.read_config()
        best |= {field: kept[field] for field in ("imports", "search_dtype")}
    with replacing(path / "best.json") as beside:
        beside.write_text(json.dumps(best, indent=2) + "\n", encoding="utf-8")
    with replacing(path / "classifier.keras") as beside:
        shutil.copy2(winner.classifier, beside)
    return outcome


def best_config(config: Mapping[str, Any], entry: Entry) -> dict[str, Any]:
    """Returns the config that trains the classifier of a trial: the search's, with its values and epochs."""
    best = {**with_values(config, entry.trial.values), "epochs": entry.trial.epochs}
    *first, last = phases_of(best)
    if entry.result.epochs == last["epochs"]:
        return best
    if not first:
        return {**best, "epochs": entry.result.epochs}
    return {**best, "phases": (*best["phases"][:-1], {**best["phases"][-1], "epochs": entry.result.epochs})}


def _decided(store: Store, aim: Aim, finalists: int, say: Callable[[str], None]) -> list[Entry]:
    """Returns all trials, the finalists with their reports, and the winner marked."""
    entries = [Entry(number, *pair) for number, pair in enumerate(store.all(), 1)]
    candidates = _candidates(entries, aim)
    if finalists:
        candidates = candidates[:finalists]
        for index, entry in enumerate(candidates):
            say(f"Finalist {index + 1} of {len(candidates)}, {entry}, by `{SUITE}` on validation data")
            candidates[index] = entry._replace(report=_report(store.workdir(entry.trial)))
    for index in ranked([entry.final for entry in candidates], aim)[:1]:
        candidates[index] = candidates[index]._replace(winner=True)
    for entry in candidates:
        entries[entry.number - 1] = entry
    return entries


def _candidates(entries: Sequence[Entry], aim: Aim) -> list[Entry]:
    """Returns the trials that may win, the best first."""
    able = [entries[index] for index in ranked([entry.result for entry in entries], aim)]
    longest: dict[str, int] = {}
    for entry in able:
        longest[entry.trial.point] = max(entry.trial.epochs, longest.get(entry.trial.point, 0))
    return [entry for entry in able if entry.trial.epochs == longest[entry.trial.point]]


def _report(workdir: Workdir) -> Report:
    """Returns a finalist's report, which is read if it is there; an evaluation that was killed is resumed."""
    file = workdir.path / "finalist.json"
    if not file.with_suffix(".html").exists():  # the page is written last
        evaluate_workdir(workdir, file, split="validation", attacks=SUITE)
    return Report.load(file)


def _write_table(file: Path, fields: Iterable[str], outcome: Outcome) -> None:
    rows = [
        {
            "number": entry.number,
            "trial": entry.trial.key,
            **{field: entry.trial.values[field] for field in fields},
            "trained_epochs": result.epochs,
            "clean_accuracy": result.clean_accuracy,
            "robust_accuracy": result.robust_accuracy,
            "value": None if result.failed else outcome.aim.value(result),
            "meets_constraint": outcome.aim.meets(result),
            f"{SUITE}_clean_accuracy": report.clean_accuracy if report else None,
            f"{SUITE}_robust_accuracy": report.robust_accuracy if report else None,
            "winner": entry.winner,
            "seconds": round(result.seconds, 1),
            "message": result.message,
        }
        for entry in outcome.entries
        for result, report in [(entry.result, entry.report)]
    ]
    with replacing(file) as beside, beside.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _log(folder: Path, entry: Entry) -> None:
    """Writes a trial for TensorBoard's HParams, once."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    if folder.exists():
        return
    trial, result = entry.trial, entry.result
    with replacing(folder) as beside, tf.summary.create_file_writer(str(beside)).as_default():
        api.hparams({**trial.values, "trained_epochs": result.epochs}, trial_id=trial.key)
        for name in ("clean_accuracy", "robust_accuracy"):
            if (value := getattr(result, name)) is not None:
                tf.summary.scalar(name, value, step=result.epochs)


def _why_none(outcome: Outcome) -> str:
    """Returns why there is no winner, in words."""
    entries, least = outcome.entries, outcome.aim.min_clean_accuracy
    done = [entry for entry in entries if not entry.result.failed]
    if not done:
        told = "; ".join(f"{entry}: {entry.result.message}" for entry in entries[:TOLD])
        more = f"; and {len(entries) - TOLD} more" if len(entries) > TOLD else ""
        return f"All {len(entries)} trials failed: {told}{more}"
    nearest = max(done, key=lambda entry: entry.final.clean_accuracy or 0.0)
    return (
        f"No trial meets the constraint: expected a clean accuracy of at least search.min_clean_accuracy={least:g}. "
        f"Received: {nearest.final.clean_accuracy:.4f} at most, by {nearest}"
    )
