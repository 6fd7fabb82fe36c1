"""Keeps the state of an evaluation in a file, from which a killed evaluation resumes."""

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

from tfrobust.attacks import Attack
from tfrobust.classifiers import digest
from tfrobust.evaluation.attack_list import AttackList, NamedAttack
from tfrobust.evaluation.record import Outcome, Record
from tfrobust.utils.digest import digest_of
from tfrobust.utils.errors import InvalidArgument, invalid

LAYOUT = 3  # version of the file format and of the division into batches
TABLES = """
CREATE TABLE evaluation (fingerprint TEXT NOT NULL, clean_predicted BLOB NOT NULL);
CREATE TABLE batches (
    place INTEGER, run INTEGER, batch INTEGER,
    fooled BLOB NOT NULL, outside INTEGER NOT NULL, not_numbers INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (place, run, batch)
);
CREATE TABLE worst (number INTEGER PRIMARY KEY, z BLOB, margin REAL, predicted INTEGER, fooled_by INTEGER);
"""

Key = tuple[int, int, int]  # index of the attack, run, batch


class State:
    """A file with one row for each finished batch, and the worst adversary of each image so far.

    A row and its adversaries are written in one transaction, so that a killed process leaves whole batches. Only one
    process at a time can open the file, which is created if it does not exist. The adversaries are those of the record,
    which first gets those that the file already has.

    Raises:
        ValueError: if the file is not a state, belongs to another evaluation, or is in use.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: Mapping[str, Any], record: Record) -> None:
        self._record = record
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
                        f"The state {path} is in use: expected one that no other process has open."
                    ) from error
                raise invalid("value for `state`", "a state file, or none yet", f"{path} ({error})") from error
            if theirs != ours:
                raise InvalidArgument(
                    f"The state {path} is of another evaluation: expected a file that does not exist yet, or the state "
                    f"of this one. What differs: {_differences(json.loads(theirs), fingerprint)}"
                )
            self._restore(np.frombuffer(clean_predicted, "int32"))
            failing.pop_all()

    def outcome(self, key: Key) -> Outcome | None:
        """Returns the outcome of a batch; None if it has not been finished."""
        select = "SELECT fooled, outside, not_numbers, seconds FROM batches WHERE place = ? AND run = ? AND batch = ?"
        row = self._file.execute(select, key).fetchone()
        return Outcome(np.frombuffer(row[0], bool), *row[1:]) if row else None

    def keep(self, key: Key, outcome: Outcome, changed: np.ndarray) -> None:
        """Writes the outcome of a finished batch and the adversaries that it changed."""
        record = self._record
        z, margin, predicted, fooled_by = record.z, record.margin, record.predicted, record.fooled_by
        rows = [(int(n), z[n].tobytes(), float(margin[n]), int(predicted[n]), int(fooled_by[n])) for n in changed]
        self._file.execute("BEGIN")
        self._file.executemany("INSERT OR REPLACE INTO worst VALUES (?, ?, ?, ?, ?)", rows)
        row = (*key, outcome.fooled.tobytes(), outcome.outside, outcome.not_numbers, outcome.seconds)
        self._file.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self._file.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _open(self, fingerprint: str) -> tuple[str, bytes]:
        """Returns the fingerprint and the clean predictions of the file; a new file gets those of this evaluation."""
        self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._file.execute("BEGIN EXCLUSIVE")
        if not self._file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in filter(str.strip, TABLES.split(";")):
                self._file.execute(statement)
            clean = self._record.clean_predicted.astype("int32").tobytes()
            self._file.execute("INSERT INTO evaluation VALUES (?, ?)", (fingerprint, clean))
        self._file.execute("COMMIT")
        found: tuple[str, bytes] = self._file.execute("SELECT fingerprint, clean_predicted FROM evaluation").fetchone()
        return found

    def _restore(self, clean_predicted: np.ndarray) -> None:
        record = self._record
        record.start_from(clean_predicted)  # predictions of the first process, since a random classifier has others now
        for number, z, margin, predicted, fooled_by in self._file.execute("SELECT * FROM worst"):
            record.z[number] = np.frombuffer(z, "float32").reshape(record.z.shape[1:])
            record.margin[number], record.predicted[number], record.fooled_by[number] = margin, predicted, fooled_by


def fingerprint(attack_list: AttackList, record: Record, **arguments: Any) -> dict[str, Any]:
    """Returns the values that identify an evaluation: arguments, attacks, data, and the classifier's weights.

    Raises:
        ValueError: if an attack is a callable without a name and settings that identify it.
    """
    ball = record.scorer.ball
    return {
        "layout": LAYOUT,
        **arguments,
        "eps": float(ball.radius),
        "bounds": list(ball.bounds),
        "mask": _digest() if ball.mask is None else _digest(ball.mask),
        "attacks": [
            [member.name, _identity(member), member.settings, _weights(member.attack)] for member in attack_list.attacks
        ],
        "columns": attack_list.columns,
        "data": _digest(*record.images),
        "classifier": _classifier_digest(record),
    }


def _classifier_digest(record: Record) -> str:
    """Returns a digest of layers and weights, or of a file and its source.

    That of any other callable is of its predictions and the size of its logits.
    """
    classifier = record.classifier
    if isinstance(classifier, keras.Model):
        return _digest(*_network(classifier))
    source = getattr(classifier, "source", None)
    followed = [] if source is None else _network(source)
    if file := digest(classifier):
        return _digest(np.frombuffer(file.encode(), "uint8"), *followed)
    # Rounded to a power of two, since the logits of a random classifier differ a little each time.
    sizes = np.abs(record.logits[np.isfinite(record.logits)], dtype="float64")
    size = np.log2(np.maximum(sizes.mean(), 1e-30)).round() if len(sizes) else np.nan
    return _digest(record.clean_predicted, np.asarray(size, "float32"), *followed)


def _network(model: keras.Model) -> list[np.ndarray]:
    """Returns the layers of a model as text, and its weights."""
    return [np.frombuffer(model.to_json().encode(), "uint8"), *model.get_weights()]


def _weights(attack: Any) -> list[str]:
    """Returns digests of the networks among an attack's arguments, such as the sources of a transfer."""
    given = (getattr(attack, "_recipe", None) or {}).values()
    parts = [part for value in given for part in (value if isinstance(value, (list, tuple)) else [value])]
    return [_digest(*part.get_weights()) for part in parts if isinstance(part, keras.Model)]


def _identity(member: NamedAttack) -> str:
    """Returns the name of an attack's type or function, by which a later evaluation recognizes it.

    Raises:
        ValueError: for an anonymous callable: a lambda, a local function, or an object without `get_config`.
    """
    attack = member.attack
    if (isinstance(attack, Attack) or hasattr(attack, "get_config")) and "<lambda>" not in json.dumps(member.settings):
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
    sentences = [
        f"{key} ({theirs[key]!r} there, {ours[key]!r} here)"
        if key not in ("data", "classifier", "mask") and isinstance(theirs.get(key), short)
        else key
        for key in differing
    ]
    return ", ".join(sentences) or "its layout"
