"""Reads data batch by batch, checks it, and traces graphs once for all batch sizes."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from tfrobust import attacks, losses
from tfrobust.classifiers import check_classifier
from tfrobust.data.batch import BatchSpec, prepare
from tfrobust.data.containers import batches_of
from tfrobust.evaluation import AdversaryFinder, Images, NamedAttack
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument, invalid, plain_errors
from tfrobust.utils.graph import traced
from tfrobust.utils.random import stream
from tfrobust.utils.types import Bounds, Tensor


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
        classifiers: all classifiers that read the batches.
        data: data in any container that `fit` takes, see `batches_of`.
        reader: name of the measurement, for the error.
        needs: names of outputs that are read beside `logits`.
        batch_size: batch size of arrays.
        bounds: least and greatest pixel value.
        endless: whether data without an end are accepted, because the caller stops reading.

    Raises:
        ValueError: for a classifier that is invalid or lacks an output, classifiers of different numbers of classes,
            wrong shapes, pixels and labels, and an empty dataset.
    """
    backend.require(f"The {reader}")
    specs = []
    for classifier in classifiers:
        check_classifier(classifier, needs, reader)
        specs.append(BatchSpec.of(classifier, bounds))
    first, *others = specs
    if differ := [c.classes for c in others if c.classes != first.classes]:
        raise InvalidArgument(
            f"Expected classifiers of {first.classes} classes, as the first has. Received: {differ[0]}"
        )

    def checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        pixels, labels = prepare(first.check(x, y), first)[:2]
        return ops.clip(pixels, *bounds), labels  # the check tolerates rounding

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
        raise invalid("data", "at least one image", "none")


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


def sums(parts: Iterable[Batch], measure: Callable[[Batch], Mapping[Any, Any]]) -> tuple[dict[Any, np.ndarray], int]:
    """Returns the sums over the batches of the values that `measure` returns by name, and the number of images."""
    totals: dict[Any, np.ndarray] = {}
    images = 0
    for batch in parts:
        images += len(batch.y)
        for name, values in measure(batch).items():
            totals[name] = totals.get(name, 0.0) + np.asarray(values, "float64")
    return totals, images


def graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of tensors `(B, ...)` and scalars as a graph, traced once for all B."""
    graphs: dict[Any, Callable[..., Any]] = {}

    def run(*given: Any) -> Any:
        tensors = [tf.convert_to_tensor(part) for part in given]
        specs = tuple(tf.TensorSpec((None, *t.shape[1:]) if t.shape.rank else (), t.dtype) for t in tensors)
        if specs not in graphs:
            graphs[specs] = traced(function, *specs)
        return graphs[specs](*tensors)

    return run


def logits_of(classifier: Any, x: Tensor) -> Tensor:
    """Returns the logits `(B, C)` in float32, in graph code."""
    return ops.cast(classifier(x, training=False)["logits"], "float32")


class Search:
    """An attack on one classifier: `(batch) -> x_adv`, shaped as the batch's pixels.

    The random start is a function of the seed and the image's number, so that the batch size changes nothing, unless
    the attack's loss couples the rows. `AdversaryFinder` says which run an image gets. A result that is not finite is
    discarded: the image stays as it is.

    Args:
        classifier: the classifier under attack.
        attack: an attack of `tfrobust.attacks` (one without a loss ascends cross entropy), its name or config, or a
            callable `(classify, x, y) -> x_adv`.
        seed: seed of the random starts.

    Raises:
        ValueError: for an object that is not an attack, and for a targeted attack.
    """

    def __init__(self, classifier: Any, attack: Any, seed: int = 0) -> None:
        self.classifier, self.attack, self._seed = classifier, as_adversary(attack), seed
        self._score = graph(self._finite_and_fooled)

    def __call__(self, batch: Batch) -> Tensor:
        images = Images(np.asarray(batch.x), np.asarray(batch.y))
        return tf.convert_to_tensor(self._find(images, np.asarray(batch.numbers), len(images.y)))

    @functools.cached_property
    def _find(self) -> AdversaryFinder:
        """The finder, made for the first batch, when the classifier has been checked."""
        classes = int(self.classifier.output["logits"].shape[-1])
        if isinstance(self.attack, attacks.Attack):
            self.attack.check_classes(classes)
        named = NamedAttack(getattr(self.attack, "name", type(self.attack).__name__), {}, self.attack)
        return AdversaryFinder(self.classifier, [named], self._scored, classes, lambda _, run: stream(self._seed, run))

    def _scored(self, x: Any, y: Any, z: Any) -> tuple[np.ndarray, np.ndarray]:
        finite, fooled = self._score(y, z)
        return np.asarray(finite), np.asarray(fooled)

    def _finite_and_fooled(self, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        finite = ops.all(ops.isfinite(z), axis=(1, 2, 3))
        return finite, finite & (losses.correct(logits_of(self.classifier, z), y) < 0.5)


def as_adversary(attack: Any) -> Any:
    """Returns the evaluation adversary of an attack, a name or a config.

    Raises:
        ValueError: for an object that is not an attack, and for a targeted attack.
    """
    item = attacks.get(attack) if isinstance(attack, (str, Mapping)) else attack
    if not callable(item) or getattr(item, "targeted", False):
        forms = "its name or config, or a callable `(classify, x, y) -> x_adv`"
        raise invalid("attack", f"an untargeted one of tfrobust.attacks, {forms}", repr(attack))
    return item
