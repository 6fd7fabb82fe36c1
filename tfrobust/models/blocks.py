"""Shared parts of the networks: input and head, padded convolutions, BatchNorm, dropout, blocks and pooling."""

from collections.abc import Callable
from typing import Any

import keras

from tfrobust.models import heads
from tfrobust.models.heads import Head
from tfrobust.models.outputs import activation_layer, check_image_shape, named_outputs
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_integer, check_number

# For networks without a reference initialization; by its name Keras creates a new initializer for every layer.
HE = "he_normal"


def input_and_head(input_shape: Any, classes: int, head: Head, least: int = 1) -> tuple[Tensor, keras.layers.Layer]:
    """Returns the pixels and the last layer of a network for images of at least `least` pixels in height and width."""
    return keras.Input(check_image_shape(input_shape, least)), heads.make(head, check_integer("classes", classes, 2))


def he_by_outputs() -> keras.initializers.Initializer:
    """Returns a new initializer N(0, 2 / (k * k * filters)): He's by fan-out, as in Wide ResNets."""
    # A shared unseeded initializer would give all kernels of one shape the same values.
    return keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")


def uniform_third() -> keras.initializers.Initializer:
    """Returns a new initializer U(-b, b), b = 1 / sqrt(k * k * channels): variance 1 / (3 fan_in). PyTorch's default.

    The reference ResNets of adversarial training use it by default, with a learning rate of 0.1. An attack runs in
    inference mode, where BatchNorm is the identity at first: by He's rule every residual block would double the
    variance (ResNet-101's logits would start near a million, and overflow in 16 bits), by this one they start near 0.
    """
    return keras.initializers.VarianceScaling(1.0 / 3.0, mode="fan_in", distribution="uniform")


def convolution(x: Tensor, filters: int, size: int, strides: int = 1, initializer: Any = HE) -> Tensor:
    """Applies a convolution without bias, padded by (size - 1) / 2 on each side: `(B, ceil(H / s), ..., filters)`.

    Keras' "same" pads even images on one side alone when it strides. Its 3x3 kernels would then be shifted by one pixel
    relative to the 1x1 kernels of the shortcuts, and to those of the networks in PyTorch.
    """
    if strides > 1 and size > 1:
        x = keras.layers.ZeroPadding2D((size - 1) // 2)(x)
    padding = "valid" if strides > 1 else "same"
    layer = keras.layers.Conv2D(filters, size, strides, padding=padding, use_bias=False, kernel_initializer=initializer)
    return layer(x)


def batch_norm(x: Tensor) -> Tensor:
    """Applies BatchNorm with the usual momentum 0.9 and epsilon 1e-5 (Keras' defaults: 0.99 and 1e-3)."""
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x)


def activated(x: Tensor, activation: str = "relu") -> Tensor:
    """Applies BatchNorm and an activation."""
    return activation_layer(activation)(batch_norm(x))


def preactivation_block(
    x: Tensor, filters: int, strides: int, initializer: Callable[[], Any], rate: float = 0.0, activation: str = "relu"
) -> Tensor:
    """Computes x' + conv3x3(drop(act(norm(conv3x3(a))))), a = act(norm(x)); x' is x, or conv1x1(a) at other widths."""
    a = activated(x, activation)
    if x.shape[-1] != filters:
        x = convolution(a, filters, 1, strides, initializer())
    y = activated(convolution(a, filters, 3, strides, initializer()), activation)
    y = convolution(dropout(y, rate), filters, 3, initializer=initializer())
    return keras.layers.Add()([x, y])


def dropout(x: Tensor, rate: float) -> Tensor:
    """Applies dropout to single values; no layer for a rate of 0."""
    return keras.layers.Dropout(rate)(x) if rate else x


def check_rate(name: str, value: Any) -> float:
    """Returns `value`, a number in [0, 1)."""
    return check_number(name, value, 0, 1, below=True)


def pooled(name: str, inputs: Tensor, feature_map: Tensor, head: keras.layers.Layer) -> keras.Model:
    """Returns the classifier `name` whose features are the feature map's average over its positions."""
    features = keras.layers.GlobalAveragePooling2D()(feature_map)
    return keras.Model(inputs, named_outputs(head, features, feature_map), name=name)


def unpooled(name: str, inputs: Tensor, features: Tensor, head: keras.layers.Layer) -> keras.Model:
    """Returns the classifier `name` whose features are not the average of a map, so that it has no activation map."""
    return keras.Model(inputs, named_outputs(head, features), name=name)
