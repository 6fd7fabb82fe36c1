"""The MNIST network of the DRA fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfrobust.models import heads
from tfrobust.models.blocks import check_rate
from tfrobust.models.blocks import dropout as dropped
from tfrobust.models.outputs import check_image_shape, named_outputs
from tfrobust.models.registry import register
from tfrobust.utils.validation import check_integer


@register
def dra_mnist(
    input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, dropout: float = 0.5, head: heads.Head = "dense"
) -> keras.Model:
    """The MNIST network of the thesis' chapter 4: two convolutions and two dense layers, following TRADES.

    A 5x5 convolution of 10 filters, 2x2 max-pooling and ReLU; one of 20 filters, dropout of whole maps, 2x2 max-pooling
    and ReLU, none padded; dense 50 with ReLU, dropout; head: 21,840 trainable numbers for MNIST. It flattens, so it has
    no class activation map.

    A choice: the thesis prints no widths; these are those of the one network in TRADES' code with two convolutions and
    two dense layers, with its dropout. Kernels start as Keras has it (Glorot's rule).

    Args:
        input_shape: `(height, width, channels)`, pixel fractions in [0, 1], at least 16 pixels high and wide.
        classes: number of classes C, at least 2.
        dropout: share dropped in training, of maps and of what the head reads, in [0, 1).
        head: name, config or layer; see `tfrobust.models.heads`.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 50)` and, with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("dra_mnist").count_params()
    21840

    Reference:
        Thesis, section 4.4; Zhang et al. 2019, https://github.com/yaodongyu/TRADES (`models/net_mnist.py`).
    """
    x = inputs = keras.Input(check_image_shape(input_shape, 16))
    last = heads.make(head, check_integer("classes", classes, 2))
    check_rate("dropout", dropout)
    x = keras.layers.MaxPooling2D(2)(keras.layers.Conv2D(10, 5)(x))
    x = keras.layers.Conv2D(20, 5)(keras.layers.ReLU()(x))
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout)(x)
    x = keras.layers.Flatten()(keras.layers.ReLU()(keras.layers.MaxPooling2D(2)(x)))
    features = keras.layers.Dense(50, activation="relu")(x)
    return keras.Model(inputs, named_outputs(last, dropped(features, dropout)), name="dra_mnist")
