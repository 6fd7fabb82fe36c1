"""Attention whose compatibility is linear: the baseline of `NonlinearAttention`."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfrobust.layers.attend import attend, check_shapes
from tfrobust.utils.registry import unknown

Tensor = Any


@keras.saving.register_keras_serializable(package="tfrobust")
class LinearAttention(keras.layers.Layer):
    """Weighs local features by their alignment with a global one: w = softmax(c), h = sum_n w_n l_n.

    The form "sum" is c_n = u . (l_n + g) with a learned u, the form "dot" is c_n = l_n . g. Where g has another width
    than l, a dense layer without bias projects it: g <- P g. Weights and descriptor are float32 under mixed precision.

    In the form "sum" u . g is the same at every position, so the softmax cancels it: the weights depend on the local
    features alone, and no gradient reaches g. That is the definition, and one reason for the nonlinear form.

    Args:
        form: `"sum"` or `"dot"`.
        **kwargs: `name` and `dtype`, as for every Keras layer.

    Call arguments:
        local_features: l, `(B, H, W, D)`, a map such as the output of the last convolution.
        global_feature: g, `(B, G)`.

    Returns:
        `{"descriptor": (B, D), "weights": (B, H, W)}`; the weights are positive and sum to 1 over the positions.

    Raises:
        ValueError: for an unknown form, and for shapes other than these.

    Example:

    >>> layer = tfrobust.layers.LinearAttention("dot")
    >>> local_features = np.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    >>> outputs = layer(local_features, np.array([[0.0]]))
    >>> keras.ops.convert_to_numpy(outputs["descriptor"]).tolist()  # g = 0 weighs all positions equally
    [[2.0]]

    Reference:
        Jetley et al. 2018 (Learn To Pay Attention), section 3.1; the "linear" model of FPR-v2's comparison is "sum".
    """

    FORMS = ("sum", "dot")

    def __init__(self, form: str = "sum", **kwargs: Any) -> None:
        if form not in self.FORMS:
            raise unknown("form of `LinearAttention`", form, self.FORMS)
        super().__init__(**kwargs)
        self.form = form

    def build(self, local_features_shape: tuple[int | None, ...], global_feature_shape: tuple[int | None, ...]) -> None:
        self.widths = width, other = self._check(local_features_shape, global_feature_shape)
        self.projection = None
        if width != other:
            self.projection = self.add_weight((other, width), initializer="glorot_uniform", name="projection")
        if self.form == "sum":
            self.score = self.add_weight((width, 1), initializer="glorot_uniform", name="score")

    def call(self, local_features: Tensor, global_feature: Tensor) -> dict[str, Tensor]:
        self._check(local_features.shape, global_feature.shape)
        g = global_feature if self.projection is None else ops.matmul(global_feature, self.projection)
        # Both forms are products with one vector; l_n + g and l_n * g are never computed.
        if self.form == "dot":
            return attend(ops.einsum("bhwd,bd->bhw", local_features, g), local_features)
        image = ops.matmul(g, self.score)[:, None]
        return attend(ops.matmul(local_features, self.score)[..., 0] + image, local_features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "form": self.form}

    def _check(self, local: tuple[int | None, ...], vector: tuple[int | None, ...]) -> tuple[int, int]:
        return check_shapes("LinearAttention", local, vector, self.widths if self.built else None)
