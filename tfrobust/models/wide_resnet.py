"""Wide ResNets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfrobust.models import heads
from tfrobust.models.blocks import batch_norm, check_rate, convolution, dropout, he_by_outputs, pooled
from tfrobust.models.outputs import activation_layer, check_image_shape
from tfrobust.models.registry import register
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.validation import check_integer

Tensor = Any


@register
def wide_resnet(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    depth: int = 28,
    width: int = 10,
    dropout: float = 0.0,
    activation: str = "relu",
    head: heads.Head = "dense",
) -> keras.Model:
    """WRN-depth-width: a pre-activation ResNet of three wide stages.

    A bare 3x3 stem of 16 filters; three stages of n = (depth - 4) / 6 blocks with 16, 32, 64 times `width` filters and
    strides 1, 2, 2; BatchNorm and activation; global average pooling; head. A block is
    x' + conv3x3(drop(act(norm(conv3x3(a))))) with a = act(norm(x)); the shortcut x' is x, or conv1x1(a), bare, where
    the width changes. Convolutions have no bias; BatchNorm has momentum 0.9 and epsilon 1e-5.

    Pixels go in as they are, without mean and deviation, as in TRADES. Kernels start normal with variance
    2 / (k * k * filters), as in the paper's code and in TRADES; the head starts as Keras has it.

    Args:
        input_shape: `(height, width, channels)`, pixel fractions in [0, 1], at least 8 pixels high and wide.
        classes: number of classes C, at least 2.
        depth: 6n + 4: 10, 16, 22, 28, 34, 40, ...
        width: factor k of the filters, at least 1.
        dropout: share of the values dropped between the two convolutions of a block, in [0, 1).
        activation: "relu", or "leaky_relu" with slope 0.1, throughout.
        head: name, config or layer; see `tfrobust.models.heads`.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 64k)`, `feature_map` `(B, H/4, W/4, 64k)` and, with
        a dense head, `cam` `(B, H/4, W/4, C)`; with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> classifier = tfrobust.models.get("wide_resnet", depth=10, width=1)
    >>> classifier.output["cam"].shape
    (None, 8, 8, 10)

    Reference:
        Zagoruyko and Komodakis 2016 (Wide Residual Networks).
    """
    return _wide_resnet("wide_resnet", input_shape, classes, depth, width, dropout, activation, head)


@register
def wrn_28_10(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    dropout: float = 0.0,
    activation: str = "relu",
    head: heads.Head = "dense",
) -> keras.Model:
    """WRN-28-10: `wide_resnet` of depth 28 and width 10; 36,479,194 trainable numbers for 10 classes.

    Args:
        input_shape: as in `wide_resnet`.
        classes: as in `wide_resnet`.
        dropout: as in `wide_resnet`.
        activation: as in `wide_resnet`.
        head: as in `wide_resnet`.

    Returns:
        A classifier with the outputs of `wide_resnet`; 640 features.

    Example:

    >>> "wrn_28_10" in tfrobust.models.names()
    True

    Reference:
        As `wide_resnet`; the large network of InfoFeature, and of AELF on CIFAR-100.
    """
    return _wide_resnet("wrn_28_10", input_shape, classes, 28, 10, dropout, activation, head)


@register
def wrn_34_10(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    dropout: float = 0.0,
    activation: str = "relu",
    head: heads.Head = "dense",
) -> keras.Model:
    """WRN-34-10: `wide_resnet` of depth 34 and width 10; 46,160,474 trainable numbers for 10 classes.

    The reference in TRADES holds a further first stage that it never calls; its count of numbers includes that one.

    Args:
        input_shape: as in `wide_resnet`.
        classes: as in `wide_resnet`.
        dropout: as in `wide_resnet`.
        activation: as in `wide_resnet`.
        head: as in `wide_resnet`.

    Returns:
        A classifier with the outputs of `wide_resnet`; 640 features.

    Example:

    >>> "wrn_34_10" in tfrobust.models.names()
    True

    Reference:
        As `wide_resnet`; Zhang et al. 2019 (TRADES).
    """
    return _wide_resnet("wrn_34_10", input_shape, classes, 34, 10, dropout, activation, head)


@register
def wrn_40_10(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    dropout: float = 0.2,
    activation: str = "relu",
    head: heads.Head = "dense",
) -> keras.Model:
    """WRN-40-10: `wide_resnet` of depth 40 and width 10, dropout 0.2; 55,841,754 trainable numbers for 10 classes.

    A choice: AELF names a "WRN-40 (dropout 0.2)" after Yang et al. 2020 and no width. Theirs is the one of width 10.

    Args:
        input_shape: as in `wide_resnet`.
        classes: as in `wide_resnet`.
        dropout: as in `wide_resnet`, but 0.2 by default.
        activation: as in `wide_resnet`; AELF runs both, the leaky one as AELFs*.
        head: as in `wide_resnet`.

    Returns:
        A classifier with the outputs of `wide_resnet`; 640 features.

    Example:

    >>> "wrn_40_10" in tfrobust.models.names()
    True

    Reference:
        AELF, section 4.3; Yang et al. 2020 (A Closer Look at Accuracy vs. Robustness),
        https://github.com/yangarbiter/robust-local-lipschitz (`WRN_40_10_drop20`).
    """
    return _wide_resnet("wrn_40_10", input_shape, classes, 40, 10, dropout, activation, head)


def _wide_resnet(
    name: str,
    input_shape: Sequence[int],
    classes: int,
    depth: int,
    width: int,
    dropout: float,
    activation: str,
    head: heads.Head,
) -> keras.Model:
    inputs = keras.Input(check_image_shape(input_shape, 8))
    last = heads.make(head, check_integer("classes", classes, 2))
    check_integer("depth", depth, 10)
    check_integer("width", width, 1)
    check_rate("dropout", dropout)
    if (depth - 4) % 6:
        near = depth - (depth - 4) % 6
        raise InvalidArgument(
            "Invalid value for `depth`: expected 6n + 4 (three stages of n blocks of two convolutions, three shortcuts "
            f"and the stem); the nearest are {near} and {near + 6}. Received: depth={depth}"
        )
    x = convolution(inputs, 16, 3, initializer=he_by_outputs())
    for stage in range(3):
        for i in range((depth - 4) // 6):
            x = _block(x, 16 * 2**stage * width, 2 if stage > 0 and i == 0 else 1, dropout, activation)
    return pooled(name, inputs, _activated(x, activation), last)


def _activated(x: Tensor, activation: str) -> Tensor:
    return activation_layer(activation)(batch_norm(x))


def _block(x: Tensor, filters: int, strides: int, rate: float, activation: str) -> Tensor:
    a = _activated(x, activation)
    if x.shape[-1] != filters:
        x = convolution(a, filters, 1, strides, he_by_outputs())
    y = _activated(convolution(a, filters, 3, strides, he_by_outputs()), activation)
    y = convolution(dropout(y, rate), filters, 3, initializer=he_by_outputs())
    return keras.layers.Add()([x, y])
