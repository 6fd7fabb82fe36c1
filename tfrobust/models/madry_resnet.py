"""The CIFAR-10 network of Madry et al., and the attention forms of it by the feature prioritizing papers."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers, ops

from tfrobust.layers import LinearAttention, NonlinearAttention, Standardize
from tfrobust.models import heads
from tfrobust.models.blocks import he_by_outputs, input_and_head
from tfrobust.models.outputs import activation_layer, named_outputs
from tfrobust.models.registry import register
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_integer

UNITS = 5
BLOCKS = (3, 4)


@register
def madry_resnet(
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    width: int = 1,
    attention: Sequence[int] = (),
    form: str = "nonlinear",
    head: heads.Head = "dense",
    original: bool = False,
) -> keras.Model:
    """Returns the ResNet of Madry's CIFAR-10 challenge; with `attention`, that of FPR-v2 (4,) or of FPR-v1 (3, 4).

    Standardization of every image; block 1, a 3x3 convolution of 16 filters; blocks 2, 3 and 4, five pre-activation
    units each of 16, 32 and 64 filters times `width`, blocks 3 and 4 at half the size of the block before; BatchNorm
    and leaky ReLU with slope 0.1 throughout. A unit is x + conv(act(BN(conv(act(BN(x)))))). The first unit of a block
    shares its first activation with the shortcut, which is average-pooled and padded with zero channels in equal parts
    before and behind. Without attention the features are the average of the last, activated map.

    With attention the average gives way to a global feature g: max-pooling 2x2, a 3x3 convolution, BatchNorm, leaky
    ReLU, the maximum over what is left. The local features of a block are its map behind BatchNorm and leaky ReLU
    (block 4: the network's last; block 3: a pair of its own, which the residual path does not see). An attention layer
    for each block weighs them by g, and the descriptors, side by side, are the features; g goes nowhere else. In the
    form "sum" no gradient reaches g (see `LinearAttention`): the kernels that compute it change by weight decay alone.

    In Madry's own code, `original=True`, the first unit of block 2 alone shares its activation with the shortcut (those
    of blocks 3 and 4 pool and pad x itself), and BatchNorm's epsilon is 1e-3 in place of 1e-5. Neither adds a weight.

    FPR-v1 and FPR-v2, sections 3 and 4.2; Madry et al. 2018, https://github.com/MadryLab/cifar10_challenge, `model.py`.

    Args:
        {{network}}
        width: Factor of the filters of blocks 2 to 4; 3 is the papers' wide network (the stem keeps 16).
        attention: Blocks whose local features are attended, out of 3 and 4; (): the plain network.
        form: Form of the attention: "nonlinear" (`NonlinearAttention`), "sum" or "dot" (`LinearAttention`).
        original: Whether activations are shared and BatchNorm's epsilon is as in Madry's own code.

    Returns:
        A classifier with outputs `logits` `(B, C)`, `features` `(B, D)`, and without attention `feature_map`
        `(B, H/4, W/4, D)` and `cam` `(B, H/4, W/4, C)`, D = 64 width. With attention `attention`
        `{"block3": (B, H/2, W/2), "block4": (B, H/4, W/4)}` and `local_features` `{"block3": (B, H/2, W/2, 32 width),
        "block4": (B, H/4, W/4, 64 width)}`, the attended blocks alone; D is the sum of their channels. With a cosine
        head `cosine` `(B, C)` in place of `cam`.

    Example:

    >>> classifier = tfrobust.models.get("madry_resnet", attention=(4,))
    >>> classifier.output["attention"]["block4"].shape
    (None, 8, 8)
    """
    inputs, last = input_and_head(input_shape, classes, head)
    check_integer("width", width, 1)
    blocks = _check_blocks(attention)
    if form not in ("nonlinear", *LinearAttention.FORMS):
        raise unknown("form of attention", form, ("nonlinear", *LinearAttention.FORMS))

    shares, epsilon = ((2,), 1e-3) if original else ((2, 3, 4), 1e-5)
    x = _convolution(16, "stem")(Standardize(name="standardize")(inputs))
    local: dict[int, Tensor] = {}
    for block, filters, strides in ((2, 16 * width, 1), (3, 32 * width, 2), (4, 64 * width, 2)):
        for unit in range(1, UNITS + 1):
            shared = unit == 1 and block in shares
            x = _unit(x, filters, strides if unit == 1 else 1, shared, epsilon, f"block{block}_unit{unit}")
        if block == 4 or block in blocks:
            local[block] = _normalized(x, epsilon, f"local{block}")

    if blocks:
        outputs = _attended(last, {b: local[b] for b in blocks}, _global_feature(local[4], epsilon), form)
    else:
        pooled = layers.GlobalAveragePooling2D(name="features")(local[4])
        outputs = named_outputs(last, pooled, local[4])
    return keras.Model(inputs, outputs, name="madry_resnet")


def _convolution(filters: int, name: str, strides: int = 1) -> keras.layers.Layer:
    # "same" as in Madry's TensorFlow: where it strides, an even image is padded behind alone.
    return layers.Conv2D(
        filters, 3, strides, padding="same", use_bias=False, kernel_initializer=he_by_outputs(), name=name
    )


def _normalized(x: Tensor, epsilon: float, name: str) -> Tensor:
    x = layers.BatchNormalization(momentum=0.9, epsilon=epsilon, name=f"{name}_bn")(x)
    return activation_layer("leaky_relu", name=name)(x)


def _unit(x: Tensor, filters: int, strides: int, shared: bool, epsilon: float, name: str) -> Tensor:
    active = _normalized(x, epsilon, f"{name}_act1")
    y = _convolution(filters, f"{name}_conv1", strides)(active)
    y = _convolution(filters, f"{name}_conv2")(_normalized(y, epsilon, f"{name}_act2"))
    return layers.Add(name=name)([_shortcut(active if shared else x, filters, strides, name), y])


def _shortcut(x: Tensor, filters: int, strides: int, name: str) -> Tensor:
    if strides > 1:
        # "same": an odd size is halved as the convolution beside it halves it.
        x = layers.AveragePooling2D(strides, padding="same", name=f"{name}_pool")(x)
    side = (filters - x.shape[-1]) // 2  # all widths are multiples of 16
    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [side, side]]) if side else x


def _global_feature(feature_map: Tensor, epsilon: float) -> Tensor:
    # The papers say "a convolutional layer sandwiched between two max-pooling layers". Ours are: as many filters as the
    # map has channels, for the linear forms need equal widths; BatchNorm and activation as behind every convolution
    # here, so that g has the scale of the local features; a global maximum, for g is one vector.
    x = layers.MaxPooling2D(2, padding="same", name="global_pool")(feature_map)
    x = _normalized(_convolution(feature_map.shape[-1], "global_conv")(x), epsilon, "global_act")
    return layers.GlobalMaxPooling2D(name="global_feature")(x)


def _attended(head: Callable[..., Any], local: dict[int, Tensor], global_feature: Tensor, form: str) -> dict[str, Any]:
    weights, descriptors = {}, []
    for block, features in local.items():
        name = f"attention{block}"
        layer = NonlinearAttention(name=name) if form == "nonlinear" else LinearAttention(form, name=name)
        attended = layer(features, global_feature)
        weights[f"block{block}"] = attended["weights"]
        descriptors.append(attended["descriptor"])
    # Not `Concatenate`, which would round the float32 descriptors under mixed precision.
    features = ops.concatenate(descriptors, axis=-1) if len(descriptors) > 1 else descriptors[0]
    maps = {f"block{block}": local[block] for block in local}
    return {**named_outputs(head, features), "attention": weights, "local_features": maps}


def _check_blocks(attention: Any) -> tuple[int, ...]:
    blocks = tuple(attention) if isinstance(attention, (tuple, list)) else None
    if blocks is None or any(b not in BLOCKS for b in blocks) or len(set(blocks)) < len(blocks):
        raise InvalidArgument(
            "Invalid value for `attention`: expected the blocks to attend, each once, as (4,), (3, 4) or (3,), or () "
            f"for the plain network. Received: attention={attention!r}"
        )
    return tuple(block for block in BLOCKS if block in blocks)
