"""The pre-activation ResNet for small images."""

from collections.abc import Sequence

import keras

from tfrobust.models import blocks
from tfrobust.models.registry import register


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
