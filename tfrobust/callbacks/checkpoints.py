"""Saves the state of a run once an epoch, so that a killed run can resume."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfrobust.trainer import AdversarialTrainer
from tfrobust.training.distribution import is_chief, wait_for_all
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument

OLDER = {"search_dtype": "float32"}  # what a checkpoint of an older version does not say


class Checkpoints(keras.callbacks.Callback):
    """Saves the state of a run once an epoch, so that a killed run resumes as if it had never stopped.

    The state is every variable of the trainer (weights, BatchNorm's statistics, dropout's seeds, the number of batches)
    and of its optimizer. Random starts and `tfrobust.data` pipelines are functions of that number and of the epoch. It
    has to be the last callback, so that the others have written an epoch when the epoch counts as done.

    Args:
        trainer: a compiled `AdversarialTrainer`, or any compiled Keras model.
        directory: folder of the checkpoints; written by `tf.train.CheckpointManager`, each beside and then renamed.
        max_to_keep: number of the newest checkpoints that are kept; older ones replace a damaged newest one.

    Raises:
        InvalidArgument: if the model is not compiled or has no weights yet; in `fit`, if `initial_epoch` is before the
            newest checkpoint or the checkpoints are of another model or objective. Nothing is overwritten.

    Example:

    >>> import tempfile
    >>> trainer = tfrobust.AdversarialTrainer(tfrobust.models.get("digits"), "standard")
    >>> trainer.compile("adam")
    >>> checkpoints = tfrobust.callbacks.Checkpoints(trainer, tempfile.mkdtemp())
    >>> first = checkpoints.restore()  # 0: nothing there yet
    >>> data = tfrobust.data.load("digits", "validation", first_epoch=first)
    >>> history = trainer.fit(data, initial_epoch=first, epochs=2, callbacks=[checkpoints], verbose=0)
    >>> checkpoints.restore()
    2
    """

    def __init__(self, trainer: keras.Model, directory: str | Path, max_to_keep: int = 2) -> None:
        super().__init__()
        backend.require("Checkpoints")
        if not (trainer.compiled and trainer.built):
            missing = "compiled" if not trainer.compiled else "built: call it on an input first"
            raise InvalidArgument(
                f"Expected a compiled model that has its weights. Received: one that is not {missing}"
            )
        with trainer.distribute_strategy.scope():
            trainer.optimizer.build(trainer.trainable_variables)
        variables = [*trainer.variables, *trainer.optimizer.variables]
        self._state = {f"{i:05d}": variable.value for i, variable in enumerate(variables)}
        self._run = _Run(
            {
                **(_config(trainer) if isinstance(trainer, AdversarialTrainer) else {}),
                "optimizer": type(trainer.optimizer).__name__,
                # Without the numbers that Keras gives to layers: a second model of one process has others.
                "variables": [f"{v.name} {v.dtype}{list(v.shape)}" for v in trainer.variables],
                "optimizer_variables": [f"{v.dtype}{list(v.shape)}" for v in trainer.optimizer.variables],
            }
        )
        # Set to 0 if a checkpoint of an older version has no number of batches; `fit` then computes it.
        self._batches = trainer._batches if isinstance(trainer, AdversarialTrainer) else None
        counted = {} if self._batches is None else {"batches": self._batches}
        self._checkpoint = tf.train.Checkpoint(run=self._run, **counted, **self._state)
        self._strategy = trainer.distribute_strategy
        self._directory, self._max_to_keep = Path(directory), max_to_keep
        self._manager: Any = None

    def restore(self) -> int:
        """Restores the newest complete checkpoint, if there is one, and warns of newer ones that are damaged.

        Returns:
            The number of finished epochs: the `initial_epoch` of `fit` and the `first_epoch` of `tfrobust.data.load`.

        Raises:
            InvalidArgument: if the checkpoint is of another model, objective, attack or optimizer, or all are damaged.
        """
        newest, damaged = self._newest()
        for number, reason in damaged.items():
            instead = f"epoch {newest} is taken" if newest else "none is left"
            warnings.warn(
                f"The checkpoint of epoch {number} in {self._directory} is damaged, {instead}: {reason}", stacklevel=2
            )
        if newest:
            if self._batches is not None:
                self._batches.assign(0)
            self._checkpoint.restore(self._prefix(newest)).expect_partial()
        return newest

    def on_train_begin(self, logs: Any = None) -> None:
        self._manager = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._manager is not None:
            return
        newest, _ = self._newest()
        if newest > epoch:
            raise InvalidArgument(
                f"Expected `fit` with initial_epoch={newest}, as `restore()` returns it, or another folder than "
                f"{self._directory}, which holds a checkpoint of epoch {newest}. Received: initial_epoch={epoch}"
            )
        if _listed(self._directory) is None and is_chief(self._strategy):  # the manager would read it
            (self._directory / "checkpoint").unlink(missing_ok=True)
        # All workers take part in a save, because some variables differ between them; only the chief's files are kept.
        self._own = None if is_chief(self._strategy) else tempfile.TemporaryDirectory()
        directory = self._own.name if self._own else str(self._directory)
        self._manager = tf.train.CheckpointManager(self._checkpoint, directory, self._max_to_keep)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._run.epochs_done = epoch + 1
        self._manager.save(checkpoint_number=epoch + 1)
        self._sweep()
        wait_for_all(self._strategy)

    def _prefix(self, number: int) -> str:
        return str(self._directory / f"ckpt-{number}")

    def _newest(self) -> tuple[int, dict[int, str]]:
        """Returns the number of the newest complete checkpoint, 0 for none, and the errors of newer ones."""
        # The files are read too, because the manager's list may be damaged as well.
        listed = _listed(self._directory)
        names = {path.name.split(".")[0] for path in self._directory.glob("ckpt-*.*")} | (listed or set())
        numbers = (name.removeprefix("ckpt-") for name in names)
        damaged: dict[int, str] = {}
        for number in sorted((int(n) for n in numbers if n.isdecimal()), reverse=True):
            try:
                run = _read(self._prefix(number))
            except Exception as error:  # the reader has many errors for a damaged file
                damaged[number] = " ".join(str(error).split())[:200]
                continue
            self._run.check(run, self._prefix(number))
            return number, damaged
        if listed == set():  # there is no checkpoint, or the first save was killed
            return 0, {}
        found = "; ".join(f"epoch {number} is damaged: {reason}" for number, reason in damaged.items())
        raise InvalidArgument(
            f"Expected a whole checkpoint in {self._directory}; delete the folder to train from the start. "
            f"Received: {found or 'none of those that are listed there'}"
        )

    def _sweep(self) -> None:
        """Deletes files that the manager does not know, from killed saves or a damaged list."""
        kept = {Path(prefix).name for prefix in self._manager.checkpoints}
        for path in Path(self._manager.directory).glob("ckpt-*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.split(".")[0] not in kept:
                path.unlink(missing_ok=True)


class _Run(tf.train.experimental.PythonState):
    """The description of a run and its number of finished epochs, stored in a checkpoint beside the variables."""

    KEY = "run/.ATTRIBUTES/py_state"

    def __init__(self, described: Mapping[str, Any]) -> None:
        super().__init__()
        self.epochs_done = 0
        self._described = json.loads(json.dumps(described, default=lambda value: type(value).__name__))

    def serialize(self) -> str:
        return json.dumps({"epochs_done": self.epochs_done, "described": self._described})

    def deserialize(self, string_value: bytes) -> None:
        self.epochs_done = json.loads(string_value)["epochs_done"]

    def check(self, stored: bytes, path: str) -> None:
        """Raises an error that names the difference if a checkpoint is of another run."""
        ours, theirs = ({**OLDER, **each} for each in (self._described, json.loads(stored)["described"]))
        key = next((key for key in {**ours, **theirs} if theirs.get(key) != ours.get(key)), None)
        if key is None:
            return
        there, here = theirs.get(key), ours.get(key)
        if isinstance(there, list) and isinstance(here, list):
            differ = [(a, b) for a, b in zip(there, here, strict=False) if a != b]
            there, here = differ[0] if differ else (len(there), len(here))
        raise InvalidArgument(
            f"Expected a checkpoint of this model, objective and optimizer, or another folder. Received: {path}, with "
            f"other {key}: {there!r} there, {here!r} here"
        )


def _config(trainer: AdversarialTrainer) -> dict[str, Any]:
    try:
        return trainer.get_config()
    except ValueError:  # an objective or attack that no registered factory made has no config
        return {"terms": list(trainer.objective.outer), "search_dtype": trainer.search_dtype}


def _read(prefix: str) -> bytes:
    """Reads a whole checkpoint, whose checksums TensorFlow verifies, and returns the description of its run."""
    reader = tf.train.load_checkpoint(prefix)
    for key in reader.get_variable_to_shape_map():
        reader.get_tensor(key)
    return reader.get_tensor(_Run.KEY)


def _listed(directory: Path) -> set[str] | None:
    """Returns the names in the manager's list: an empty set without a list, None if the list is damaged."""
    try:
        state = tf.train.get_checkpoint_state(str(directory))
    except ValueError:
        return None
    if state is None:
        return None if (directory / "checkpoint").exists() else set()
    return {Path(path).name for path in state.all_model_checkpoint_paths}
