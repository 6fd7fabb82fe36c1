"""The MNIST network of the feature regularization paper."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfrobust.models import heads
from tfrobust.models.outputs import check_image_shape, named_outputs
from tfrobust.models.registry import register
from tfrobust.utils.validation import check_integer


@register
def fpr_mnist(input_shape: Sequence[int] = (28, 28, 1), classes: int = 10, head: heads.Head = "dense") -> keras.Model:
    """The MNIST network of FPR-v2, which is the one of Madry's MNIST challenge.

    Twice a 5x5 convolution (32, then 64 filters, ReLU) and 2x2 max-pooling, all padded to keep the size; dense 1024
    with ReLU; dense. It flattens instead of averaging, so it has no class activation map.

    Args:
        input_shape: `(height, width, channels)`, pixel fractions in [0, 1].
        classes: number of classes C, at least 2.
        head: "dense", "cosine", a config of one, or a layer.

    Returns:
        A classifier with outputs `logits` `(B, C)` and `features` `(B, 1024)`, and `cosine` `(B, C)` with a
        cosine head.

    Example:

    >>> sorted(tfrobust.models.get("fpr_mnist").output)
    ['features', 'logits']

    Reference:
        FPR-v2, section on MNIST; Madry et al. 2018, https://github.com/MadryLab/mnist_challenge (`model.py`).
    """
    x = inputs = keras.Input(check_image_shape(input_shape))
    last = heads.make(head, check_integer("classes", classes, 2))
    for filters in (32, 64):
        x = keras.layers.Conv2D(filters, 5, padding="same", activation="relu")(x)
        x = keras.layers.MaxPooling2D(2, padding="same")(x)
    features = keras.layers.Dense(1024, activation="relu")(keras.layers.Flatten()(x))
    return keras.Model(inputs, named_outputs(last, features), name="fpr_mnist")
