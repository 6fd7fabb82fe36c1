"""A small network for small images."""

from collections.abc import Sequence

import keras

from tfrobust.models.blocks import Head, input_and_head, pooled
from tfrobust.models.outputs import activation_layer
from tfrobust.models.registry import register
from tfrobust.utils.validation import check_integer


@register
def digits(
    input_shape: Sequence[int] = (8, 8, 1),
    classes: int = 10,
    features: int = 256,
    activation: str = "relu",
    head: Head = "dense",
) -> keras.Model:
    """Returns a convolutional network for scikit-learn's 8x8 digits that trains in a minute.

    Four 3x3 convolutions, each with its activation (features / 8, / 4, / 2 and features filters; the second and the
    last with stride 2), global average pooling, dense. This project's own definition.

    Args:
        {{network}}
        features: Width D of the features, at least 8.
        activation: "relu", or "leaky_relu" with slope 0.1.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, D)`, `feature_map` `(B, H/4, W/4, D)` and `cam`
        `(B, H/4, W/4, C)`; with a cosine head `cosine` `(B, C)` in place of `cam`.

    Example:

    >>> sorted(tfrobust.models.get("digits").output)
    ['cam', 'feature_map', 'features', 'logits']
    """
    inputs, last = input_and_head(input_shape, classes, head)
    width = check_integer("features", features, 8)
    x = inputs
    for filters, strides in ((width // 8, 1), (width // 4, 2), (width // 2, 1), (width, 2)):
        x = keras.layers.Conv2D(filters, 3, strides, padding="same")(x)
        x = activation_layer(activation)(x)
    return pooled("digits", inputs, x, last)
