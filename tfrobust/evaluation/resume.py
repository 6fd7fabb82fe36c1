"""Keeps the state of an evaluation in a file, from which a killed evaluation resumes."""

import contextlib
import inspect
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfrobust.attacks import Attack
from tfrobust.classifiers import digest
from tfrobust.evaluation.attack_list import AttackList, NamedAttack
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.record import Outcome, Record
from tfrobust.utils.digest import digest_of
from tfrobust.utils.errors import InvalidArgument, invalid
from tfrobust.utils.spilled import release

LAYOUT = 4  # version of the file format and of the division into batches
TABLES = """
CREATE TABLE evaluation (fingerprint TEXT NOT NULL);
CREATE TABLE clean (number INTEGER PRIMARY KEY, predicted INTEGER NOT NULL);
CREATE TABLE outcomes (
    place INTEGER, run INTEGER, number INTEGER,
    fooled INTEGER NOT NULL, outside INTEGER NOT NULL, not_numbers INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (place, run, number)
) WITHOUT ROWID;
CREATE TABLE worst (number INTEGER PRIMARY KEY, z BLOB, margin REAL, predicted INTEGER, fooled_by INTEGER);
"""
COLUMNS = {"clean": 2, "outcomes": 7, "worst": 5}  # table -> number of its columns

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class State:
    """A file with the outcomes of the runs on each image that are finished, and the worst adversary of each so far.

    Images have their numbers in the whole data, so that the states of its parts together are a state of the whole:
    `paths` may be a list of files, which are read and not written. A single file is created if it does not exist. The
    outcomes of a batch and its adversaries are written in one transaction, so that a killed process leaves whole
    batches. Only one process at a time can open a file. The adversaries are those of the record, which first gets
    those of the files.

    Raises:
        ValueError: if a file is not a state, belongs to another evaluation, or is in use.
    """

    def __init__(self, paths: Paths, fingerprint: Mapping[str, Any], record: Record) -> None:
        self._record = record
        path, parts = (paths, ()) if isinstance(paths, (str, os.PathLike)) else (":memory:", paths)
        with contextlib.ExitStack() as failing:
            self._file = _opened(path, fingerprint)
            failing.callback(self._file.close)
            for part in parts:
                self._add(part, fingerprint)
            self._restore()
            failing.pop_all()

    def outcome(self, place: int, run: int, numbers: np.ndarray) -> Outcome | None:
        """Returns the outcome of a run of an attack on a batch of the record's images; None if it is not finished."""
        wanted = self._record.numbers[numbers].tolist()
        select = (
            "SELECT number, fooled, outside, not_numbers, seconds FROM outcomes "
            "WHERE place = ? AND run = ? AND number BETWEEN ? AND ?"
        )
        found = {number: values for number, *values in self._file.execute(select, (place, run, wanted[0], wanted[-1]))}
        if not all(number in found for number in wanted):
            return None
        fooled, outside, not_numbers, seconds = np.array([found[number] for number in wanted]).T
        return Outcome(fooled > 0, outside > 0, not_numbers > 0, float(seconds.sum()))

    def keep(self, place: int, run: int, numbers: np.ndarray, outcome: Outcome, changed: np.ndarray) -> None:
        """Writes the outcome of a finished batch, and the adversaries of the record that it changed."""
        record = self._record
        z, margin, predicted, fooled_by = record.z, record.margin, record.predicted, record.fooled_by
        worst = [
            (int(record.numbers[n]), z[n].tobytes(), float(margin[n]), int(predicted[n]), int(fooled_by[n]))
            for n in changed
        ]
        seconds = outcome.seconds / len(numbers)
        masks = (mask.astype(int).tolist() for mask in outcome[:3])
        outcomes = [(place, run, *row, seconds) for row in zip(record.numbers[numbers].tolist(), *masks, strict=True)]
        self._file.execute("BEGIN")
        self._insert("worst", worst)
        self._insert("outcomes", outcomes)
        self._file.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _insert(self, table: str, rows: Iterable[Sequence[Any]]) -> None:
        values = ", ".join("?" * COLUMNS[table])
        self._file.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({values})", rows)

    def _add(self, path: str | os.PathLike[str], fingerprint: Mapping[str, Any]) -> None:
        """Adds what the file of a part holds."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"Expected the state of a part. Received: {path}, where nothing is")
        with contextlib.closing(_opened(path, fingerprint)) as part:
            for table in COLUMNS:
                self._insert(table, part.execute(f"SELECT * FROM {table}"))

    def _restore(self) -> None:
        """Gives the record what the file has, and the file the clean predictions that it does not have."""
        record = self._record
        index = {number: n for n, number in enumerate(record.numbers.tolist())}
        clean = record.clean_predicted.copy()
        for number, predicted in self._file.execute("SELECT * FROM clean"):
            if number in index:
                clean[index[number]] = predicted
        record.start_from(clean)  # predictions of the first process, since a random classifier has others now
        self._insert("clean", zip(index, clean.tolist(), strict=True))
        for number, z, margin, predicted, fooled_by in self._file.execute("SELECT * FROM worst"):
            if (n := index.get(number)) is not None:
                record.z[n] = np.frombuffer(z, "float32").reshape(record.z.shape[1:])
                record.margin[n], record.predicted[n], record.fooled_by[n] = margin, predicted, fooled_by
        release(record.z)


def _opened(path: str | os.PathLike[str], fingerprint: Mapping[str, Any]) -> sqlite3.Connection:
    """Opens the file of a state, which is created if it does not exist, and keeps other processes out of it."""
    ours = json.dumps(fingerprint, sort_keys=True)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as failing:
        try:
            file = sqlite3.connect(path, timeout=0.1, isolation_level=None)
            failing.callback(file.close)
            file.execute("PRAGMA locking_mode = EXCLUSIVE")
            file.execute("BEGIN EXCLUSIVE")
            if not file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in filter(str.strip, TABLES.split(";")):
                    file.execute(statement)
                file.execute("INSERT INTO evaluation VALUES (?)", (ours,))
            file.execute("COMMIT")
            (theirs,) = file.execute("SELECT fingerprint FROM evaluation").fetchone()
        except (sqlite3.Error, TypeError) as error:
            if "locked" in str(error):
                raise InvalidArgument(
                    f"The state {path} is in use: expected one that no other process has open."
                ) from error
            raise invalid("value for `state`", "a state file, or none yet", f"{path} ({error})") from error
        if theirs != ours:
            raise InvalidArgument(
                f"The state {path} is of another evaluation: expected a file that does not exist yet, or the state of "
                f"this one. What differs: {_differences(json.loads(theirs), fingerprint)}"
            )
        failing.pop_all()
    return file


def fingerprint(attack_list: AttackList, record: Record, data: Images, **arguments: Any) -> dict[str, Any]:
    """Returns the values that identify an evaluation: arguments, attacks, data, and the classifier's weights.

    They are the same for all parts of the data: `data` is the whole.

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
        "data": _digest(*data),
        "classifier": _classifier_digest(record, data),
    }


def _classifier_digest(record: Record, data: Images) -> str:
    """Returns a digest of layers and weights, or of a file and its source.

    That of any other callable is of its predictions for all data and the size of its logits.
    """
    classifier = record.classifier
    if isinstance(classifier, keras.Model):
        return _digest(*_network(classifier))
    source = getattr(classifier, "source", None)
    followed = [] if source is None else _network(source)
    if file := digest(classifier):
        return _digest(np.frombuffer(file.encode(), "uint8"), *followed)
    if record.images is not data:  # a part, of which another one has other predictions
        record = Record(classifier, record.scorer.ball, data, record.batch_size, record.scorer.draws)
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
