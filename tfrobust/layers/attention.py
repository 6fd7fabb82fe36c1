"""Attention: weighs the local features of an image by a linear or a nonlinear function of them and a global one."""

from typing import Any

import keras
from keras import ops

from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_integer

Shape = tuple[int | None, ...]


class Attention(keras.layers.Layer):
    """Computes h = sum_n w_n l_n, w = softmax(c) over all positions; the base of layers that define the scores c.

    The result is float32 even if the arguments have 16 bits: 64 weights near 1/64 would not sum to 1, and losses
    subtract descriptors.
    """

    def build(self, local_features_shape: Shape, global_feature_shape: Shape) -> None:
        self.widths = self._check(local_features_shape, global_feature_shape)
        self.add_weights(*self.widths)

    def add_weights(self, width: int, other: int) -> None:
        """Creates the weights for local features of `width` channels and a global feature of `other` values."""
        raise NotImplementedError

    def scores(self, local_features: Tensor, global_feature: Tensor) -> Tensor:
        """Returns c, `(B, H, W)`."""
        raise NotImplementedError

    def call(self, local_features: Tensor, global_feature: Tensor) -> dict[str, Tensor]:
        self._check(local_features.shape, global_feature.shape)
        scores = self.scores(local_features, global_feature)
        dtype = keras.backend.result_type(scores.dtype, "float32")
        scores = ops.cast(scores, dtype)
        # `ops.softmax` over two axes needs known sizes. The largest exponent is 0, so there is no overflow.
        exponents = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=(1, 2), keepdims=True)))
        weights = exponents / ops.sum(exponents, axis=(1, 2), keepdims=True)
        features = _by_position(ops.cast(local_features, dtype))
        descriptor = ops.matmul(ops.reshape(weights, (-1, 1, ops.shape(features)[1])), features)
        return {"descriptor": descriptor[:, 0], "weights": weights}

    def _check(self, local: Any, vector: Any) -> tuple[int, int]:
        """Returns the channels of both inputs: a map of local features, and one global feature for each image."""
        layer = type(self).__name__
        channels, features = self.widths if self.built else ("channels", "features")
        if not _fits(local, 4, channels):
            raise InvalidArgument(
                f"Invalid `local_features` of `{layer}`: expected shape (batch, height, width, {channels}). Received: "
                f"shape={tuple(local)}. Attention reads a map of local features. Give it the last convolution's output "
                "instead of pooled features."
            )
        if not _fits(vector, 2, features):
            raise InvalidArgument(
                f"Invalid `global_feature` of `{layer}`: expected shape (batch, {features}), one vector for every "
                f"image. Received: shape={tuple(vector)}. Pool a map to one vector first, for example by "
                "GlobalMaxPooling2D."
            )
        if None not in (local[0], vector[0]) and local[0] != vector[0]:
            raise InvalidArgument(
                f"Invalid `global_feature` of `{layer}`: expected shape (batch, {features}), one vector for each of "
                f"the {local[0]} images of `local_features`. Received: shape={tuple(vector)}"
            )
        return local[-1], vector[-1]


@keras.saving.register_keras_serializable(package="tfrobust")
class LinearAttention(Attention):
    """Weighs local features by their alignment with a global one: w = softmax(c), h = sum_n w_n l_n.

    The form "sum" is c_n = u . (l_n + g) with a learned u, the form "dot" is c_n = l_n . g. Where g has another width
    than l, a dense layer without bias projects it: g <- P g. Weights and descriptor are float32 under mixed precision.
    Jetley et al. 2018 (Learn To Pay Attention), section 3.1; the "linear" model of FPR-v2's comparison is "sum".

    In the form "sum" u . g is the same at every position, so the softmax cancels it: the weights depend on the local
    features alone, and no gradient reaches g, so that the layers that compute g do not learn. That is the definition,
    and one reason for the nonlinear form.

    Args:
        form: `"sum"` or `"dot"`.
        **kwargs: `name` and `dtype`, as for every Keras layer.

    Call arguments:
        local_features: l, `(B, H, W, D)`, a map such as the output of the last convolution.
        global_feature: g, `(B, G)`. G need not be D.

    Returns:
        `{"descriptor": (B, D), "weights": (B, H, W)}`; the weights are positive and sum to 1 over the positions.

    Example:

    >>> layer = tfrobust.layers.LinearAttention("dot")
    >>> local_features = np.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    >>> outputs = layer(local_features, np.array([[0.0]]))
    >>> keras.ops.convert_to_numpy(outputs["descriptor"]).tolist()  # g = 0 weighs all positions equally
    [[2.0]]
    """

    FORMS = ("sum", "dot")

    def __init__(self, form: str = "sum", **kwargs: Any) -> None:
        if form not in self.FORMS:
            raise unknown("form of `LinearAttention`", form, self.FORMS)
        super().__init__(**kwargs)
        self.form = form

    def add_weights(self, width: int, other: int) -> None:
        self.projection = None
        if width != other:
            self.projection = self.add_weight((other, width), initializer="glorot_uniform", name="projection")
        if self.form == "sum":
            self.score = self.add_weight((width, 1), initializer="glorot_uniform", name="score")

    def scores(self, local_features: Tensor, global_feature: Tensor) -> Tensor:
        g = global_feature if self.projection is None else ops.matmul(global_feature, self.projection)
        # Both forms are products with one vector; l_n + g and l_n * g are never computed.
        if self.form == "dot":
            products = ops.matmul(_by_position(local_features), g[..., None])
            return ops.reshape(products, ops.shape(local_features)[:3])
        return ops.matmul(local_features, self.score)[..., 0] + ops.matmul(g, self.score)[:, None]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "form": self.form}


@keras.saving.register_keras_serializable(package="tfrobust")
class NonlinearAttention(Attention):
    """Weighs local features by a network, c_n = MLP([l_n ; g]): w = softmax(c), h = sum_n w_n l_n.

    The network has one hidden layer of ReLU units and one output: c_n = v . relu(W [l_n ; g] + b). A bias of the output
    would be the same at every position, and cancel in the softmax: there is none. W [l_n ; g] is computed as
    W_l l_n + W_g g, the second once for every image, without the concatenation. Weights and descriptor are
    float32 under mixed precision. FPR-v1 and FPR-v2, section on feature prioritizing (64 hidden units).

    Args:
        hidden: Number of hidden units.
        **kwargs: `name` and `dtype`, as for every Keras layer.

    Call arguments:
        local_features: As in `LinearAttention`.
        global_feature: As in `LinearAttention`.

    Returns:
        `{"descriptor": (B, D), "weights": (B, H, W)}`, as in `LinearAttention`.

    Example:

    >>> layer = tfrobust.layers.NonlinearAttention()
    >>> outputs = layer(keras.random.normal((2, 8, 8, 64)), keras.random.normal((2, 32)))
    >>> {name: tuple(tensor.shape) for name, tensor in outputs.items()}
    {'descriptor': (2, 64), 'weights': (2, 8, 8)}
    """

    def __init__(self, hidden: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = check_integer("hidden", hidden)

    def add_weights(self, width: int, other: int) -> None:
        # One kernel for both parts, initialized as that of the concatenation.
        self.kernel = self.add_weight((width + other, self.hidden), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight((self.hidden,), initializer="zeros", name="bias")
        self.score = self.add_weight((self.hidden, 1), initializer="glorot_uniform", name="score")

    def scores(self, local_features: Tensor, global_feature: Tensor) -> Tensor:
        width = local_features.shape[-1]
        image = ops.matmul(global_feature, self.kernel[width:]) + self.bias
        hidden = ops.relu(ops.matmul(local_features, self.kernel[:width]) + image[:, None, None])
        return ops.matmul(hidden, self.score)[..., 0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}


def _by_position(features: Tensor) -> Tensor:
    """Returns a map as `(B, H * W, D)`, for products of matrices: LiteRT converts these, but not `ops.einsum`."""
    _, height, width, channels = ops.shape(features)
    return ops.reshape(features, (-1, height * width, channels))


def _fits(shape: Any, rank: int, width: int | str) -> bool:
    # A kernel needs a known width.
    return len(shape) == rank and shape[-1] is not None and (isinstance(width, str) or shape[-1] == width)
