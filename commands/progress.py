"""Shows how far a training has come: by Keras' bar on a terminal, by a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

LINES = 10  # of a training whose epochs are short
PAUSE = 300.0  # seconds without a line, at most, of a training whose epochs are long


def say(text: str) -> None:
    """Prints a line, in the place of an unfinished bar on a terminal."""
    print(f"\r\033[K{text}" if sys.stdout.isatty() else text, flush=True)


def of_fit() -> tuple[int, list[keras.callbacks.Callback]]:
    """Returns the arguments `verbose` and `callbacks` of Keras' `fit` that show the progress."""
    return (1, []) if sys.stdout.isatty() else (0, [Lines()])


class Lines(keras.callbacks.Callback):
    """Prints a line for every tenth of the epochs, and after five minutes without one; `clock` returns seconds."""

    def __init__(self, say: Callable[[str], None] = say, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._say, self._clock = say, clock

    def on_train_begin(self, logs: Any = None) -> None:
        self._told = self._clock()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._clock() - self._told >= PAUSE:
            self._tell(f"step {batch + 1}/{self.params['steps']}, ", logs or {})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        epochs = self.params["epochs"]
        whole = self._epoch % -(-epochs // LINES) == 0 or self._epoch == epochs
        if whole or self._clock() - self._told >= PAUSE:
            self._tell("", logs or {})

    def _tell(self, step: str, logs: Mapping[str, Any]) -> None:
        self._told = self._clock()
        figures = ", ".join(f"{name} {float(value):.4g}" for name, value in logs.items())
        self._say(f"Epoch {self._epoch}/{self.params['epochs']}: {step}{figures}")
