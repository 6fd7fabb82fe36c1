"""The MNIST network of SPAT."""

from collections.abc import Sequence

import keras

from tfrobust.models.blocks import HE, Head, check_rate, input_and_head, unpooled
from tfrobust.models.blocks import dropout as dropped
from tfrobust.models.registry import register


@register
def spat_mnist(
    input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, dropout: float = 0.5, head: Head = "dense"
) -> keras.Model:
    """Returns the MNIST network of chapter 3 of the thesis, "a simple 4-layer-CNN" with three fully connected layers.

    3x3 convolutions of 32 and 32 filters, 2x2 max-pooling, 64 and 64 filters, 2x2 max-pooling, none padded; dense 200,
    dropout, dense 200; head; ReLU throughout: 312,202 trainable numbers for MNIST. It flattens, so it has no class
    activation map.

    A choice: the thesis prints no widths; they are those of TRADES' MNIST network, which has the same seven layers and
    which MART and GAIRAT share, with its dropout of one half between the dense layers. Kernels of the convolutions
    start by He's rule, as there. The head starts as Keras has it, and not at zero as there: at zero the gradient of the
    loss by the pixels is zero too, and the first adversaries would be noise. Thesis, section 3.4; Zhang et al. 2019,
    https://github.com/yaodongyu/TRADES (`models/small_cnn.py`).

    Args:
        {{network}}
        dropout: Share of the values dropped in training behind the first dense layer, in [0, 1).

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 200)` and, with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("spat_mnist").count_params()
    312202
    """
    inputs, last = input_and_head(input_shape, classes, head, least=16)
    x = inputs
    check_rate("dropout", dropout)
    for filters in (32, 64):
        for _ in range(2):
            x = keras.layers.Conv2D(filters, 3, activation="relu", kernel_initializer=HE)(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Dense(200, activation="relu")(keras.layers.Flatten()(x))
    x = keras.layers.Dense(200, activation="relu")(dropped(x, dropout))
    return unpooled("spat_mnist", inputs, x, last)
