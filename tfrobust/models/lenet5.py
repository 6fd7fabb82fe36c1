"""LeNet-5."""

from collections.abc import Sequence

import keras

from tfrobust.models.blocks import Head, input_and_head, unpooled
from tfrobust.models.registry import register


@register
def lenet5(input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, head: Head = "dense") -> keras.Model:
    """Returns LeNet-5 in today's form: 61,706 trainable numbers for MNIST.

    A 5x5 convolution of 6 filters, padded to keep the size (MNIST's 28 pixels then come out as the paper's 32 do), and
    one of 16, not padded, each with ReLU and 2x2 max-pooling; dense 120 and 84 with ReLU; head. It flattens, so it has
    no class activation map.

    A choice: ReLU and max-pooling, as everybody runs it today, in place of the paper's scaled tanh, trained averages,
    sparse connections and radial outputs. Kernels start as Keras has it (Glorot's rule). LeCun et al. 1998
    (Gradient-Based Learning Applied to Document Recognition); the source of the black-box attacks on MNIST in chapter 3
    of the thesis.

    Args:
        {{network}}

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 84)` and, with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("lenet5").count_params()
    61706
    """
    inputs, last = input_and_head(input_shape, classes, head, least=12)
    x = inputs
    for filters, padding in ((6, "same"), (16, "valid")):
        x = keras.layers.Conv2D(filters, 5, padding=padding, activation="relu")(x)
        x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    for units in (120, 84):
        x = keras.layers.Dense(units, activation="relu")(x)
    return unpooled("lenet5", inputs, x, last)
