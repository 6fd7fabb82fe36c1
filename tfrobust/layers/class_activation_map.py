"""The last layer of a classifier, which computes logits and class activation maps."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import keras
from keras import ops

from tfrobust.layers.last import LAST, before_activation, check_features, is_linear, kernel_of, shape_for
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor


def _clipped(feature_map: Tensor, kernel: Tensor) -> Tensor:
    # A product is positive where both signs agree, so two matrix products replace the (B, H, W, K, C) tensor.
    positive = ops.matmul(ops.relu(feature_map), ops.relu(kernel))
    return positive + ops.matmul(ops.relu(-feature_map), ops.relu(-kernel))


def _grad_cam(feature_map: Tensor, kernel: Tensor) -> Tensor:
    _, height, width, _ = ops.shape(feature_map)
    return ops.relu(ops.matmul(feature_map, kernel)) / ops.cast(height * width, feature_map.dtype)


@keras.saving.register_keras_serializable(package="tfrobust")
class ClassActivationMap(keras.layers.Layer):
    """Computes logits z = f W + b and, from the map whose average is f, a map for every class.

    The clipped form (the default) is M[h, w, c] = sum_k max(W[k, c] * A[h, w, k], 0), the signed one M[h, w, c] = sum_k
    W[k, c] * A[h, w, k]. Averaged over positions, plus the bias, the signed form equals the logits after global average
    pooling. The gradient of the logit z_c by A is then W[:, c] / N at each of the N positions, so that Grad-CAM of the
    logit is the signed form over N, without its negative values: M[h, w, c] = max(sum_k W[k, c] * A[h, w, k], 0) / N.
    InfoFeature, equation 6 (clipped) and equation 5 (signed); Selvaraju et al. 2017 (Grad-CAM), equations 1 and 2.

    The head calls the layer without its activation for the logits, so that a custom `call`, a quantized kernel and LoRA
    act as in any other model. W is the layer's kernel or, where the layer does not multiply by it, the layer's output
    for unit vectors. A map is meaningful only if the layer is linear before its activation; otherwise `tfrobust.expose`
    adds none. A layer with one unit (a sigmoid classifier) yields two logits [0, z], since softmax([0, z])[1] =
    sigmoid(z). The head computes in the dtype of the layer's weights: float32 under mixed precision.

    Args:
        dense: A `keras.layers.Dense`, `EinsumDense` or `Conv2D`, shared: training the head trains it.
        form: `"clipped"`, `"signed"` or `"grad_cam"`.
        units: Number of classes of a new dense layer, in place of `dense`.
        shape: The shape of one image's features as the layer reads them. None: `(D,)`, or `(1, 1, D)` for a `Conv2D`.
        **kwargs: `name` and `dtype`, as for every Keras layer.

    Call arguments:
        features: f, `(B, D)`.
        feature_map: A, `(B, H, W, D)`, the last activation before global average pooling. Optional.
        label: `(B,)`, integers, a class for every image. Optional: only the map of this class is then computed.

    Returns:
        `{"logits": (B, C)}`, and where a feature map is given `"cam": (B, H, W, C)`, or `(B, H, W)` with a label.

    Example:

    >>> head = tfrobust.layers.ClassActivationMap(units=10)
    >>> feature_map = keras.random.uniform((2, 4, 4, 8))
    >>> outputs = head(keras.ops.mean(feature_map, axis=(1, 2)), feature_map=feature_map)
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'logits': (2, 10), 'cam': (2, 4, 4, 10)}
    """

    FORMS: ClassVar = {"clipped": _clipped, "signed": ops.matmul, "grad_cam": _grad_cam}

    def __init__(
        self,
        dense: keras.layers.Layer | None = None,
        form: str = "clipped",
        *,
        units: int | None = None,
        shape: tuple[int, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        if (dense is None) == (units is None):
            raise InvalidArgument(
                "Invalid arguments of `ClassActivationMap`: expected either `dense`, a dense layer, or `units`, the "
                f"number of classes. Received: dense={dense!r}, units={units!r}"
            )
        dense = keras.layers.Dense(units) if dense is None else dense
        if not isinstance(dense, LAST):
            raise InvalidArgument(
                "Invalid value for `dense`: expected a keras.layers.Dense, EinsumDense or Conv2D. "
                f"Received: dense={dense!r}"
            )
        if form not in self.FORMS:
            raise unknown("form of `ClassActivationMap`", form, self.FORMS)
        # The variables are float32 under mixed precision: losses subtract and exponentiate the outputs.
        super().__init__(**{"dtype": dense.variable_dtype, **kwargs})
        self.dense = dense
        self.form = form
        self.shape = None if shape is None else tuple(shape)

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        check_features(self, features_shape, self._width())
        if not self.dense.built:
            self.dense.build((None, *self._shape(features_shape)))

    def call(
        self, features: Tensor, feature_map: Tensor | None = None, label: Tensor | None = None
    ) -> dict[str, Tensor]:
        check_features(self, features.shape, self._width())
        shape = self._shape(features.shape)
        scores = before_activation(self.dense, ops.reshape(features, (-1, *shape)) if len(shape) > 1 else features)
        if len(scores.shape) > 2:
            scores = ops.reshape(scores, (-1, math.prod(scores.shape[1:])))
        outputs = {"logits": self._two_classes(ops.cast(scores, self.compute_dtype))}
        if feature_map is not None:
            self._check_map(features.shape, feature_map.shape)
            outputs["cam"] = self._map(feature_map, self._two_classes(kernel_of(self.dense, shape)), label)
        elif label is not None:
            raise InvalidArgument(
                "Invalid `label` of `ClassActivationMap`: expected a `feature_map` beside it, since a label picks one "
                "class's map. Received: feature_map=None"
            )
        return outputs

    @property
    def kernel(self) -> Tensor | None:
        """Returns W, `(D, C)`, with one column for one unit; None if the layer is not linear."""
        shape = self._shape((None, self._width()))
        return kernel_of(self.dense, shape) if is_linear(self.dense, shape) else None

    def in_form(self, form: str) -> ClassActivationMap:
        """Returns another head with the same layer, whose maps have the given form."""
        return ClassActivationMap(self.dense, form, shape=self.shape)

    def _map(self, feature_map: Tensor, kernel: Tensor, label: Tensor | None) -> Tensor:
        if label is None:
            return self.FORMS[self.form](feature_map, kernel)
        if len(label.shape) != 1 or not keras.backend.is_int_dtype(label.dtype):
            raise InvalidArgument(
                "Invalid `label` of `ClassActivationMap`: expected integers of shape (batch,). "
                f"Received: shape={tuple(label.shape)}, dtype={keras.backend.standardize_dtype(label.dtype)}"
            )
        # (B, 1, K, 1): for every image a kernel of one class.
        own = ops.take(ops.transpose(kernel), ops.cast(label, "int32"), axis=0)[:, None, :, None]
        return self.FORMS[self.form](feature_map, own)[..., 0]

    def get_config(self) -> dict[str, Any]:
        dense = keras.saving.serialize_keras_object(self.dense)
        return {**super().get_config(), "dense": dense, "form": self.form, "shape": self.shape}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ClassActivationMap:
        return cls(**{**config, "dense": keras.saving.deserialize_keras_object(config["dense"])})

    def _shape(self, features: tuple[int | None, ...]) -> tuple[int, ...]:
        width = features[-1]
        assert width is not None  # `check_features` has checked it
        return self.shape or shape_for(self.dense, width)

    def _width(self) -> int | None:
        if self.shape is not None:
            return math.prod(self.shape)
        return (getattr(self.dense.input_spec, "axes", None) or {}).get(-1)

    @staticmethod
    def _two_classes(scores: Tensor) -> Tensor:
        return scores if scores.shape[-1] > 1 else ops.pad(scores, [[0, 0], [1, 0]])

    def _check_map(self, features: tuple[int | None, ...], shape: tuple[int | None, ...]) -> None:
        if len(shape) != 4 or shape[-1] != features[-1]:
            raise InvalidArgument(
                "Invalid `feature_map` of `ClassActivationMap`: expected shape (batch, height, width, "
                f"{features[-1]}), the map whose average is the features. Received: shape={tuple(shape)}"
            )
