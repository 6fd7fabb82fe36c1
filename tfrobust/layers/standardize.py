"""Per-image standardization."""

import math
from typing import Any

import keras
from keras import ops

from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Tensor


@keras.saving.register_keras_serializable(package="tfrobust")
class Standardize(keras.layers.Layer):
    """Standardizes every image by its own statistics: (x - mean(x)) / max(std(x), 1 / sqrt(N)), N = H * W * C values.

    The floor keeps a constant image finite; `tf.image.per_image_standardization` is the same function. The statistics
    are float32 even under mixed precision, and computed before pixels are rounded. The networks of Madry et al. 2018
    (https://github.com/MadryLab/cifar10_challenge) begin with it.

    Args:
        **kwargs: `name` and `dtype`, as for every Keras layer.

    Call arguments:
        inputs: Images, `(B, H, W, C)`, usually pixel fractions in [0, 1].

    Returns:
        `(B, H, W, C)`, in the layer's compute dtype.

    Example:

    >>> layer = tfrobust.layers.Standardize()
    >>> layer(np.array([[[[0.0], [1.0]]]])).numpy().ravel().tolist()
    [-0.7071067690849304, 0.7071067690849304]
    """

    def __init__(self, **kwargs: Any) -> None:
        # Without autocast: 16-bit pixels would lose a perturbation of a few 255ths before the statistics are computed.
        super().__init__(**{"autocast": False, **kwargs})

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        _check_images(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        _check_images(inputs.shape)
        x = ops.cast(inputs, keras.backend.result_type(self.compute_dtype, "float32"))
        count = ops.cast(math.prod(ops.shape(x)[1:]), x.dtype)
        mean, variance = ops.moments(x, axes=[1, 2, 3], keepdims=True)
        # The floor applies to the variance: the gradient of sqrt(0), for a constant image, would be infinite.
        return ops.cast((x - mean) * ops.rsqrt(ops.maximum(variance, 1.0 / count)), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        _check_images(input_shape)
        return input_shape


def _check_images(shape: tuple[int | None, ...]) -> None:
    if len(shape) != 4:
        raise InvalidArgument(
            "Invalid input of `Standardize`: expected a batch of images of shape (batch, height, width, channels). "
            f"Received: shape={tuple(shape)}"
        )
