"""The MNIST network of the feature regularization paper."""

from collections.abc import Sequence

import keras

from tfrobust.models.blocks import Head, input_and_head, unpooled
from tfrobust.models.registry import register


@register
def fpr_mnist(input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, head: Head = "dense") -> keras.Model:
    """Returns the MNIST network of FPR-v2, which is the one of Madry's MNIST challenge.

    Twice a 5x5 convolution (32, then 64 filters, ReLU) and 2x2 max-pooling, all padded to keep the size; dense 1024
    with ReLU; dense. It flattens instead of averaging, so it has no class activation map. FPR-v2, section on MNIST;
    Madry et al. 2018, https://github.com/MadryLab/mnist_challenge (`model.py`).

    Args:
        {{network}}

    Returns:
        A classifier with outputs `logits` `(B, C)` and `features` `(B, 1024)`, and `cosine` `(B, C)` with a
        cosine head.

    Example:

    >>> sorted(tfrobust.models.get("fpr_mnist").output)
    ['features', 'logits']
    """
    inputs, last = input_and_head(input_shape, classes, head)
    x = inputs
    for filters in (32, 64):
        x = keras.layers.Conv2D(filters, 5, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D(2, padding="same")(x)
    features = keras.layers.Dense(1024, activation="relu")(keras.layers.Flatten()(x))
    return unpooled("fpr_mnist", inputs, features, last)
