"""What the trainer has to know of `fit`: the epoch, the steps of an epoch, and whether there was any data."""

from __future__ import annotations

import warnings
from typing import Any

import keras


class Clock(keras.callbacks.Callback):
    """Sets the trainer's fractional epoch, and speaks up about a `fit` that cannot do what was meant."""

    def __init__(self, trainer: Any) -> None:
        super().__init__()
        self._trainer = trainer
        self._steps: int | None = None
        self._seen = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._steps = self.params.get("steps")
        self._warn_of_slow_statistics()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._seen = 0
        self._trainer.set_epoch(epoch, self._steps)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._seen = batch + 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._seen:
            raise ValueError("Invalid data: expected at least one batch. Received: an empty dataset")
        self._steps = self._steps or self._seen

    def _warn_of_slow_statistics(self) -> None:
        """An attack sees BatchNorm's moving statistics; while these lag behind, it attacks another network."""
        if not self._steps:
            return
        planned = self._steps * self.params["epochs"]
        for layer in self._trainer.classifier._flatten_layers():
            momentum = getattr(layer, "momentum", 0.0)
            moves = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            if moves and planned * (1 - momentum) < 5:
                warnings.warn(
                    f"The moving statistics of {layer.name!r} (momentum {momentum}) cannot settle in the {planned} "
                    f"steps planned, and attacks read them: expected at least {5 / (1 - momentum):.0f} steps, or a "
                    "smaller momentum. The networks of tfrobust.models use 0.9.",
                    stacklevel=2,
                )
                return
