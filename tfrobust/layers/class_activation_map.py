"""The head of a classifier: the last dense layer, which gives logits and class activation maps."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfrobust._registry import unknown

Tensor = Any


def _clipped(feature_map: Tensor, kernel: Tensor) -> Tensor:
    # A product is positive where both signs agree, so two matrix products stand for the (B, H, W, K, C) tensor.
    positive = ops.matmul(ops.relu(feature_map), ops.relu(kernel))
    return positive + ops.matmul(ops.relu(-feature_map), ops.relu(-kernel))


FORMS = {"clipped": _clipped, "signed": ops.matmul}


@keras.saving.register_keras_serializable(package="tfrobust")
class ClassActivationMap(keras.layers.Layer):
    """The last dense layer as a head: logits z = f W + b and, from the map that was pooled to f, a map for every class.

    The clipped form (the default) is M[h, w, c] = sum_k max(W[k, c] * A[h, w, k], 0), the signed one
    M[h, w, c] = sum_k W[k, c] * A[h, w, k]. Averaged over positions, plus the bias, the signed form equals the logits
    after global average pooling.

    The head owns the dense layer, reads its kernel and bias, and ignores its activation. A dense layer with one unit
    (a sigmoid classifier) gives two logits [0, z], since softmax([0, z])[1] = sigmoid(z). The head computes in the
    dtype of the kernel: float32 under mixed precision.

    Args:
        dense: a `keras.layers.Dense`, shared: training the head trains it.
        form: `"clipped"` or `"signed"`.
        units: number of classes, to make a dense layer instead of giving one.
        **kwargs: `name` and `dtype`, as for every Keras layer.

    Call arguments:
        features: f, `(B, D)`.
        feature_map: A, `(B, H, W, D)`, the last activation before global average pooling. Optional.
        label: `(B,)`, integers, a class for every image. Optional: the map is then this class's alone, and the others
            are never made.

    Returns:
        `{"logits": (B, C)}`, and where a feature map is given `"cam": (B, H, W, C)`, or `(B, H, W)` with a label.

    Raises:
        ValueError: for an unknown form, a `dense` that is no dense layer, features and map whose shapes do not fit, or
            labels that are not integers `(B,)` beside a map.

    Example:

    >>> head = tfrobust.layers.ClassActivationMap(units=10)
    >>> feature_map = keras.random.uniform((2, 4, 4, 8))
    >>> outputs = head(keras.ops.mean(feature_map, axis=(1, 2)), feature_map=feature_map)
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'logits': (2, 10), 'cam': (2, 4, 4, 10)}

    Reference:
        InfoFeature, equation 6 (clipped) and equation 5 (signed).
    """

    def __init__(
        self,
        dense: keras.layers.Dense | None = None,
        form: str = "clipped",
        *,
        units: int | None = None,
        **kwargs: Any,
    ) -> None:
        if (dense is None) == (units is None):
            raise ValueError(
                "Invalid arguments of `ClassActivationMap`: expected either `dense`, a dense layer, or `units`, the "
                f"number of classes. Received: dense={dense!r}, units={units!r}"
            )
        dense = keras.layers.Dense(units) if dense is None else dense
        if not isinstance(dense, keras.layers.Dense):
            raise ValueError(f"Invalid value for `dense`: expected a keras.layers.Dense. Received: dense={dense!r}")
        if form not in FORMS:
            raise unknown("form of `ClassActivationMap`", form, FORMS)
        # The variables are float32 under mixed precision: losses subtract and exponentiate what leaves here.
        super().__init__(**{"dtype": dense.variable_dtype, **kwargs})
        self.dense = dense
        self.form = form

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        self._check_features(features_shape)
        if not self.dense.built:
            self.dense.build(features_shape)

    def call(
        self, features: Tensor, feature_map: Tensor | None = None, label: Tensor | None = None
    ) -> dict[str, Tensor]:
        self._check_features(features.shape)
        kernel, bias = self._two_logits(self.dense.kernel, self.dense.bias)
        logits = ops.matmul(features, kernel)
        outputs = {"logits": logits if bias is None else ops.add(logits, bias)}
        if feature_map is not None:
            self._check_map(features.shape, feature_map.shape)
            outputs["cam"] = self._map(feature_map, kernel, label)
        elif label is not None:
            raise ValueError(
                "Invalid `label` of `ClassActivationMap`: expected a `feature_map` beside it, since a label picks one "
                "class's map. Received: feature_map=None"
            )
        return outputs

    def _map(self, feature_map: Tensor, kernel: Tensor, label: Tensor | None) -> Tensor:
        if label is None:
            return FORMS[self.form](feature_map, kernel)
        if len(label.shape) != 1 or not keras.backend.is_int_dtype(label.dtype):
            raise ValueError(
                "Invalid `label` of `ClassActivationMap`: expected integers of shape (batch,). "
                f"Received: shape={tuple(label.shape)}, dtype={keras.backend.standardize_dtype(label.dtype)}"
            )
        # (B, 1, K, 1): for every image a kernel of one class.
        own = ops.take(ops.transpose(kernel), ops.cast(label, "int32"), axis=0)[:, None, :, None]
        return FORMS[self.form](feature_map, own)[..., 0]

    def get_config(self) -> dict[str, Any]:
        dense = keras.saving.serialize_keras_object(self.dense)
        return {**super().get_config(), "dense": dense, "form": self.form}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ClassActivationMap:
        return cls(**{**config, "dense": keras.saving.deserialize_keras_object(config["dense"])})

    def _two_logits(self, kernel: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.dense.units > 1:
            return kernel, bias
        return ops.pad(kernel, [[0, 0], [1, 0]]), None if bias is None else ops.pad(bias, [[1, 0]])

    def _check_features(self, shape: tuple[int | None, ...]) -> None:
        width = self.dense.kernel.shape[0] if self.dense.built else None
        if len(shape) != 2 or shape[-1] is None or shape[-1] != (width or shape[-1]):
            raise ValueError(
                f"Invalid `features` of `ClassActivationMap`: expected shape (batch, {width or 'features'}). "
                f"Received: shape={tuple(shape)}"
            )

    def _check_map(self, features: tuple[int | None, ...], shape: tuple[int | None, ...]) -> None:
        if len(shape) != 4 or shape[-1] != features[-1]:
            raise ValueError(
                "Invalid `feature_map` of `ClassActivationMap`: expected shape (batch, height, width, "
                f"{features[-1]}), the map whose average is the features. Received: shape={tuple(shape)}"
            )
