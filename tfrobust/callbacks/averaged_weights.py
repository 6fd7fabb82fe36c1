"""Validates and saves with averaged weights."""

from __future__ import annotations

from typing import Any

import keras

from tfrobust.utils import graph as backend
from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument


class AveragedWeights(keras.callbacks.CallbackList):
    """Uses the averaged weights of an optimizer with `use_ema=True` in validation and in the callbacks inside.

    average <- m * average + (1 - m) * w after each update, m the optimizer's `ema_momentum`. Training continues with w;
    at the end of `fit` Keras leaves the averages in the model. BatchNorm's moving statistics are those of w and are not
    averaged. Weights are exchanged by copies: `keras.callbacks.SwapEMAWeights` exchanges them by sums, which round, so
    that a run would depend on the number of its validations.

    Args:
        *callbacks: callbacks that read the averages at the end of an epoch, such as `ModelCheckpoint`, and not
            `Checkpoints`.

    Raises:
        InvalidArgument: in `fit`, if the optimizer has no averages.

    Example:

    >>> trainer = tfrobust.AdversarialTrainer(tfrobust.models.get("digits"), "standard")
    >>> trainer.compile(keras.optimizers.Adam(use_ema=True, ema_momentum=0.9))
    >>> data = tfrobust.data.load("digits", "validation")
    >>> averaged = tfrobust.callbacks.AveragedWeights()
    >>> history = trainer.fit(data, validation_data=data, callbacks=[averaged], verbose=0)
    >>> again = trainer.evaluate(data, verbose=0, return_dict=True)  # the averages are in the model now
    >>> abs(history.history["val_loss"][0] - again["loss"]) < 1e-6
    True
    """

    def __init__(self, *callbacks: keras.callbacks.Callback) -> None:
        super().__init__(list(callbacks))

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._optimizer: Any = backend.unscaled(getattr(model, "optimizer", None))
        if model and not self._optimizer.use_ema:
            raise InvalidArgument(
                "Expected an optimizer with use_ema=True. Received: one without averages of the weights"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._exchange()
        super().on_epoch_end(epoch, logs)
        self._exchange()

    def on_test_begin(self, logs: Any = None) -> None:
        self._exchange()
        super().on_test_begin(logs)

    def on_test_end(self, logs: Any = None) -> None:
        super().on_test_end(logs)
        self._exchange()

    def _exchange(self) -> None:
        for weight, average in keras_private.weights_and_averages(self._optimizer):
            weight_now, average_now = weight.numpy(), average.numpy()
            weight.assign(average_now)
            average.assign(weight_now)
