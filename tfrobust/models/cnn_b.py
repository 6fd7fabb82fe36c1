"""CNN_B, the small convolutional network of AELF."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfrobust.models import heads
from tfrobust.models.blocks import HE, batch_norm, convolution, pooled
from tfrobust.models.outputs import activation_layer, check_image_shape
from tfrobust.models.registry import register
from tfrobust.utils.validation import check_integer


@register
def cnn_b(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    activation: str = "leaky_relu",
    head: heads.Head = "dense",
) -> keras.Model:
    """CNN_B by this project's own definition: 1,148,874 trainable numbers for CIFAR-10.

    Three stages of two 3x3 convolutions with 64, 128 and 256 filters, each with BatchNorm and activation, padded to
    keep the size and without bias; 2x2 max-pooling behind the first two stages; global average pooling; head. The
    features are thus averages of a map that follows the activation, and with the leaky one may be negative.

    A choice throughout: the table in AELF that defined CNN_B is lost. What the paper says of it: a CNN with leaky ReLU
    on MNIST resized to 32x32 and on CIFAR-10; "very small to deal with CIFAR-10", yet about 92 % there after standard
    training; fewer features than the 640 of a WRN-28-10 (it takes the larger weights beta); after training on MNIST it
    still reads 95 % of digits that are shifted up by 8 of 32 pixels, which a flattened map would not. Kernels start
    normal by He's rule.

    Args:
        input_shape: `(height, width, channels)`, pixel fractions in [0, 1], at least 8 pixels high and wide.
        classes: number of classes C, at least 2.
        activation: "leaky_relu" with slope 0.1, or "relu".
        head: name, config or layer; see `tfrobust.models.heads`.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 256)`, `feature_map` `(B, H/4, W/4, 256)` and, with
        a dense head, `cam` `(B, H/4, W/4, C)`; with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("cnn_b", input_shape=(32, 32, 1)).output["cam"].shape
    (None, 8, 8, 10)

    Reference:
        AELF, Tables 1 (lost) to 3.
    """
    x = inputs = keras.Input(check_image_shape(input_shape, 8))
    last = heads.make(head, check_integer("classes", classes, 2))
    for stage, filters in enumerate((64, 128, 256)):
        if stage > 0:
            x = keras.layers.MaxPooling2D(2)(x)
        for _ in range(2):
            x = activation_layer(activation)(batch_norm(convolution(x, filters, 3, initializer=HE)))
    return pooled("cnn_b", inputs, x, last)
