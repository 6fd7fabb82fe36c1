"""Ends a training whose loss is not finite or explodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from tfrobust.trainer import AdversarialTrainer
from tfrobust.training.guard import Guard
from tfrobust.utils.validation import check_number


class TerminateOnDivergence(keras.callbacks.Callback):
    """Ends `fit` at the update whose loss is not finite or explodes, and saves its batch.

    Every term of the loss, the regularizers' penalty and the norm of the gradient are checked before the update, so
    that the weights stay as they were. With XLA (`jit_compile=True`) and for a plain Keras model only the logged loss
    is checked, every hundred steps and at the end of an epoch, and no batch is saved.

    Args:
        directory: folder for the batch, `diverged-UPDATE.npz` with `x` `(B, H, W, C)`, `y` `(B,)` and, where there is
            an attack, `x_adv`.
        limit: the greatest absolute value that a term may have.

    Raises:
        FloatingPointError: in `fit`; it names the update, the term, its value and the file.

    Example:

    >>> trainer = tfrobust.AdversarialTrainer(tfrobust.models.get("digits"), "standard")
    >>> trainer.compile(keras.optimizers.SGD(1e9))
    >>> import tempfile
    >>> watch = tfrobust.callbacks.TerminateOnDivergence(tempfile.mkdtemp())
    >>> trainer.fit(tfrobust.data.load("digits", "validation"), callbacks=[watch], verbose=0)
    Traceback (most recent call last):
    FloatingPointError: Diverged at update 2: expected all terms finite and at most 1e+06. Received: ...
    """

    EVERY = 100  # steps between two checks of the logs, each of which waits for the device

    def __init__(self, directory: str | Path, limit: float = 1e6) -> None:
        super().__init__()
        self._guard = Guard(str(directory), float(check_number("limit", limit, 0, above=True)))

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if isinstance(model, AdversarialTrainer) and not model.jit_compile and model.guard != self._guard:
            model.guard = self._guard
            model.train_function = None  # it was traced without the guard

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if getattr(self.model, "guard", None) is None and batch % self.EVERY == self.EVERY - 1:
            self._check(f"by step {batch + 1} of the epoch", logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._check(f"by the end of epoch {epoch + 1}", logs)

    def _check(self, when: str, logs: Any) -> None:
        loss = float((logs or {}).get("loss", 0.0))
        if not abs(loss) <= self._guard.limit:
            raise FloatingPointError(
                f"Diverged {when}: expected a finite loss of at most {self._guard.limit:g}. Received: loss={loss:g}; "
                "the update was made and its batch is not saved"
            )
