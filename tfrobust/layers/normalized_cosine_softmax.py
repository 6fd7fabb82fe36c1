"""The head of a classifier whose logits are scaled cosines."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfrobust import losses
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.validation import check_integer, check_number

Tensor = Any


@keras.saving.register_keras_serializable(package="tfrobust")
class NormalizedCosineSoftmax(keras.layers.Layer):
    """The last layer of a classifier on the unit sphere: cos_j = w_j . f / (||w_j|| ||f||), z_j = scale * cos_j.

    No bias. The logits are the scaled cosines: an attack on the cosines alone would be weak and overestimate the
    robustness. A feature vector or class vector of norm zero has cosine 0 with all others, and gradient zero. The head
    computes in float32 under mixed precision.

    Args:
        units: number of classes C.
        scale: s, positive. None: the logits are the plain products w_j . f, for losses that read cosines and
            ordinary logits (the self-paced cross entropy without normalization).
        **kwargs: `name` and `dtype`, as for every Keras layer.

    Call arguments:
        features: f, `(B, D)`.
        feature_map: as every head takes it; not used, since a class activation map needs a linear head.

    Returns:
        `{"logits": (B, C), "cosine": (B, C)}`.

    Raises:
        ValueError: for `units` below 1, a scale that is not positive, and features that are not `(B, D)`.

    Example:

    >>> head = tfrobust.layers.NormalizedCosineSoftmax(10, scale=5.0)
    >>> outputs = head(keras.random.normal((2, 8)))
    >>> bool(keras.ops.all(keras.ops.abs(outputs["logits"]) <= 5.0))
    True

    Reference:
        Thesis, equation 3.10 with ||w_j|| = 1, ||z_x|| = s; Pang et al. 2020 (Boosting Adversarial Training with
        Hypersphere Embedding), equation 4.
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
        self._check(features_shape)
        self.kernel = self.add_weight((features_shape[-1], self.units), initializer="glorot_uniform", name="kernel")

    def call(self, features: Tensor, feature_map: Tensor | None = None) -> dict[str, Tensor]:
        self._check(features.shape)
        kernel = ops.convert_to_tensor(self.kernel)
        cosine = ops.matmul(losses.unit(features, axis=1), losses.unit(kernel, axis=0))
        logits = ops.matmul(features, kernel) if self.scale is None else self.scale * cosine
        return {"logits": logits, "cosine": cosine}

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "scale": self.scale}

    def _check(self, shape: tuple[int | None, ...]) -> None:
        width = self.kernel.shape[0] if self.built else None
        if len(shape) != 2 or shape[-1] is None or shape[-1] != (width or shape[-1]):
            raise InvalidArgument(
                f"Invalid `features` of `NormalizedCosineSoftmax`: expected shape (batch, {width or 'features'}). "
                f"Received: shape={tuple(shape)}"
            )
