"""The MNIST network of the DRA fine-tuning."""

from collections.abc import Sequence

import keras

from tfrobust.models.blocks import Head, check_rate, input_and_head, unpooled
from tfrobust.models.blocks import dropout as dropped
from tfrobust.models.registry import register


@register
def dra_mnist(
    input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, dropout: float = 0.5, head: Head = "dense"
) -> keras.Model:
    """Returns the MNIST network of the thesis' chapter 4: two convolutions and two dense layers, following TRADES.

    A 5x5 convolution of 10 filters, 2x2 max-pooling and ReLU; one of 20 filters, dropout of whole maps, 2x2 max-pooling
    and ReLU, none padded; dense 50 with ReLU, dropout; head: 21,840 trainable numbers for MNIST. It flattens, so it has
    no class activation map.

    A choice: the thesis prints no widths; these are those of the one network in TRADES' code with two convolutions and
    two dense layers, with its dropout. Kernels start as Keras has it (Glorot's rule). Thesis, section 4.4; Zhang et al.
    2019, https://github.com/yaodongyu/TRADES (`models/net_mnist.py`).

    Args:
        {{network}}
        dropout: Share of the maps and of the values before the head that are dropped in training, in [0, 1).

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 50)` and, with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("dra_mnist").count_params()
    21840
    """
    inputs, last = input_and_head(input_shape, classes, head, least=16)
    x = inputs
    check_rate("dropout", dropout)
    x = keras.layers.MaxPooling2D(2)(keras.layers.Conv2D(10, 5)(x))
    x = keras.layers.Conv2D(20, 5)(keras.layers.ReLU()(x))
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout)(x)
    x = keras.layers.Flatten()(keras.layers.ReLU()(keras.layers.MaxPooling2D(2)(x)))
    features = keras.layers.Dense(50, activation="relu")(x)
    return unpooled("dra_mnist", inputs, dropped(features, dropout), last)
