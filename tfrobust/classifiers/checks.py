"""Checks of classifiers, and facts about them that other packages read."""

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfrobust.models import Given, Step, first_steps, is_graph
from tfrobust.utils import keras_private
from tfrobust.utils.digest import digest_of
from tfrobust.utils.errors import InvalidArgument

DIVIDES = 1 / 64  # a `Rescaling` by less expects pixels in 0..255: 1/255, 1/128, 1/127.5
PROBABILITIES = ("softmax", "sigmoid")

AVERAGED = (
    "needs a network that ends in global average pooling and a dense layer: take a ResNet of tfrobust.models with "
    "head='dense', or replace Flatten by GlobalAveragePooling2D before tfrobust.expose(model)."
)
ATTENDED = "needs a network with attention: tfrobust.models.get('madry_resnet', attention=(4,))."
# Remedies for missing outputs.
REMEDIES = {
    "cosine": "A cosine needs a normalized head: tfrobust.models.get(name, head='cosine'), or "
    "tfrobust.layers.NormalizedCosineSoftmax as the last layer of your own network.",
    "cam": f"A class activation map {AVERAGED}",
    "feature_map": f"A feature map {AVERAGED}",
    "attention": f"Attention {ATTENDED}",
    "local_features": f"Local features: attention {ATTENDED}",
    "features": "Features are the input of the last dense layer: tfrobust.expose(model) names them.",
}


def check_classifier(classifier: Any, needs: Iterable[str] = (), reader: str = "this evaluation") -> None:
    """Checks that an object is a functional Keras model on images `(B, H, W, C)` with a dict of outputs.

    Args:
        classifier: The object; `logits` `(B, classes)` have to be among its outputs.
        needs: Further output names that are read.
        reader: The reader of these outputs, for the message.

    Raises:
        ValueError: if it is not such a model; the message names the remedy.
    """
    outputs = getattr(classifier, "output", None) if isinstance(classifier, keras.Model) and classifier.built else None
    if not isinstance(outputs, dict) or "logits" not in outputs:
        raise InvalidArgument(
            "Invalid classifier: expected a Keras model with named outputs, 'logits' among them, as "
            f"tfrobust.models.get and tfrobust.expose(model) return it. Received: {_described(classifier, outputs)}"
        )
    if missing := sorted(set(needs) - set(outputs)):
        remedies = "".join(f" {_remedy(name, classifier)}" for name in missing if name in REMEDIES)
        raise InvalidArgument(
            f"The {reader} reads {missing}, which this classifier does not give: expected a classifier with outputs "
            f"{sorted(set(needs) | {'logits'})}. Received: {sorted(outputs)}.{remedies}"
        )
    shape = outputs["logits"].shape
    if len(shape) != 2 or shape[-1] is None or shape[-1] < 2:
        raise InvalidArgument(f"Invalid classifier: expected logits (batch, at least 2 classes). Received: {shape}")
    if len(classifier.inputs) != 1:
        inputs = [f"{tensor.name} {tensor.shape}" for tensor in classifier.inputs]
        raise InvalidArgument(
            "Invalid classifier: expected one input, the image, which an attack changes; make the others constants or "
            f"channels of the image. Received: {inputs}"
        )
    if len(classifier.inputs[0].shape) != 4:
        raise InvalidArgument(
            f"Invalid classifier: expected images (batch, H, W, C). Received: {classifier.input_shape}"
        )
    if _squashed(outputs["logits"]) or _sums_to_one(classifier):
        raise InvalidArgument(
            "Invalid classifier: expected logits, received probabilities in its output 'logits'. Leave the softmax or "
            "sigmoid out, or let tfrobust.expose(model) split it off."
        )


def digest(classifier: Any) -> str:
    """Returns the SHA-256 of a classifier, in hexadecimal, which is the same on every machine.

    It is that of a Keras model's weights, or of the file that `open` has opened; "" for other callables.

    Example:

    >>> classifier = tfrobust.models.get("digits")
    >>> digest(classifier) == digest(classifier), len(digest(classifier))
    (True, 64)
    """
    if isinstance(classifier, keras.Model):
        return digest_of(*classifier.get_weights())
    return str(getattr(classifier, "digest", ""))


def head_of(classifier: keras.Model) -> keras.layers.Layer:
    """Returns the last layer with weights, which computes the logits: freeze it to keep the head.

    Example:

    >>> head_of(tfrobust.models.get("digits")).dense.units
    10
    """
    return _last_operations(classifier)[-1]


def body_of(classifier: keras.Model) -> list[keras.layers.Layer]:
    """Returns the layers from the first one with a kernel to the last one before the head.

    What comes before is preparation of the pixels, and the head gives the logits.

    Example:

    >>> body = body_of(tfrobust.models.get("digits"))
    >>> type(body[0]).__name__, head_of(tfrobust.models.get("digits")) in body
    ('Conv2D', False)
    """
    preparing = itertools.takewhile(lambda step: not _has_kernel(step.operation), first_steps(classifier))
    ends = [*(step.operation for step in preparing), *_last_operations(classifier)]
    outside = {id(part) for end in ends for part in _parts(end)}
    inside = [part for part in _parts(classifier) if id(part) not in outside]
    return [part for part in inside if not (is_graph(part) or isinstance(part, keras.layers.InputLayer))]


def _last_operations(classifier: keras.Model) -> list[Any]:
    """Returns the operations that give the logits, the last one first, down to the first one with weights."""
    operations = []
    step = Step.of(classifier.output["logits"])
    while True:
        if step.inner is not None:  # the network may be nested behind a preprocessing layer
            step = Step.of(step.inner)
            continue
        operations.append(step.operation)
        if getattr(step.operation, "weights", ()) or step.source is None:
            return operations
        step = Step.of(step.source)  # the scores of a convolution, averaged over positions


def _has_kernel(operation: Any) -> bool:
    return any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))


def _parts(operation: Any) -> list[Any]:
    return keras_private.layers_inside(operation) if isinstance(operation, keras.layers.Layer) else []


def _remedy(name: str, classifier: keras.Model) -> str:
    layer = getattr(head_of(classifier), "dense", None)
    if name == "cam" and "feature_map" in classifier.output and layer is not None:
        return (
            f"A class activation map is made of the weights of a linear layer, and this network's last layer, "
            f"{layer.name!r} ({type(layer).__name__}), is not linear: end it in a plain keras.layers.Dense."
        )
    return REMEDIES[name]


def divides_pixels(classifier: keras.Model) -> str:
    """Returns the name of a layer that shows that a classifier expects pixels in 0..255; "" where there is none.

    It is a `Rescaling` that divides by so much that pixels of [0, 1] would all look black, or a `Normalization` whose
    mean lies outside [0, 1]. A `Rescaling` that multiplies by as much, as `preprocess=` of `tfrobust.expose`,
    compensates for either.

    Example:

    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255, name="bytes")])
    >>> divides_pixels(model)
    'bytes'
    """
    scale, found = 1.0, ""
    for layer in keras_private.layers_inside(classifier):
        if isinstance(layer, keras.layers.Rescaling):
            factor = float(np.max(np.abs(layer.scale)))
            scale, found = scale * factor, layer.name if factor < DIVIDES else found
    if scale < DIVIDES:
        return found
    normalizing = (
        v for v in keras_private.layers_inside(classifier) if isinstance(v, keras.layers.Normalization) and v.built
    )
    far = (v.name for v in normalizing if np.max(np.abs(ops.convert_to_numpy(v.mean))) > 2)
    return next(far, "") if scale < 1 / DIVIDES else ""


def as_given(classifier: keras.Model, logits: Any) -> Any:
    """Returns the predictions of the exposed model for the logits `(B, C)` of its classifier.

    Probabilities `(B, C)` of a model that ends in a softmax, one column `(B, 1)` of one with a single unit, after
    its sigmoid if it has one; for every other classifier the logits.

    Example:

    >>> inputs = keras.Input((8, 8, 1))
    >>> outputs = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(inputs))
    >>> classifier = tfrobust.expose(keras.Model(inputs, outputs))
    >>> as_given(classifier, np.array([[0.0, 0.0]], "float32")).numpy().tolist()
    [[0.5]]
    """
    step = Step.of(classifier.output["logits"])
    while step.inner is not None:
        step = Step.of(step.inner)
    return step.operation.predictions(logits) if isinstance(step.operation, Given) else logits


def _described(classifier: Any, outputs: Any) -> str:
    if not isinstance(classifier, keras.Model):
        return f"an object of class {type(classifier).__name__}"
    gives = f"whose outputs are {sorted(outputs)}" if isinstance(outputs, dict) else "whose output has no name"
    return f"the model {classifier.name!r} ({type(classifier).__name__}), {gives}"


def _squashed(logits: Any) -> bool:
    operation, *_ = keras_private.call_of(logits)
    activation = getattr(operation, "activation", None)
    names = {type(operation).__name__.lower(), getattr(activation, "__name__", "")}
    return not names.isdisjoint(PROBABILITIES)


def _sums_to_one(classifier: keras.Model) -> bool:
    """Returns whether logits on random images are probabilities: a softmax may be inside a nested model."""
    shape = classifier.input_shape[1:]
    if None in shape:
        return False
    logits = ops.convert_to_numpy(classifier(keras.random.uniform((2, *shape), seed=0), training=False)["logits"])
    logits = logits.astype("float32")
    return bool((logits >= 0).all() and (logits <= 1).all() and abs(logits.sum(-1) - 1).max() < 1e-2)


def in_inference(classify: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a Keras model that is called in inference mode; a function unchanged.

    Keras' augmentation layers augment if a call does not set `training`.
    """
    return functools.partial(classify, training=False) if isinstance(classify, keras.Model) else classify
