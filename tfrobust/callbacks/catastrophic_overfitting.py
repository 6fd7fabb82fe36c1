"""Detects catastrophic overfitting of single-step training, once an epoch."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfrobust import losses
from tfrobust.attacks import GradientAttack, RelativeStepSize
from tfrobust.data.batch import prepare
from tfrobust.data.containers import batches_of
from tfrobust.trainer import AdversarialTrainer
from tfrobust.training.adversaries import validation_adversary
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument, plain_errors
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor


class CatastrophicOverfitting(keras.callbacks.Callback):
    """Detects a training that has become robust against one step, FGSM, but not against PGD.

    Single-step training collapses within an epoch: accuracy under PGD falls to near zero while that under FGSM rises.
    Once an epoch both are measured on the same images, in the ball of the trainer's attack, and a gap between them is
    the sign. They are logged as `fgsm_accuracy` and `pgd_accuracy`.

    Wong et al. 2020 (Fast is Better than Free), section 5.4; Andriushchenko and Flammarion 2020 (Understanding and
    Improving Fast Adversarial Training), section 2.

    Args:
        data: images that are not trained on, in any container that `fit` takes: a dataset, a `PyDataset`, a generator
            or a loader of batches, or `(x, y)`.
        action: "warn"; "stop" the training; or "restore" the weights of the last epoch before it, and stop.
        gap: the greatest allowed difference of the accuracies under FGSM and under PGD. Adversarial training that
            works stays below 0.1.
        batches: number of batches that are read from `data`.

    Raises:
        InvalidArgument: if the action is unknown or there is no data; in `fit`, before the first step, if the trainer
            has no attack or the images and labels are invalid.

    Example:

    >>> held_out = tfrobust.data.load("digits", "validation")
    >>> tfrobust.callbacks.CatastrophicOverfitting(held_out, action="restore").action
    'restore'
    """

    # Each action and the sentence of its warning.
    ACTIONS: Mapping[str, str] = {
        "warn": "",
        "stop": " The training stops.",
        "restore": " Its weights of the epoch before are put back.",
    }

    def __init__(self, data: Any, action: str = "warn", gap: float = 0.3, batches: int = 4) -> None:
        super().__init__()
        if action not in self.ACTIONS:
            raise unknown("value for `action`", action, self.ACTIONS)
        self.action, self.gap = action, gap
        self._batches = list(itertools.islice(batches_of(data, 256, endless=True), batches))
        if not self._batches:
            raise InvalidArgument("Invalid data: expected at least one image. Received: none")

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if not isinstance(model, AdversarialTrainer) or model.attack is None:
            raise InvalidArgument(f"Expected an AdversarialTrainer with an attack. Received: {model!r}")
        with plain_errors():
            self._checked = [prepare(model._batch_spec.check(x, y), model._batch_spec)[:2] for x, y in self._batches]
        ball = model.attack.ball
        fgsm = GradientAttack(ball, ball.steepest(RelativeStepSize(1.0)), 1, start="none")
        pgd = validation_adversary(model.attack, None, model.objective)
        assert pgd is not None
        self._accuracies = {"fgsm_accuracy": self._accuracy(fgsm), "pgd_accuracy": self._accuracy(pgd)}

    def on_train_begin(self, logs: Any = None) -> None:
        self._sound = self.model.classifier.get_weights()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        fgsm, pgd = (measure(epoch + 1.0) for measure in self._accuracies.values())
        if logs is not None:
            logs.update(zip(self._accuracies, (fgsm, pgd), strict=True))
        if fgsm - pgd <= self.gap:
            self._sound = self.model.classifier.get_weights()
            return
        warnings.warn(
            f"Catastrophic overfitting in epoch {epoch + 1}: the classifier is right on {fgsm:.2f} under FGSM and on "
            f"{pgd:.2f} under PGD.{self.ACTIONS[self.action]} Expected a gap of at most {self.gap:g}; train with "
            "smaller steps, more of them, or a smaller eps.",
            stacklevel=2,
        )
        if self.action != "warn":
            self.model.stop_training = True
        if self.action == "restore":
            self.model.classifier.set_weights(self._sound)

    def _accuracy(self, adversary: GradientAttack) -> Any:
        trainer = self.model

        @backend.compiled
        def right(x: Tensor, y: Tensor, epoch: Tensor) -> Tensor:
            z, _ = adversary.at(epoch).observe(trainer._classify, x, y)
            return losses.correct(trainer._classify(z)["logits"], y)

        def measure(epoch: float) -> float:
            found = [right(x, y, tf.constant(epoch)) for x, y in self._checked]
            return float(tf.reduce_mean(tf.concat(found, axis=0)))

        return measure
