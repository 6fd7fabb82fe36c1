"""Wide ResNets."""

from collections.abc import Sequence

import keras

from tfrobust.models import blocks
from tfrobust.models.registry import register
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.validation import check_integer


@register
def wide_resnet(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    depth: int = 28,
    width: int = 10,
    dropout: float = 0.0,
    activation: str = "relu",
    head: blocks.Head = "dense",
) -> keras.Model:
    """Returns WRN-depth-width: a pre-activation ResNet of three wide stages.

    A bare 3x3 stem of 16 filters; three stages of n = (depth - 4) / 6 blocks with 16, 32, 64 times `width` filters and
    strides 1, 2, 2; BatchNorm and activation; global average pooling; head. A block is
    x' + conv3x3(drop(act(norm(conv3x3(a))))) with a = act(norm(x)); the shortcut x' is x, or conv1x1(a), bare, where
    the width changes. Convolutions have no bias; BatchNorm has momentum 0.9 and epsilon 1e-5. Zagoruyko and Komodakis
    2016 (Wide Residual Networks).

    Pixels go in as they are, without mean and deviation, as in TRADES. Kernels start normal with variance
    2 / (k * k * filters), as in the paper's code and in TRADES; the head starts as Keras has it.

    Args:
        {{network}}
        depth: 6n + 4: 10, 16, 22, 28, 34, 40, ...
        width: Factor k of the filters, at least 1.
        dropout: Share of the values dropped between the two convolutions of a block, in [0, 1).
        activation: "relu", or "leaky_relu" with slope 0.1, throughout.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 64k)`, `feature_map` `(B, H/4, W/4, 64k)` and, with
        a dense head, `cam` `(B, H/4, W/4, C)`; with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> classifier = tfrobust.models.get("wide_resnet", depth=10, width=1)
    >>> classifier.output["cam"].shape
    (None, 8, 8, 10)
    """
    return _wide_resnet("wide_resnet", input_shape, classes, depth, width, dropout, activation, head)


@register
def wrn_28_10(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    dropout: float = 0.0,
    activation: str = "relu",
    head: blocks.Head = "dense",
) -> keras.Model:
    """Returns WRN-28-10: `wide_resnet` of depth 28 and width 10; 36,479,194 trainable numbers for 10 classes.

    The large network of InfoFeature, and of AELF on CIFAR-100.

    {{as_wide_resnet}}
    """
    return _wide_resnet("wrn_28_10", input_shape, classes, 28, 10, dropout, activation, head)


@register
def wrn_34_10(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    dropout: float = 0.0,
    activation: str = "relu",
    head: blocks.Head = "dense",
) -> keras.Model:
    """Returns WRN-34-10: `wide_resnet` of depth 34 and width 10; 46,160,474 trainable numbers for 10 classes.

    The network of TRADES (Zhang et al. 2019), whose code holds a further first stage that it never calls; its count of
    numbers includes that one.

    {{as_wide_resnet}}
    """
    return _wide_resnet("wrn_34_10", input_shape, classes, 34, 10, dropout, activation, head)


@register
def wrn_40_10(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    dropout: float = 0.2,
    activation: str = "relu",
    head: blocks.Head = "dense",
) -> keras.Model:
    """Returns WRN-40-10: `wide_resnet` of depth 40, width 10 and dropout 0.2; 55,841,754 trainable numbers.

    The network of AELF, section 4.3. A choice: AELF names a "WRN-40 (dropout 0.2)" after Yang et al. 2020 (A Closer
    Look at Accuracy vs. Robustness) and no width. Theirs is the one of width 10 (`WRN_40_10_drop20` of
    https://github.com/yangarbiter/robust-local-lipschitz). AELF runs both activations, the leaky one as AELFs*.

    {{as_wide_resnet}}
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
    head: blocks.Head,
) -> keras.Model:
    inputs, last = blocks.input_and_head(input_shape, classes, head, least=8)
    check_integer("depth", depth, 10)
    check_integer("width", width, 1)
    blocks.check_rate("dropout", dropout)
    if (depth - 4) % 6:
        near = depth - (depth - 4) % 6
        raise InvalidArgument(
            "Invalid value for `depth`: expected 6n + 4 (three stages of n blocks of two convolutions, three shortcuts "
            f"and the stem); the nearest are {near} and {near + 6}. Received: depth={depth}"
        )
    x = blocks.convolution(inputs, 16, 3, initializer=blocks.he_by_outputs())
    for stage in range(3):
        for i in range((depth - 4) // 6):
            strides = 2 if stage > 0 and i == 0 else 1
            x = blocks.preactivation_block(x, 16 * 2**stage * width, strides, blocks.he_by_outputs, dropout, activation)
    return blocks.pooled(name, inputs, blocks.activated(x, activation), last)
