"""The pre-activation ResNet for small images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfrobust.models import heads
from tfrobust.models.blocks import batch_norm, convolution, pooled, uniform_third
from tfrobust.models.outputs import check_image_shape
from tfrobust.models.registry import register
from tfrobust.utils.validation import check_integer

Tensor = Any


@register
def preact_resnet18(
    input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, head: heads.Head = "dense"
) -> keras.Model:
    """Pre-activation ResNet-18 for 32x32 images: 11,172,170 trainable numbers for 10 classes.

    A bare 3x3 stem of 64 filters; four stages of two blocks with 64, 128, 256, 512 filters and strides 1, 2, 2, 2;
    BatchNorm and ReLU; global average pooling; head. A block is x' + conv3x3(relu(norm(conv3x3(a)))) with
    a = relu(norm(x)); the shortcut x' is x, or conv1x1(a), bare, where size and width change. Convolutions have no
    bias; BatchNorm has momentum 0.9 and epsilon 1e-5.

    A choice: the last BatchNorm and ReLU, before the pooling. The paper and the adversarial training of Wong et al. and
    Rice et al. have them; a widespread earlier version has not, and counts 11,171,146, which is 2 * 512 fewer. Pixels
    go in as they are and kernels start as in `resnet18`.

    Args:
        input_shape: `(height, width, channels)`, pixel fractions in [0, 1], at least 8 pixels high and wide.
        classes: number of classes C, at least 2.
        head: name, config or layer; see `tfrobust.models.heads`.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 512)`, `feature_map` `(B, H/8, W/8, 512)` and, with
        a dense head, `cam` `(B, H/8, W/8, C)`; with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("preact_resnet18").output["features"].shape
    (None, 512)

    Reference:
        He et al. 2016 (Identity Mappings in Deep Residual Networks); Rice et al. 2020 (Overfitting in Adversarially
        Robust Deep Learning).
    """
    inputs = keras.Input(check_image_shape(input_shape, 8))
    last = heads.make(head, check_integer("classes", classes, 2))
    x = convolution(inputs, 64, 3, initializer=uniform_third())
    for stage in range(4):
        for i in range(2):
            x = _block(x, 64 * 2**stage, 2 if stage > 0 and i == 0 else 1)
    return pooled("preact_resnet18", inputs, _activated(x), last)


def _activated(x: Tensor) -> Tensor:
    return keras.layers.ReLU()(batch_norm(x))


def _block(x: Tensor, filters: int, strides: int) -> Tensor:
    a = _activated(x)
    if strides > 1 or x.shape[-1] != filters:
        x = convolution(a, filters, 1, strides, uniform_third())
    y = convolution(a, filters, 3, strides, uniform_third())
    y = convolution(_activated(y), filters, 3, initializer=uniform_third())
    return keras.layers.Add()([x, y])
