"""ResNets for small images, with and without pre-activation."""

from collections.abc import Callable, Sequence

import keras

from tfrobust.models import blocks
from tfrobust.models.registry import register
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_integer

FILTERS = 64  # of the first stage


@register
def resnet18(
    input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, head: blocks.Head = "dense", *, filters: int = FILTERS
) -> keras.Model:
    """Returns ResNet-18 for 32x32 images, as in adversarial training: 11,173,962 trainable numbers for 10 classes.

    A 3x3 stem of 64 filters with stride 1, BatchNorm and ReLU, no max-pooling; four stages of basic blocks (2, 2, 2, 2)
    with 64, 128, 256, 512 filters and strides 1, 2, 2, 2; global average pooling; head. A block is
    relu(x' + norm(conv3x3(relu(norm(conv3x3(x)))))), where the shortcut x' is x, or norm(conv1x1(x)) where size or
    width change. Convolutions have no bias; BatchNorm has momentum 0.9 and epsilon 1e-5. He et al. 2016 (Deep Residual
    Learning), with the changes for CIFAR-10 of https://github.com/kuangliu/pytorch-cifar (`models/resnet.py`), which
    TRADES, MART and InfoFeature take over.

    Pixels go in as they are, without mean and deviation, as in TRADES. Kernels start uniform with variance
    1 / (3 fan_in), which is what the reference in PyTorch does; the head starts as Keras has it.

    Args:
        {{network}}
        filters: Number of filters of stem and first stage; the later stages have 2, 4 and 8 times as many.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 512)`, `feature_map` `(B, H/8, W/8, 512)` and, with
        a dense head, `cam` `(B, H/8, W/8, C)`; with a cosine head, `cosine` `(B, C)`. 512 is 8 * `filters`.

    Example:

    >>> classifier = tfrobust.models.get("resnet18", classes=5)
    >>> classifier.output["cam"].shape
    (None, 4, 4, 5)
    """
    return _resnet("resnet18", _basic, (2, 2, 2, 2), input_shape, classes, head, check_integer("filters", filters))


@register
def resnet34(input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, head: blocks.Head = "dense") -> keras.Model:
    """Returns ResNet-34 for 32x32 images: `resnet18` with 3, 4, 6, 3 blocks; 21,282,122 trainable numbers.

    It is used in chapter 4 of the thesis.

    {{as_resnet18}}
    """
    return _resnet("resnet34", _basic, (3, 4, 6, 3), input_shape, classes, head)


@register
def resnet50(input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, head: blocks.Head = "dense") -> keras.Model:
    """Returns ResNet-50 for 32x32 images: 23,520,842 trainable numbers for 10 classes.

    Stem, stages and strides of `resnet18`, with 3, 4, 6, 3 bottlenecks: 1x1 to the stage's filters, 3x3 with the
    stride, 1x1 to four times the filters, each with BatchNorm, ReLU after the first two and after the addition. The
    stride is on the 3x3 convolution, as in the references in PyTorch (the paper has it on the first 1x1). It is used in
    chapter 4 of the thesis.

    {{as_resnet18}}
    """
    return _resnet("resnet50", _bottleneck, (3, 4, 6, 3), input_shape, classes, head)


@register
def resnet101(input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, head: blocks.Head = "dense") -> keras.Model:
    """Returns ResNet-101 for 32x32 images: `resnet50` with 3, 4, 23, 3 bottlenecks; 42,512,970 trainable numbers.

    It is the source of the black-box attacks of chapter 3 of the thesis.

    {{as_resnet18}}
    """
    return _resnet("resnet101", _bottleneck, (3, 4, 23, 3), input_shape, classes, head)


@register
def preact_resnet18(
    input_shape: Sequence[int] = (32, 32, 3), classes: int = 10, head: blocks.Head = "dense"
) -> keras.Model:
    """Returns the pre-activation ResNet-18 for 32x32 images: 11,172,170 trainable numbers for 10 classes.

    A bare 3x3 stem of 64 filters; four stages of two blocks with 64, 128, 256, 512 filters and strides 1, 2, 2, 2;
    BatchNorm and ReLU; global average pooling; head. A block is x' + conv3x3(relu(norm(conv3x3(a)))) with
    a = relu(norm(x)); the shortcut x' is x, or conv1x1(a), bare, where size and width change. Convolutions have no
    bias; BatchNorm has momentum 0.9 and epsilon 1e-5. He et al. 2016 (Identity Mappings in Deep Residual Networks).

    A choice: the last BatchNorm and ReLU, before the pooling. The paper and the adversarial training of Wong et al. and
    Rice et al. 2020 (Overfitting in Adversarially Robust Deep Learning) have them; a widespread earlier version has
    not, and counts 11,171,146, which is 2 * 512 fewer. Pixels go in as they are and kernels start as in `resnet18`.

    Args:
        {{network}}

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, 512)`, `feature_map` `(B, H/8, W/8, 512)` and, with
        a dense head, `cam` `(B, H/8, W/8, C)`; with a cosine head, `cosine` `(B, C)`.

    Example:

    >>> tfrobust.models.get("preact_resnet18").output["features"].shape
    (None, 512)
    """
    inputs, last = blocks.input_and_head(input_shape, classes, head, least=8)
    x = blocks.convolution(inputs, 64, 3, initializer=blocks.uniform_third())
    for stage in range(4):
        for i in range(2):
            x = blocks.preactivation_block(x, 64 * 2**stage, 2 if stage > 0 and i == 0 else 1, blocks.uniform_third)
    return blocks.pooled("preact_resnet18", inputs, blocks.activated(x), last)


def _resnet(
    name: str,
    block: Callable[[Tensor, int, int], Tensor],
    counts: Sequence[int],
    input_shape: Sequence[int],
    classes: int,
    head: blocks.Head,
    filters: int = FILTERS,
) -> keras.Model:
    inputs, last = blocks.input_and_head(input_shape, classes, head, least=8)
    x = keras.layers.ReLU()(_normed(inputs, filters, 3))
    for stage, count in enumerate(counts):
        for i in range(count):
            x = block(x, filters * 2**stage, 2 if stage > 0 and i == 0 else 1)
    return blocks.pooled(name, inputs, x, last)


def _normed(x: Tensor, filters: int, size: int, strides: int = 1) -> Tensor:
    return blocks.batch_norm(blocks.convolution(x, filters, size, strides, blocks.uniform_third()))


def _basic(x: Tensor, filters: int, strides: int) -> Tensor:
    y = keras.layers.ReLU()(_normed(x, filters, 3, strides))
    return _joined(x, _normed(y, filters, 3), strides)


def _bottleneck(x: Tensor, filters: int, strides: int) -> Tensor:
    y = keras.layers.ReLU()(_normed(x, filters, 1))
    y = keras.layers.ReLU()(_normed(y, filters, 3, strides))
    return _joined(x, _normed(y, 4 * filters, 1), strides)


def _joined(x: Tensor, y: Tensor, strides: int) -> Tensor:
    if strides > 1 or x.shape[-1] != y.shape[-1]:
        x = _normed(x, y.shape[-1], 1, strides)
    return keras.layers.ReLU()(keras.layers.Add()([x, y]))
