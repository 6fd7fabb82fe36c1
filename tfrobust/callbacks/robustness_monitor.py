"""Shows in TensorBoard, during training, the adversaries and the gradients of a few images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfrobust.attacks import GradientAttack
from tfrobust.interpret.snapshot import Snapshot, as_adversary, check_deviations
from tfrobust.trainer import AdversarialTrainer
from tfrobust.training.adversaries import check_radii
from tfrobust.training.distribution import is_chief
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.validation import check_integer, check_nonnegative


class RobustnessMonitor(keras.callbacks.Callback):
    """Writes to TensorBoard, every n epochs, how the classifier sees a few images.

    Pictures in the tab `Images`: `images/clean`, `images/adversarial` and `images/perturbation` (x_adv - x by its
    greatest value in the image; grey is no change); `maps/gradient`, the gradient of the cross entropy by the clean
    pixels as `tfrobust.interpret.clip_deviations` shows it; if the classifier has them, `maps/attention/BLOCK` and
    `maps/class_activation` of the predicted class, from the image's least value (black) to its greatest. Images of less
    than 64 pixels are enlarged by a whole factor.

    Scalars of these few images: `clean_accuracy`, `robust_accuracy` and `coverage`, as `tfrobust.interpret.coverage`.
    Figures to publish come from `tfrobust.evaluate`.

    The callback does not change the training by a bit. Epochs are numbered from 0, as in
    `keras.callbacks.TensorBoard`, and continue after a resume.

    Args:
        images: the first `count` are shown, of any container that `fit` takes: a dataset, a `PyDataset`, a generator or
            a loader of batches (x, y), or a tuple of arrays, pixels `(N, H, W, C)` of one or three channels and labels.
        log_dir: that of `keras.callbacks.TensorBoard`; the callback writes to its subfolder `robustness`.
        every: number of epochs between two reports.
        attack: an attack of `tfrobust.attacks`, its name or config, or a callable `(classify, x, y) -> x_adv`. None:
            the trainer's attack of validation. A schedule of eps has its value at the end of the training.
        count: number of images.
        deviations: standard deviations to which the gradient is clipped.
        threshold: fraction of the image's greatest gradient above which a pixel counts in `coverage`.

    Raises:
        ValueError: if a number is out of range or `attack` is not an attack; in `fit`, before the first step, if the
            model is not an `AdversarialTrainer`, there is no attack, or the images are invalid or cannot be shown.

    Example:

    >>> import tempfile
    >>> trainer = tfrobust.AdversarialTrainer(
    ...     tfrobust.models.get("digits"), "madry", tfrobust.attacks.pgd(eps=0.15, steps=2)
    ... )
    >>> trainer.compile("adam")
    >>> data, folder = tfrobust.data.load("digits", "validation"), tempfile.mkdtemp()
    >>> monitor = tfrobust.callbacks.RobustnessMonitor(data, folder, every=2, attack=tfrobust.attacks.fgsm(eps=0.15))
    >>> history = trainer.fit(data, epochs=2, callbacks=[monitor], verbose=0)
    >>> [path.name for path in Path(folder).iterdir()]
    ['robustness']

    Reference: FPR-v1, figures 3 and 4; AELF, figure 4; InfoFeature, equation 6.
    """

    def __init__(
        self,
        images: Any,
        log_dir: str | Path,
        every: int = 1,
        *,
        attack: Any = None,
        count: int = 8,
        deviations: float = 3.0,
        threshold: float = 0.1,
    ) -> None:
        super().__init__()
        self._images = images
        self._directory = os.path.join(log_dir, "robustness")
        self._every = check_integer("every", every, 1)
        self._attack = None if attack is None else as_adversary(attack)
        self._count = check_integer("count", count, 1)
        self._deviations = check_deviations(deviations)
        self._threshold = check_nonnegative("threshold", threshold)
        self._writer: Any = None

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if not isinstance(model, AdversarialTrainer):
            raise InvalidArgument(f"Expected an AdversarialTrainer, whose `fit` a monitor watches. Received: {model!r}")
        self._snapshot = Snapshot(
            model.classifier,
            self._images,
            self._count,
            self._adversary(model),
            model.seed,
            model._batch_spec.bounds,
            self._deviations,
            self._threshold,
        )

    def on_train_begin(self, logs: Any = None) -> None:
        chief = is_chief(self.model.distribute_strategy)
        self._writer = tf.summary.create_file_writer(self._directory) if chief else None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self._every:
            return
        # Every machine takes part, because some variables are read by all together; the chief writes.
        pictures, scalars = self._snapshot()
        if self._writer is None:
            return
        # `TensorBoard` may have restricted the steps that are recorded in `fit`.
        with tf.summary.record_if(True), self._writer.as_default(step=epoch):
            for name, picture in pictures.items():
                tf.summary.image(name, picture, max_outputs=self._count)
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        if self._writer is not None:
            self._writer.close()

    def _adversary(self, trainer: AdversarialTrainer) -> Any:
        adversary = trainer._validation_adversary if self._attack is None else self._attack
        if adversary is None:
            raise InvalidArgument(
                "Expected `attack=`, such as tfrobust.attacks.pgd(eps=8/255, steps=20), for a trainer that has none. "
                "Received: attack=None"
            )
        if not isinstance(adversary, GradientAttack):
            return adversary
        if self._attack is None:
            check_radii(None, adversary, float(trainer._last_epoch.numpy()))
        return adversary.at(trainer._last_epoch)
