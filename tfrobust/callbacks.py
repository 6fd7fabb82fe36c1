"""Callbacks for `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf


class Checkpoints(keras.callbacks.Callback):
    """Keeps all of a run's state once an epoch, so that a killed run goes on as if it had never stopped.

    All state is every variable of the trainer (weights, BatchNorm's statistics, dropout's seeds) and of its optimizer.
    Random starts and `tfrobust.data` pipelines need none: they are functions of the step and of the epoch. Give it as
    the last callback, so that what the others wrote of an epoch is there when the epoch counts as done.

    Args:
        trainer: a compiled `AdversarialTrainer`, or any compiled Keras model.
        directory: folder of the checkpoints; written by `tf.train.CheckpointManager`, each beside and then renamed.
        max_to_keep: how many of the newest are kept.

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
        trainer.optimizer.build(trainer.trainable_variables)
        self._epochs_done = tf.Variable(0, dtype=tf.int64, trainable=False)
        variables = [*trainer.variables, *trainer.optimizer.variables]
        self._state = {f"{i:05d}": variable.value for i, variable in enumerate(variables)}
        self._checkpoint = tf.train.Checkpoint(epochs_done=self._epochs_done, **self._state)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(directory), max_to_keep=max_to_keep)

    def restore(self) -> int:
        """Restores the newest checkpoint, if there is one.

        Returns:
            How many epochs are done: the `initial_epoch` of `fit` and the `first_epoch` of `tfrobust.data.load`.

        Raises:
            ValueError: for a checkpoint of another model or optimizer.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return 0
        expected = {name: tuple(variable.shape) for name, variable in self._state.items()}
        stored = tf.train.load_checkpoint(path).get_variable_to_shape_map()
        received = {key.split("/")[0]: tuple(shape) for key, shape in stored.items() if key[0].isdigit()}
        if expected != received:
            raise ValueError(
                f"Expected a checkpoint of this model and optimizer, {len(expected)} variables of its shapes. "
                f"Received: {path}, with {len(received)} of others"
            )
        self._checkpoint.restore(path).expect_partial()
        return int(self._epochs_done.numpy())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epochs_done.assign(epoch + 1)
        self._manager.save(checkpoint_number=epoch + 1)
