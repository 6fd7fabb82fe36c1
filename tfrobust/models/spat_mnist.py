"""The MNIST network of SPAT."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfrobust.models import heads
from tfrobust.models.blocks import HE, check_rate
from tfrobust.models.blocks import dropout as dropped
from tfrobust.models.outputs import check_image_shape, named_outputs
from tfrobust.models.registry import register
from tfrobust.utils.validation import check_integer


@register
def spat_mnist(
    input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, dropout: float = 0.5, head: heads.Head = "dense"
) -> keras.Model:
    """The MNIST network of the thesis' chapter 3, "a simple 4-layer-CNN followed by three fully connected layers".

    3x3 convolutions of 32 and 32 filters, 2x2 max-pooling, 64 and 64 filters, 2x2 max-pooling, none padded; dense 200,
    dropout, dense 200; head; ReLU throughout: 312,202 trainable numbers for MNIST. It flattens, so it has no class
    activation map.

    A choice: the thesis prints no widths; they are those of TRADES' MNIST network, which has the same seven layers and
    which MART and GAIRAT share, with its dropout of one half between the dense layers. Kernels of the convolutions
    start by He's rule, as there. The head starts as Keras has it, and not at zero as there: at zero the gradient of the
    loss by the pixels is zero too, and the first adversaries would be noise.

    Args:
        input_shape: `(height, width, channels)`, pixel fractions in [0, 1], at least 16 pixels high and wide.
        classes: number of classes C, at least 2.
        dropout: share of the values dropped in training behind the first dense layer, in [0, 1).
        head: name, config or layer; see `tfrobust.models.heads`.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 200)` and, with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("spat_mnist").count_params()
    312202

    Reference:
        Thesis, section 3.4; Zhang et al. 2019, https://github.com/yaodongyu/TRADES (`models/small_cnn.py`).
    """
    x = inputs = keras.Input(check_image_shape(input_shape, 16))
    last = heads.make(head, check_integer("classes", classes, 2))
    check_rate("dropout", dropout)
    for filters in (32, 64):
        for _ in range(2):
            x = keras.layers.Conv2D(filters, 3, activation="relu", kernel_initializer=HE)(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Dense(200, activation="relu")(keras.layers.Flatten()(x))
    x = keras.layers.Dense(200, activation="relu")(dropped(x, dropout))
    return keras.Model(inputs, named_outputs(last, x), name="spat_mnist")
