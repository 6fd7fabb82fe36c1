"""Named outputs of a classifier, and checks that the networks share."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor

ACTIVATIONS: dict[str, Callable[..., keras.layers.Layer]] = {
    "relu": keras.layers.ReLU,
    "leaky_relu": functools.partial(keras.layers.LeakyReLU, negative_slope=0.1),
}


def activation_layer(activation: str, name: str | None = None) -> keras.layers.Layer:
    """Returns a new, possibly named layer for the option `activation`: "relu", or "leaky_relu" with slope 0.1."""
    if activation not in ACTIVATIONS:
        raise unknown("activation", activation, ACTIVATIONS)
    return ACTIVATIONS[activation](name=name)


def named_outputs(head: Callable[..., Any], features: Tensor, feature_map: Tensor | None = None) -> dict[str, Any]:
    """Returns `logits`, `features`, `feature_map` where there is one, and the head's further outputs: `cam`, `cosine`.

    The head is called as `head(features)` or `head(features, feature_map=...)` and returns a dict with `logits`. The
    features `(B, D)` are the average of the map `(B, H, W, D)`.
    """
    maps = {} if feature_map is None else {"feature_map": feature_map}
    outputs = None if isinstance(head, keras.layers.Dense) else head(features, **maps)
    if not isinstance(outputs, dict) or "logits" not in outputs:
        raise ValueError(
            "Invalid head: expected a layer that returns a dict with 'logits', such as "
            f"tfrobust.layers.ClassActivationMap(units=10) or ClassActivationMap(dense). Received: {head!r}"
        )
    return {"logits": outputs["logits"], "features": features, **maps, **outputs}


def check_image_shape(input_shape: Any, least: int = 1) -> tuple[int, int, int]:
    """Returns `(height, width, channels)`; raises ValueError for other values, or below `least` pixels."""
    sizes = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    if len(sizes) != 3 or not all(isinstance(s, int) and s >= m for s, m in zip(sizes, (least, least, 1), strict=True)):
        raise InvalidArgument(
            "Invalid value for `input_shape`: expected (height, width, channels) with height and width >= "
            f"{least}. Received: input_shape={input_shape!r}"
        )
    return sizes
