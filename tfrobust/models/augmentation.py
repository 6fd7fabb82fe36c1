"""Augmentation layers at the input of a classifier: applied once a step, before the attack searches."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfrobust.layers.last import in_dtype_of_weights
from tfrobust.models.graph import Step, first_steps
from tfrobust.models.same import unmoved
from tfrobust.utils import keras_private
from tfrobust.utils.types import Tensor

DROPOUTS = (keras.layers.Dropout, keras.layers.GaussianDropout, keras.layers.AlphaDropout)
SIZE = 32  # size of random images if the classifier takes images of any size
IMAGES = 4


class Augmentation:
    """Applies the random layers at the beginning of a classifier, and the layers before them, once in a training step.

    Otherwise the search, the clean side and the attacked side would use three different images. Let P be the calls up
    to the last such layer, in inference mode the affine map s * x + t of single pixels (the identity, a `Rescaling`, a
    constant `Normalization`), and P~ the same calls in training mode, with random numbers. The augmented image is x' =
    (P~(x) - t) / s, clipped to the bounds of pixels; the classifier, with P in inference mode, computes P~(x) from it.
    """

    def __init__(self, classifier: keras.Model, bounds: tuple[float, float]) -> None:
        self._classifier, self._bounds = classifier, bounds
        shape = [SIZE if size is None else size for size in classifier.input_shape[1:]]
        draw = np.random.default_rng(0).uniform(*bounds, (IMAGES, *shape)).astype("float32")
        with unmoved(classifier):
            probe = ops.convert_to_tensor(draw)
            candidates = _up_to_a_random_layer(first_steps(classifier), probe)
            self._steps: Sequence[Step] = next(
                (steps for steps in reversed(candidates) if _is_affine(steps, probe)), []
            )
        applied = {id(part) for step in self._steps for part in _parts(step.operation)}
        self._with_modes = [step.operation for step in self._steps if _takes_training(step.operation)]
        self._remaining = [part for part in _parts(classifier) if _augments(part) and id(part) not in applied]

    def __reduce__(self) -> tuple[Any, ...]:
        return Augmentation, (self._classifier, self._bounds)  # a copy belongs to the copy of the classifier

    @property
    def advice(self) -> str | None:
        """Returns a warning about random layers that cannot act once; None if there are none."""
        if not self._remaining:
            return None
        names = ", ".join(f"{layer.name!r} ({type(layer).__name__})" for layer in self._remaining[:3])
        return (
            f"The layers {names} draw new random numbers at each call of the classifier: the search and the sides of "
            "the loss use different images. Expected augmentation in the dataset (`dataset.map`), or as the first "
            "layers of the classifier, with nothing but a rescaling or a constant normalization before it: there it "
            "is applied once a step. Received: such layers further inside, or behind a layer that has no inverse."
        )

    @contextlib.contextmanager
    def once(self, x: Tensor) -> Iterator[Tensor]:
        """Yields augmented pixels `(B, H, W, C)`; the classifier does not augment again within the block."""
        if not self._steps:
            yield x
            return
        offset, scale = _affine(self._steps, x[:1])
        augmented = ops.clip((_run(self._steps, x, training=True) - offset) / scale, *self._bounds)
        try:
            for layer in self._with_modes:
                vars(layer)["call"] = _in_inference(layer)
            yield ops.reshape(augmented, ops.shape(x))
        finally:
            for layer in self._with_modes:
                vars(layer).pop("call", None)  # nothing is stored: replicas may alternate within the block


def _up_to_a_random_layer(steps: Sequence[Step], x: Tensor) -> list[Sequence[Step]]:
    """Returns the prefixes of a chain of calls that end in a random layer and have no trainable weights."""
    found: list[Sequence[Step]] = []
    for number, step in enumerate(steps, start=1):
        layer = step.operation
        learns = len(getattr(layer, "trainable_weights", ())) > 0
        if learns or isinstance(layer, (keras.layers.BatchNormalization, *DROPOUTS)) or len(x.shape) != 4:
            break
        if _is_random(step, x):
            found.append(steps[:number])
        x = _run([step], x, training=False)
    return found


def _is_random(step: Step, x: Tensor) -> bool:
    if not _takes_training(step.operation):
        return False
    if _has_seeds(step.operation):
        return True
    first, second = (ops.convert_to_numpy(_run([step], x, training=True)) for _ in range(2))
    return not np.array_equal(first, second)


def _is_affine(steps: Sequence[Step], x: Tensor) -> bool:
    """Returns whether the calls, in inference mode, map each pixel to s * pixel + t, s not 0."""
    offset, scale = (ops.convert_to_numpy(part) for part in _affine(steps, x[:1]))
    received = ops.convert_to_numpy(_run(steps, x, training=False))
    if not received.shape == tuple(x.shape) == tuple(_run(steps, x, training=True).shape):
        return False  # Keras' crops have another size in inference
    expected = scale * ops.convert_to_numpy(x) + offset
    return bool(np.abs(scale).min() > 0 and np.abs(received - expected).max() <= 1e-4 * np.abs(expected).max())


def _affine(steps: Sequence[Step], x: Tensor) -> tuple[Tensor, Tensor]:
    offset = _run(steps, ops.zeros_like(x), training=False)
    return offset, _run(steps, ops.ones_like(x), training=False) - offset


def _run(steps: Sequence[Step], x: Tensor, training: bool) -> Tensor:
    with contextlib.ExitStack() as stack:
        for part in (part for step in steps for part in _parts(step.operation)):
            stack.enter_context(in_dtype_of_weights(part))  # 16 bits would round the pixels
        for step in steps:
            x = step.replay(x, **({"training": training} if _takes_training(step.operation) else {}))
    return ops.cast(x, "float32")


def _in_inference(layer: keras.layers.Layer) -> Callable[..., Tensor]:
    def call(inputs: Tensor, *args: Any, training: bool | None = None, **kwargs: Any) -> Tensor:
        return type(layer).call(layer, inputs, *args, training=False, **kwargs)

    return call


def _takes_training(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer) and "training" in inspect.signature(operation.call).parameters


def _has_seeds(operation: Any) -> bool:
    return len(getattr(operation, "variables", ())) > len(getattr(operation, "weights", ()))


def _augments(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer is one of Keras' random layers for images; a Dropout is not."""
    kind = isinstance(layer, keras.layers.GaussianNoise) or hasattr(layer, "get_random_transformation")
    return kind and _has_seeds(layer)


def _parts(operation: Any) -> Iterable[keras.layers.Layer]:
    return keras_private.layers_inside(operation) if isinstance(operation, keras.layers.Layer) else ()
