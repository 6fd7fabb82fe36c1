"""Shared parts of the attention layers: the weighted sum of local features, and checks of shapes."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfrobust.utils.errors import InvalidArgument

Tensor = Any
Shape = tuple[Any, ...]


def attend(scores: Tensor, local_features: Tensor) -> dict[str, Tensor]:
    """Computes h = sum_n w_n l_n, w = softmax(c) over all positions, from scores c and local features l.

    The result is float32 even if the arguments have 16 bits: 64 weights near 1/64 would not sum to 1, and losses
    subtract descriptors.

    Args:
        scores: c, `(B, H, W)`.
        local_features: l, `(B, H, W, D)`.

    Returns:
        `{"descriptor": (B, D), "weights": (B, H, W)}`.
    """
    dtype = keras.backend.result_type(scores.dtype, "float32")
    scores = ops.cast(scores, dtype)
    # `ops.softmax` over two axes needs known sizes. The largest exponent is 0, so there is no overflow.
    exponents = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=(1, 2), keepdims=True)))
    weights = exponents / ops.sum(exponents, axis=(1, 2), keepdims=True)
    return {"descriptor": ops.einsum("bhw,bhwd->bd", weights, ops.cast(local_features, dtype)), "weights": weights}


def check_shapes(layer: str, local: Shape, vector: Shape, widths: tuple[int, int] | None = None) -> tuple[int, int]:
    """Checks that the inputs are a map of local features and one global feature for each image.

    Args:
        layer: name of the layer's class.
        local: shape of the local features.
        vector: shape of the global feature.
        widths: channels of both for which the layer was built; None before it is built.

    Returns:
        The channels of both.
    """
    channels, features = widths or ("channels", "features")
    if not _fits(local, 4, channels):
        raise InvalidArgument(
            f"Invalid `local_features` of `{layer}`: expected shape (batch, height, width, {channels}). Received: "
            f"shape={tuple(local)}. Attention reads a map of local features. Give it the last convolution's output "
            "instead of pooled features."
        )
    if not _fits(vector, 2, features):
        raise InvalidArgument(
            f"Invalid `global_feature` of `{layer}`: expected shape (batch, {features}), one vector for every image. "
            f"Received: shape={tuple(vector)}. Pool a map to one vector first, for example by GlobalMaxPooling2D."
        )
    if None not in (local[0], vector[0]) and local[0] != vector[0]:
        raise InvalidArgument(
            f"Invalid `global_feature` of `{layer}`: expected shape (batch, {features}), one vector for each of the "
            f"{local[0]} images of `local_features`. Received: shape={tuple(vector)}"
        )
    return local[-1], vector[-1]


def _fits(shape: Shape, rank: int, width: int | str) -> bool:
    # A kernel needs a known width.
    return len(shape) == rank and shape[-1] is not None and (isinstance(width, str) or shape[-1] == width)
