"""Shared parts of the networks: padded convolutions, BatchNorm, dropout, pooling and head."""

from __future__ import annotations

from typing import Any

import keras

from tfrobust.models.outputs import named_outputs
from tfrobust.utils.validation import check_number

Tensor = Any

# For networks without a reference initialization; by its name Keras creates a new initializer for every layer.
HE = "he_normal"


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
