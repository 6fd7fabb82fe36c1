"""What a classifier relies on and how it is fooled, in TensorBoard while it trains."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfrobust import losses
from tfrobust.attacks import GradientAttack
from tfrobust.interpret.batches import Batch, Search, as_adversary, batches, graph, logits_of
from tfrobust.interpret.gradients import check_deviations, gradient, normalized, rescaled
from tfrobust.interpret.maps import enlarged
from tfrobust.trainer import AdversarialTrainer
from tfrobust.training.adversaries import check_radii
from tfrobust.training.distribution import is_chief
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.validation import check_integer, check_nonnegative

Tensor = Any

LEAST_SIDE = 64  # pixels, of a picture that can be looked at


class RobustnessMonitor(keras.callbacks.Callback):
    """Shows a few images to the classifier every n epochs and writes what it makes of them to TensorBoard.

    Pictures, beside each other in the `Images` tab: `images/clean`, `images/adversarial` and `images/perturbation`
    (x_adv - x by its greatest value in the image; grey is no change); `maps/gradient`, that of the cross entropy by the
    clean pixels as `tfrobust.interpret.clip_deviations` shows it; and from a classifier that has them `maps/attention/`
    with the name of each block and `maps/class_activation` of the predicted class in the form of its head, both from
    the image's least value (black) to its greatest. Small images are enlarged by nearest neighbour, by the least whole
    factor that makes both sides at least 64 pixels: 8 for the 8x8 digits, 2 for 32x32.

    Scalars, of these images alone: `clean_accuracy`, `robust_accuracy` and `coverage`, the share of pixels of
    `tfrobust.interpret.coverage`. They are few: follow them, and quote those of `tfrobust.evaluate`.

    Training is left as it is, bit for bit. Epochs have the numbers that `keras.callbacks.TensorBoard` gives them, from
    0, and go on after a resume.

    Args:
        images: the first `count` are shown, of any container that `fit` takes: a dataset, a `PyDataset`, a generator or
            a loader of batches (x, y), or a tuple of arrays, pixels `(N, H, W, C)` of one or three channels and labels.
        log_dir: that of `keras.callbacks.TensorBoard`; written to is its subfolder `robustness`.
        every: of how many epochs one is looked at, the last of them; the others cost nothing.
        attack: an attack of `tfrobust.attacks`, its name or config, or a callable `(classify, x, y) -> x_adv`. None:
            what the trainer's validation attacks by. A schedule of eps is taken where the training ends.
        count: how many images.
        deviations: standard deviations to which the gradient is clipped.
        threshold: of `coverage`: a pixel counts whose gradient exceeds this part of the image's greatest.

    Raises:
        ValueError: for numbers out of range and what is no attack; in `fit`, before the first step, for a model that is
            no `AdversarialTrainer`, one without an attack where none is given, and images that the trainer would refuse
            or that no picture can show.

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
        classifier, bounds = model.classifier, model._batch_spec.bounds
        self._batch = _first(self._images, self._count, classifier, bounds)
        self._search = Search(classifier, self._adversary(model), model.seed)
        self._seen = graph(_seeing(classifier, bounds, self._deviations, self._threshold))

    def on_train_begin(self, logs: Any = None) -> None:
        self._writer = tf.summary.create_file_writer(self._directory) if is_chief(self._strategy) else None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if (epoch + 1) % self._every:
            return
        x, y, _ = self._batch
        # On every machine, for some variables are read by all together; the chief writes.
        pictures, scalars = self._seen(x, y, self._search(self._batch))
        if self._writer is None:
            return
        # `TensorBoard` may have said, for all that is written in `fit`, which steps are recorded.
        with tf.summary.record_if(True), self._writer.as_default(step=epoch):
            for name, picture in pictures.items():
                tf.summary.image(name, picture, max_outputs=self._count)
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        if self._writer is not None:
            self._writer.close()

    @property
    def _strategy(self) -> Any:
        return self.model.distribute_strategy

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


def _first(images: Any, count: int, classifier: keras.Model, bounds: tuple[float, float]) -> Batch:
    """Returns the first images as one batch, checked as a step of training checks them."""
    found: list[Batch] = []
    for batch in batches([classifier], images, "robustness monitor", (), count, bounds, endless=True):
        found.append(batch)
        if sum(len(part.y) for part in found) >= count:
            break
    first = Batch(*(tf.concat(parts, axis=0)[:count] for parts in zip(*found, strict=True)))
    if first.x.shape[-1] not in (1, 3):
        raise InvalidArgument(
            f"Invalid images: expected one channel or three, of which a picture is made. Received: {first.x.shape}"
        )
    return first


def _seeing(
    classifier: keras.Model, bounds: tuple[float, float], deviations: float, threshold: float
) -> Callable[..., Any]:
    """Returns `(x, y, x_adv) -> (pictures in [0, 1], scalars)`, each by name; in graph code."""
    low, high = bounds

    def seen(x: Tensor, y: Tensor, x_adv: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        g, outputs = gradient(classifier, x, y), classifier(x, training=False)
        pictures = {
            "images/clean": (x - low) / (high - low),
            "images/adversarial": (x_adv - low) / (high - low),
            "images/perturbation": (1 + normalized(x_adv - x)) / 2,
            "maps/gradient": rescaled(g, deviations),
            **{f"maps/{name}": rescaled(enlarged(values, x)[..., None]) for name, values in _maps(outputs).items()},
        }
        scalars = {
            "clean_accuracy": ops.mean(losses.correct(outputs["logits"], y)),
            "robust_accuracy": ops.mean(losses.correct(logits_of(classifier, x_adv), y)),
            "coverage": ops.mean(ops.cast(ops.max(ops.abs(normalized(g)), axis=-1) > threshold, "float32")),
        }
        return {name: _enlarged(picture) for name, picture in pictures.items()}, scalars

    return seen


def _maps(outputs: Any) -> dict[str, Tensor]:
    """Returns what the outputs hold of attention and class activation, each `(B, h, w)`."""
    maps = {f"attention/{block}": weights for block, weights in outputs.get("attention", {}).items()}
    if "cam" in outputs:
        label = ops.argmax(outputs["logits"], axis=-1)[:, None, None, None]
        maps["class_activation"] = ops.take_along_axis(outputs["cam"], label, axis=-1)[..., 0]
    return maps


def _enlarged(pictures: Tensor) -> Tensor:
    factor = -(-LEAST_SIDE // min(pictures.shape[1:3]))
    return ops.repeat(ops.repeat(pictures, factor, axis=1), factor, axis=2)
