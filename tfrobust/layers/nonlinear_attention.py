"""Attention whose compatibility is a small network."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfrobust.layers.attend import attend, check_shapes
from tfrobust.utils.validation import check_integer

Tensor = Any


@keras.saving.register_keras_serializable(package="tfrobust")
class NonlinearAttention(keras.layers.Layer):
    """Weighs local features by a network, c_n = MLP([l_n ; g]): w = softmax(c), h = sum_n w_n l_n.

    The network has one hidden layer of ReLU units and one output: c_n = v . relu(W [l_n ; g] + b). A bias of the output
    would be the same at every position, and cancel in the softmax: there is none. W [l_n ; g] is computed as
    W_l l_n + W_g g, the second once for every image, without the concatenation. Weights and descriptor are
    float32 under mixed precision.

    Args:
        hidden: number of hidden units.
        **kwargs: `name` and `dtype`, as for every Keras layer.

    Call arguments:
        local_features: l, `(B, H, W, D)`, a map such as the output of the last convolution.
        global_feature: g, `(B, G)`. G need not be D.

    Returns:
        `{"descriptor": (B, D), "weights": (B, H, W)}`; the weights are positive and sum to 1 over the positions.

    Raises:
        ValueError: for `hidden` below 1, and for shapes other than these.

    Example:

    >>> layer = tfrobust.layers.NonlinearAttention()
    >>> outputs = layer(keras.random.normal((2, 8, 8, 64)), keras.random.normal((2, 32)))
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'descriptor': (2, 64), 'weights': (2, 8, 8)}

    Reference:
        FPR-v1 and FPR-v2, section on feature prioritizing (64 hidden units).
    """

    def __init__(self, hidden: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = check_integer("hidden", hidden)

    def build(self, local_features_shape: tuple[int | None, ...], global_feature_shape: tuple[int | None, ...]) -> None:
        self.widths = self._check(local_features_shape, global_feature_shape)
        # One kernel for both parts, initialized as that of the concatenation.
        self.kernel = self.add_weight((sum(self.widths), self.hidden), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight((self.hidden,), initializer="zeros", name="bias")
        self.score = self.add_weight((self.hidden, 1), initializer="glorot_uniform", name="score")

    def call(self, local_features: Tensor, global_feature: Tensor) -> dict[str, Tensor]:
        width, _ = self._check(local_features.shape, global_feature.shape)
        image = ops.matmul(global_feature, self.kernel[width:]) + self.bias
        hidden = ops.relu(ops.matmul(local_features, self.kernel[:width]) + image[:, None, None])
        return attend(ops.matmul(hidden, self.score)[..., 0], local_features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}

    def _check(self, local: tuple[int | None, ...], vector: tuple[int | None, ...]) -> tuple[int, int]:
        return check_shapes("NonlinearAttention", local, vector, self.widths if self.built else None)
