"""Turns any functional Keras model into a classifier with named outputs."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import keras
from keras import ops

from tfrobust.layers import ClassActivationMap
from tfrobust.layers.last import LAST, before_activation, is_linear, shape_for
from tfrobust.models.given import remembering
from tfrobust.models.graph import Step, alike, is_graph, tail, which_activation
from tfrobust.models.outputs import named_outputs
from tfrobust.models.same import check_same, unmoved
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor


def expose(
    model: keras.Model, *, preprocess: keras.layers.Layer | None = None, form: str = "clipped", name: str | None = None
) -> keras.Model:
    """Returns a classifier with named outputs, which shares layers and weights with a Keras model.

    A softmax at the end is split off: the logits z satisfy softmax(z) = model(x). A single unit, with a sigmoid or
    without, becomes two logits [0, z], with softmax([0, z])[1] = sigmoid(z).

    Args:
        model: A functional or built Sequential model on images `(B, H, W, C)`, channels last, that ends in a Dense
            layer, or in a convolution whose output is flattened or averaged, perhaps inside a nested model. That layer
            itself computes the logits. Training the result trains the model.
        preprocess: A layer or model between pixels in [0, 1] and `model`: `keras.layers.Rescaling(255.0)`,
            `keras.layers.Normalization(mean=..., variance=...)`. Without it the model receives the pixels unchanged.
        form: Form of the class activation map, "clipped", "signed" or "grad_cam", as in `ClassActivationMap`.
        name: Name of the result; None: that of the model.

    Returns:
        A functional model with a dict of outputs: `logits` `(B, C)`, `features` `(B, D)`, the input of the last layer,
        and where the features are the average of a map, `feature_map` `(B, h, w, D)` and, of a layer that is linear,
        its class activation map `cam` `(B, h, w, C)`. A convolution whose scores are averaged after an activation has
        `logits` only. A classifier with named outputs is returned unchanged.

    Raises:
        ValueError: for a model of another kind, for a form but "clipped" if the model has named outputs with a map of
            another form, and if the result and the model do not agree on two random images in [0, 1]. (A model for
            images of any size is compared on 32, 96 or 224 pixels, or not at all if it accepts none of these.)

    Example:

    >>> inputs = keras.Input((8, 8, 1))
    >>> x = keras.layers.Conv2D(16, 3, activation="relu")(inputs)
    >>> x = keras.layers.GlobalAveragePooling2D()(x)
    >>> model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    >>> classifier = tfrobust.expose(model, preprocess=keras.layers.Rescaling(255.0))
    >>> {name: tensor.shape for name, tensor in classifier.output.items()}["cam"]
    (None, 6, 6, 10)
    """
    _check_functional(model)
    if form not in ClassActivationMap.FORMS:
        raise unknown("form of `expose`", form, ClassActivationMap.FORMS)
    with unmoved(model):
        named = getattr(model, "output", None)  # a Sequential model has none
        if isinstance(named, dict) and "logits" in named:
            _check_one_input(model)
            _check_form(model, form)
            activation, classifier = "linear", model
        else:
            _check_images(model)
            activation, outputs = _outputs(model, form)
            classifier = keras.Model(model.inputs[0], outputs, name=name or model.name)
        if preprocess is not None or classifier.input_shape[0] is not None:
            classifier = _from_pixels(classifier, preprocess, name or model.name)
        if classifier is not model:
            check_same(model, classifier, preprocess, activation)
    return classifier


class _Split(NamedTuple):
    layer: keras.layers.Layer | None  # the last layer; None: `inputs` are the logits
    activation: str | None  # the model applies it to the layer's output; None: unknown
    inputs: Tensor  # inputs of the layer, in the shape that it reads
    feature_map: Tensor | None  # the inputs are its average


def _outputs(model: keras.Model, form: str) -> tuple[str, dict[str, Tensor]]:
    """Returns the last activation of the model, and the named outputs before it."""
    scores = model.outputs[0]
    split = _split(scores)
    if split is None or len(scores.shape) != 2 or None in split.inputs.shape[1:]:
        _refuse(
            model,
            "a model that ends in a Dense layer on features (batch, D), or in a convolution whose output is flattened "
            "or averaged to (batch, classes), with a softmax or a single sigmoid behind it or nothing",
            f"it ends in {tail(scores)}",
            "Put a Dense layer at its end, or build a keras.Model with named outputs, 'logits' among them.",
        )
    units = scores.shape[-1]
    if split.activation == "sigmoid" and units > 1:
        _refuse(
            model,
            "one label an image",
            f"a sigmoid on each of {units} units",
            "Several labels an image are not supported; with one label, train it with a softmax.",
        )
    if split.activation not in ("linear", "softmax" if units > 1 else "sigmoid"):
        _refuse(
            model,
            f"a softmax, a single sigmoid or nothing behind the last layer with weights, which has {units} unit(s)",
            f"it ends in {tail(scores)}",
            "Dropping another function, or one with an activity regularizer, would change the model: end it in a Dense "
            "layer without activation.",
        )
    return split.activation, remembering(_named(split, form), split.activation, units)


def _named(split: _Split, form: str) -> dict[str, Tensor]:
    shape = split.inputs.shape[1:]
    features = split.inputs if len(shape) == 1 else keras.layers.Reshape((math.prod(shape),))(split.inputs)
    if split.layer is None:
        return {"logits": features}
    shape = shape_for(split.layer, *shape) if len(shape) == 1 else shape
    head = ClassActivationMap(split.layer, form, shape=None if len(shape) == 1 else shape)
    if split.feature_map is None or is_linear(split.layer, shape):
        return named_outputs(head, features, split.feature_map)
    return {**named_outputs(head, features), "feature_map": split.feature_map}  # a class activation map has no meaning


def _split(tensor: Tensor) -> _Split | None:
    """Finds the last layer with weights before `tensor`, and the activation after it."""
    step = Step.of(tensor)
    if isinstance(step.operation, LAST) and step.source is not None:
        activation = which_activation(step.operation.activation, (tensor.shape[-1],))
        return _Split(step.operation, activation, *_pooled(step.source))
    if step.inner is not None:
        split = _split(step.inner)
        return split and split._replace(**_call_inner(step, inputs=split.inputs, feature_map=split.feature_map))
    split = _split(step.source) if step.source is not None else None
    if split is None:
        return None
    second = step.activation()
    if second is None and split.layer is not None and step.averages():
        return _averaged(split, step)
    # At least one of the two functions has to be the identity, or their composition is unknown.
    first = split.activation
    return split._replace(activation=second if first == "linear" else first if second == "linear" else None)


def _averaged(split: _Split, step: Step) -> _Split:
    """Returns the split of a network whose last layer computes a map of scores, which `step` averages."""
    layer, shape = split.layer, split.inputs.shape[1:]
    assert layer is not None

    def of_the_average(x: Tensor) -> Tensor:
        return before_activation(layer, ops.reshape(step.replay(x), (-1, *shape_for(layer, shape[-1]))))

    def averaged(x: Tensor) -> Tensor:
        return step.replay(before_activation(layer, x))

    pointwise = split.activation == "linear" and getattr(layer, "kernel_size", (1, 1)) == (1, 1)
    if pointwise and alike(of_the_average, averaged, shape, flat=True):
        return _Split(layer, "linear", step.replay(split.inputs), split.inputs)
    known = split.activation in ("softmax", "sigmoid")  # an average of probabilities
    return _Split(None, None if known else "linear", step.tensor, None)


def _pooled(tensor: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns a tensor equal to `tensor`, and the map `(B, H, W, K)` of which it is the average, if there is one."""
    step = Step.of(tensor)
    if step.inner is not None:
        features, feature_map = _pooled(step.inner)
        if feature_map is None:
            return tensor, None
        outer = _call_inner(step, features=features, feature_map=feature_map)
        return outer["features"], outer["feature_map"]
    if step.passes():
        features, feature_map = _pooled(step.source)
        if feature_map is not None:
            # After a nested model the features are a new tensor: the operations between are called again on it.
            return tensor if features is step.source else step.replay(features), feature_map
    # After `passes`, since a Flatten after the pooling of a map of one position also averages it.
    return tensor, step.source if step.averages() else None


def _call_inner(step: Step, **tensors: Tensor | None) -> dict[str, Tensor | None]:
    """Calls a nested model as `step` does, for tensors inside it, with the same layers and arguments."""
    inside = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    nested = step.operation
    # `input` keeps the structure of the call's arguments; a Sequential model has one tensor and no `input`.
    inputs = nested.inputs[0] if isinstance(nested, keras.Sequential) else nested.input
    model = keras.Model(inputs, inside, name=nested.name)
    return {**tensors, **model(*step.arguments.args, **step.arguments.kwargs)}


def _from_pixels(classifier: keras.Model, preprocess: keras.layers.Layer | None, name: str) -> keras.Model:
    if preprocess is not None and not isinstance(preprocess, keras.layers.Layer):
        raise InvalidArgument(
            "Invalid value for `preprocess`: expected a Keras layer or model, such as keras.layers.Rescaling(255.0). "
            f"Received: preprocess={preprocess!r}"
        )
    # A preprocessing model that resizes has its own input shape; layers keep the shape.
    first = preprocess if preprocess is not None and is_graph(preprocess) else classifier
    inputs = keras.Input(first.input_shape[1:])
    return keras.Model(inputs, classifier(inputs if preprocess is None else preprocess(inputs)), name=name)


def _check_functional(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise InvalidArgument(f"Invalid `model` of `expose`: expected a keras.Model. Received: {model!r}")
    if isinstance(model, keras.Sequential) and not is_graph(model):
        _refuse(
            model,
            "a model whose input shape is known",
            "a Sequential model that is not built",
            "Add keras.Input((height, width, channels)) as its first layer or call "
            "model.build((None, height, width, channels)).",
        )
    if not is_graph(model):
        _refuse(
            model,
            "a functional or Sequential model",
            f"the subclassed model {type(model).__name__}",
            "Rebuild it as keras.Model(inputs, outputs).",
        )


def _check_form(classifier: keras.Model, form: str) -> None:
    """Raises ValueError if a classifier with named outputs has a map of another form than the requested one."""
    forms = {layer.form for layer in _layers(classifier) if isinstance(layer, ClassActivationMap)}
    if form != "clipped" and "cam" in classifier.output and form not in forms:
        _refuse(
            classifier,
            f"a model whose class activation map is still to be made in the form {form!r}",
            f"a classifier that gives 'cam' already, in the form {' or '.join(map(repr, forms)) or 'of its own'}",
            "Expose the model that it was made of, or make the network with "
            f"head={{'name': 'dense', 'form': {form!r}}}.",
        )


def _check_one_input(model: keras.Model) -> None:
    if len(model.inputs) != 1:
        _refuse(
            model,
            "one input, the image",
            f"the inputs {[tensor.name for tensor in model.inputs]}",
            "An attack changes the image alone: make the others constants of the model, or channels of the image.",
        )


def _check_images(model: keras.Model) -> None:
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        _refuse(
            model,
            "one input and one output",
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs",
            "Expose a keras.Model from the image to the class scores alone.",
        )
    image = model.inputs[0]
    if len(image.shape) != 4 or not keras.backend.is_float_dtype(image.dtype):
        _refuse(
            model,
            "images (batch, height, width, channels) of floats",
            f"an input of shape {tuple(image.shape)} and dtype {image.dtype}",
            "Put a Reshape or a cast inside the model, behind a keras.Input of such images.",
        )
    for layer in _layers(model):
        if getattr(layer, "data_format", None) == "channels_first":
            _refuse(
                model,
                "channels last",
                f"the layer {layer.name!r} with data_format='channels_first'",
                "Rebuild the model with data_format='channels_last'.",
            )


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)


def _refuse(model: keras.Model, expected: str, received: str, remedy: str) -> NoReturn:
    raise InvalidArgument(
        f"Cannot expose the model {model.name!r}: expected {expected}. Received: {received}. {remedy}"
    )
