"""Data batch by batch, checked as it arrives, and graphs that are traced once for every batch size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from tfrobust import attacks, losses
from tfrobust.attacks import view_losses, where_rows
from tfrobust.classifiers import check_classifier, in_inference
from tfrobust.data.batch import BatchSpec, prepare
from tfrobust.data.containers import batches_of
from tfrobust.evaluation import returned
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument, plain_errors
from tfrobust.utils.graph import traced
from tfrobust.utils.random import ImageNoise, stream

Tensor = Any
Bounds = tuple[float, float]


class Batch(NamedTuple):
    """Pixels `(B, H, W, C)` float32, labels `(B,)` int32 and the images' numbers in the data, `(B,)` int32."""

    x: Tensor
    y: Tensor
    numbers: Tensor


def batches(
    classifiers: Iterable[Any],
    data: Any,
    reader: str,
    needs: Iterable[str] = (),
    batch_size: int = 256,
    bounds: Bounds = (0.0, 1.0),
    endless: bool = False,
) -> Iterator[Batch]:
    """Yields the batches of the data, which may be larger than memory; each is checked as a step of training checks it.

    Args:
        classifiers: all that will see them.
        data: what `fit` takes, see `batches_of`.
        reader: who reads the outputs, for the message.
        needs: names of outputs beside `logits`.
        batch_size: of arrays.
        bounds: least and greatest pixel value.
        endless: whether data without an end are taken, by a reader that stops by itself.

    Raises:
        ValueError: for what is no classifier or lacks an output, classifiers of different numbers of classes, what is
            no data, wrong shapes, pixels and labels, and no images.
    """
    backend.require(f"The {reader}")
    specs = [_batch_spec(classifier, needs, reader, bounds) for classifier in classifiers]
    first, *others = specs
    if differ := [c.classes for c in others if c.classes != first.classes]:
        raise InvalidArgument(
            f"Expected classifiers of {first.classes} classes, as the first has. Received: {differ[0]}"
        )

    def checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        pixels, labels = prepare(first.check(x, y), first)[:2]
        return ops.clip(pixels, *bounds), labels  # the check lets rounding pass

    check, count = graph(checked), 0
    with plain_errors():
        for x, y in batches_of(data, batch_size, endless=endless):
            x, y = tf.convert_to_tensor(x), tf.convert_to_tensor(y)
            for other in others:
                other.check_shapes(x, y)
            pixels, labels = check(x, y)
            rows = len(labels)
            if rows:
                yield Batch(pixels, labels, tf.range(count, count + rows))
            count += rows
    if not count:
        raise InvalidArgument("Invalid data: expected at least one image. Received: none")


def images(
    classifier: Any,
    x: Any,
    y: Any,
    reader: str,
    needs: Iterable[str] = (),
    batch_size: int = 256,
    bounds: Bounds = (0.0, 1.0),
) -> Iterator[Batch]:
    """Yields the batches of an array of images `(N, H, W, C)`; without labels (None) these are zeros."""
    labels = np.zeros(len(x), "int32") if y is None else y
    return batches([classifier], (x, labels), reader, needs, batch_size, bounds)


def graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of tensors `(B, ...)` and scalars as a graph, traced once for each shape, whatever B."""
    made: dict[Any, Callable[..., Any]] = {}

    def run(*given: Any) -> Any:
        tensors = [tf.convert_to_tensor(part) for part in given]
        specs = tuple(tf.TensorSpec((None, *t.shape[1:]) if t.shape.rank else (), t.dtype) for t in tensors)
        if specs not in made:
            made[specs] = traced(function, *specs)
        return made[specs](*tensors)

    return run


def logits_of(classifier: Any, x: Tensor) -> Tensor:
    """Returns the logits `(B, C)` in float32, in graph code."""
    return ops.cast(classifier(x, training=False)["logits"], "float32")


class Search:
    """An attack on one classifier: `(batch) -> x_adv`, shaped as the batch's pixels.

    The random start is a function of the seed and the image's number, so that the batch size changes nothing, unless
    the attack's loss couples the rows. Of several runs an image keeps the first that fools, as the attack itself does;
    without a radius the nearest. An attack that returns pixels that are not finite found nothing: the image stays as it
    is.

    Args:
        classifier: under attack.
        attack: an attack of `tfrobust.attacks` (one without a loss ascends cross entropy), its name or config, or a
            callable `(classify, x, y) -> x_adv`.
        seed: of the random starts.

    Raises:
        ValueError: for what is no attack, and a targeted one.
    """

    def __init__(self, classifier: Any, attack: Any, seed: int = 0) -> None:
        self.classifier = classifier
        self.attack = made(attack)
        self.seed = seed
        self._run = graph(self._searched)

    def __call__(self, batch: Batch) -> Tensor:
        if not isinstance(self.attack, attacks.Evasion):
            name = getattr(self.attack, "name", type(self.attack).__name__)
            z = returned(name, self.attack(self.classifier, batch.x, batch.y), batch.x)
            return _where_finite(tf.convert_to_tensor(z), batch.x)
        classes = int(self.classifier.output["logits"].shape[-1])
        self.attack.check_classes(classes)
        kept, far = self._run(*batch, stream(self.seed, 0), tf.constant(0))
        for run in range(1, self.attack.runs(classes)):
            if bool(ops.all(far <= 0)):
                break
            z, its_far = self._run(*batch, stream(self.seed, run), tf.constant(run))
            kept, far = where_rows(its_far < far, z, kept), ops.minimum(its_far, far)
        return kept

    def _searched(self, x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor, run: Tensor) -> tuple[Tensor, Tensor]:
        z = _where_finite(self.attack.search(in_inference(self.classifier), x, y, ImageNoise(seed, numbers), run), x)
        return z, self.attack.ball.far(z, x, losses.correct(logits_of(self.classifier, z), y) < 0.5)


def _where_finite(z: Tensor, x: Tensor) -> Tensor:
    return where_rows(ops.all(ops.isfinite(z), axis=(1, 2, 3)), z, x)


def made(attack: Any) -> Any:
    """Returns the evaluation adversary of an attack, a name or a config.

    Raises:
        ValueError: for what is none, and a targeted one.
    """
    item = attacks.get(attack) if isinstance(attack, (str, Mapping)) else attack
    if isinstance(item, attacks.Attack):
        item = item.maximizing(view_losses.adversarial_cross_entropy)
    if not callable(item) or getattr(item, "targeted", False):
        raise InvalidArgument(
            "Invalid attack: expected an untargeted one of tfrobust.attacks, its name or config, or a callable "
            f"`(classify, x, y) -> x_adv`. Received: {attack!r}"
        )
    return item


def _batch_spec(classifier: Any, needs: Iterable[str], reader: str, bounds: Bounds) -> BatchSpec:
    check_classifier(classifier, needs, reader)
    return BatchSpec.of(classifier, bounds)
