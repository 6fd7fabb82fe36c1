"""A loss that is not finite or explodes ends `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from tfrobust.trainer import AdversarialTrainer
from tfrobust.training.guard import Guard
from tfrobust.utils.errors import InvalidArgument


class Divergence(keras.callbacks.Callback):
    """Ends `fit` at the update whose loss is not finite or explodes, and saves its batch.

    Every term of the loss, the regularizers' penalty and the norm of the gradient are looked at before the update
    touches a weight: those of the update before are kept. With XLA (`jit_compile=True`) and for a plain Keras model
    only the logged loss is seen, every hundred steps and at the end of an epoch, and no batch is saved.

    Args:
        directory: folder for the batch, `diverged-UPDATE.npz` with `x` `(B, H, W, C)`, `y` `(B,)` and, where there is
            an attack, `x_adv`.
        limit: the greatest size of a term that is not taken for an explosion.

    Raises:
        FloatingPointError: in `fit`; it names the update, the term, its value and the file.

    Example:

    >>> trainer = tfrobust.AdversarialTrainer(tfrobust.models.get("digits"), "standard")
    >>> trainer.compile(keras.optimizers.SGD(1e9))
    >>> import tempfile
    >>> watch = tfrobust.callbacks.Divergence(tempfile.mkdtemp())
    >>> trainer.fit(tfrobust.data.load("digits", "validation"), callbacks=[watch], verbose=0)
    Traceback (most recent call last):
    FloatingPointError: Diverged at update 2: expected all terms finite and at most 1e+06. Received: ...
    """

    EVERY = 100  # steps; a look at the logs waits for the device

    def __init__(self, directory: str | Path, limit: float = 1e6) -> None:
        super().__init__()
        if not limit > 0:
            raise InvalidArgument(f"Invalid value for `limit`: expected a positive number. Received: {limit!r}")
        self._guard = Guard(str(directory), float(limit))

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if isinstance(model, AdversarialTrainer) and not model.jit_compile and model.guard != self._guard:
            model.guard = self._guard
            model.train_function = None  # traced without it

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if getattr(self.model, "guard", None) is None and batch % self.EVERY == self.EVERY - 1:
            self._look(f"by step {batch + 1} of the epoch", logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._look(f"by the end of epoch {epoch + 1}", logs)

    def _look(self, when: str, logs: Any) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if not abs(loss) <= self._guard.limit:
            raise FloatingPointError(
                f"Diverged {when}: expected a finite loss of at most {self._guard.limit:g}. Received: loss={loss:g}; "
                "the update was made and its batch is not saved"
            )
