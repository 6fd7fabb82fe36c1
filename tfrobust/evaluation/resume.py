"""What an evaluation has found so far, in a file: a killed one goes on where it was."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfrobust.attacks import Ball, Evasion
from tfrobust.evaluation.attack_list import Contestant, LineUp
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.record import Judge, Outcome
from tfrobust.utils.digest import digest_of
from tfrobust.utils.errors import InvalidArgument

LAYOUT = 3  # of the file, and of the batches
TABLES = """
CREATE TABLE evaluation (fingerprint TEXT NOT NULL, clean_predicted BLOB NOT NULL);
CREATE TABLE batches (
    place INTEGER, run INTEGER, batch INTEGER,
    fooled BLOB NOT NULL, outside INTEGER NOT NULL, not_numbers INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (place, run, batch)
);
CREATE TABLE worst (number INTEGER PRIMARY KEY, z BLOB, margin REAL, predicted INTEGER, fooled_by INTEGER);
"""

Key = tuple[int, int, int]  # place of the attack, run, batch


class State:
    """A file with one row for each finished batch, and the worst adversary of each image so far.

    A row and its adversaries are written in one transaction: a process that is killed leaves the batches before. Only
    one process at a time can hold the file.

    Args:
        path: the file; made where there is none.
        fingerprint: of the evaluation, see `fingerprint`.
        judge: whose adversaries are kept; it takes over those that the file has.

    Raises:
        ValueError: for a file that is no state, of another evaluation, or in use.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: Mapping[str, Any], judge: Judge) -> None:
        self._judge = judge
        ours = json.dumps(fingerprint, sort_keys=True)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as failing:
            try:
                self._file = sqlite3.connect(path, timeout=0.1, isolation_level=None)
                failing.callback(self._file.close)
                theirs, clean_predicted = self._open(ours)
            except (sqlite3.Error, TypeError) as error:
                if "locked" in str(error):
                    raise InvalidArgument(
                        f"The state {path} is in use: expected one that nobody else holds."
                    ) from error
                raise InvalidArgument(
                    f"Invalid value for `state`: expected a state file, or none yet. Received: {path} ({error})"
                ) from error
            if theirs != ours:
                raise InvalidArgument(
                    f"The state {path} is of another evaluation: expected a file that does not exist yet, or the state "
                    f"of this one. What differs: {_differences(json.loads(theirs), fingerprint)}"
                )
            self._restore(np.frombuffer(clean_predicted, "int32"))
            failing.pop_all()

    def outcome(self, key: Key) -> Outcome | None:
        """Returns what was found for a batch, None where it has not been finished."""
        select = "SELECT fooled, outside, not_numbers, seconds FROM batches WHERE place = ? AND run = ? AND batch = ?"
        row = self._file.execute(select, key).fetchone()
        return Outcome(np.frombuffer(row[0], bool), *row[1:]) if row else None

    def keep(self, key: Key, outcome: Outcome, changed: np.ndarray) -> None:
        """Writes a finished batch, with the adversaries of the images that it changed."""
        judge = self._judge
        rows = [
            (int(n), judge.z[n].tobytes(), float(judge.margin[n]), int(judge.predicted[n]), int(judge.fooled_by[n]))
            for n in changed
        ]
        self._file.execute("BEGIN")
        self._file.executemany("INSERT OR REPLACE INTO worst VALUES (?, ?, ?, ?, ?)", rows)
        row = (*key, outcome.fooled.tobytes(), outcome.outside, outcome.not_numbers, outcome.seconds)
        self._file.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self._file.execute("COMMIT")

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

    def _open(self, fingerprint: str) -> tuple[str, bytes]:
        """Returns the fingerprint and the clean predictions that the file has; a new one takes these."""
        self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._file.execute("BEGIN EXCLUSIVE")
        if not self._file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in filter(str.strip, TABLES.split(";")):
                self._file.execute(statement)
            clean = self._judge.clean_predicted.astype("int32").tobytes()
            self._file.execute("INSERT INTO evaluation VALUES (?, ?)", (fingerprint, clean))
        self._file.execute("COMMIT")
        found: tuple[str, bytes] = self._file.execute("SELECT fingerprint, clean_predicted FROM evaluation").fetchone()
        return found

    def _restore(self, clean_predicted: np.ndarray) -> None:
        judge = self._judge
        judge.start_from(clean_predicted)  # of a random classifier, those of the first time
        for number, z, margin, predicted, fooled_by in self._file.execute("SELECT * FROM worst"):
            judge.z[number] = np.frombuffer(z, "float32").reshape(judge.z.shape[1:])
            judge.margin[number], judge.predicted[number], judge.fooled_by[number] = margin, predicted, fooled_by


def fingerprint(
    classifier: Any,
    images: Images,
    ball: Ball,
    line_up: LineUp,
    judge: Judge,
    **arguments: Any,
) -> dict[str, Any]:
    """Returns what makes two evaluations the same: arguments, attacks, data, and the classifier's weights.

    Args:
        classifier: under evaluation; a callable is told by what it says of the clean images.
        images: of the evaluation.
        ball: of the evaluation.
        line_up: of the evaluation.
        judge: which knows what the classifier says of the clean images.
        **arguments: others that change what is found.

    Raises:
        ValueError: if an attack is a callable that cannot be told from another of its name.
    """
    return {
        "layout": LAYOUT,
        **arguments,
        "eps": float(ball.radius),
        "bounds": list(ball.bounds),
        "mask": _digest() if ball.mask is None else _digest(ball.mask),
        "attacks": [
            [member.name, _identity(member), member.settings, _weights(member.attack)] for member in line_up.contestants
        ],
        "columns": line_up.columns,
        "data": _digest(*images),
        "classifier": _told(classifier, judge),
    }


def _told(classifier: Any, judge: Judge) -> str:
    """Returns what tells a classifier apart: layers and weights, or predictions and the size of their logits."""
    if isinstance(classifier, keras.Model):
        layers = np.frombuffer(classifier.to_json().encode(), "uint8")
        return _digest(layers, *classifier.get_weights())
    # Coarsely, in powers of two: the logits of one that is random differ a little each time.
    sizes = np.abs(judge.logits[np.isfinite(judge.logits)], dtype="float64")
    size = np.log2(np.maximum(sizes.mean(), 1e-30)).round() if len(sizes) else np.nan
    return _digest(judge.clean_predicted, np.asarray(size, "float32"))


def _weights(attack: Any) -> list[str]:
    """Returns digests of the networks among an attack's arguments: what a transfer comes from."""
    given = (getattr(attack, "_recipe", None) or {}).values()
    parts = [part for value in given for part in (value if isinstance(value, (list, tuple)) else [value])]
    return [_digest(*part.get_weights()) for part in parts if isinstance(part, keras.Model)]


def _identity(member: Contestant) -> str:
    """Returns the name of an attack's type, or of the function that it is, by which a later evaluation recognizes it.

    Raises:
        ValueError: for a callable whose name and settings do not say what it does.
    """
    attack = member.attack
    if (isinstance(attack, Evasion) or hasattr(attack, "get_config")) and "<lambda>" not in json.dumps(member.settings):
        return type(attack).__name__
    function = inspect.unwrap(attack)
    if inspect.isfunction(function) and "<" not in function.__qualname__:
        return f"{function.__module__}.{function.__qualname__}"
    raise InvalidArgument(
        "`state` needs attacks that a later evaluation can recognize: attacks of tfrobust.attacks, functions that are "
        f"defined at the top of a module, or callable objects with a `get_config`. Received: {member.name!r}, "
        f"{attack!r}. Move the function to the top of a module, or give it a class whose `get_config` returns what it "
        "was made with."
    )


def _digest(*arrays: np.ndarray) -> str:
    return digest_of(*arrays)[:32]


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    differing = [key for key in ours if theirs.get(key) != ours[key]]
    short = (bool, int, float, str)
    told = [
        f"{key} ({theirs[key]!r} there, {ours[key]!r} here)"
        if key not in ("data", "classifier", "mask") and isinstance(theirs.get(key), short)
        else key
        for key in differing
    ]
    return ", ".join(told) or "its layout"
