"""The head of a classifier whose logits are scaled cosines."""

from typing import Any

import keras
from keras import ops

from tfrobust import losses
from tfrobust.layers.last import check_features
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_integer, check_number


@keras.saving.register_keras_serializable(package="tfrobust")
class NormalizedCosineSoftmax(keras.layers.Layer):
    """Computes cosines with class vectors and logits: cos_j = w_j . f / (||w_j|| ||f||), z_j = scale * cos_j.

    No bias. The logits are the scaled cosines: an attack on the cosines alone would be weak and overestimate the
    robustness. A feature vector or class vector of norm zero has cosine 0 with all others, and gradient zero. The head
    computes in float32 under mixed precision. Thesis, equation 3.10 with ||w_j|| = 1, ||z_x|| = s; Pang et al. 2020
    (Boosting Adversarial Training with Hypersphere Embedding), equation 4.

    Args:
        units: Number of classes C.
        scale: Positive factor of the cosines. None: the logits are the plain products w_j . f, for losses that read
            cosines and ordinary logits (the self-paced cross entropy without normalization).
        **kwargs: `name` and `dtype`, as for every Keras layer.

    Call arguments:
        features: f, `(B, D)`.
        feature_map: Not used, since a class activation map needs a linear head.

    Returns:
        `{"logits": (B, C), "cosine": (B, C)}`.

    Example:

    >>> head = tfrobust.layers.NormalizedCosineSoftmax(10, scale=5.0)
    >>> outputs = head(keras.random.normal((2, 8)))
    >>> bool(keras.ops.all(keras.ops.abs(outputs["logits"]) <= 5.0))
    True
    """

    def __init__(self, units: int, scale: float | None = 5.0, **kwargs: Any) -> None:
        check_integer("units", units)
        if scale is not None:
            check_number("scale", scale, 0, above=True)
        # As the linear head: losses subtract and exponentiate what leaves here.
        super().__init__(**{"dtype": keras.config.dtype_policy().variable_dtype, **kwargs})
        self.units = units
        self.scale = scale

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        check_features(self, features_shape, None)
        self.kernel = self.add_weight((features_shape[-1], self.units), initializer="glorot_uniform", name="kernel")

    def call(self, features: Tensor, feature_map: Tensor | None = None) -> dict[str, Tensor]:
        check_features(self, features.shape, self.kernel.shape[0])
        kernel = ops.convert_to_tensor(self.kernel)
        cosine = ops.matmul(losses.unit(features, axis=1), losses.unit(kernel, axis=0))
        logits = ops.matmul(features, kernel) if self.scale is None else self.scale * cosine
        return {"logits": logits, "cosine": cosine}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "scale": self.scale}
