"""Detects classifiers that give labels alone, whose logits change only with the class."""

from keras import ops

from tfrobust.attacks import L2, Ball
from tfrobust.attacks.walks import Walk, flat, margin
from tfrobust.utils import graph as backend
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Classify, Tensor

NEAR = 1e-5  # distance at which logits are compared, in pixel ranges
BISECTIONS = 24  # so near to the boundary, even a softmax that is saturated at the images has a gradient


def labels_only(classify: Classify, ball: Ball, x: Tensor, y: Tensor, noise: Noise) -> Tensor:
    """Returns around which of the images `(B, H, W, C)`, all right, the logits carry only the class, `(B,)`.

    There the logits are equal bit by bit at a random point next to the image, and the gradient of the margin is zero at
    the image and at the decision boundary, on the line to an image of the batch that is predicted as another class.
    """
    low, high = ball.bounds
    logits = classify(x)["logits"]
    beside = ops.clip(x + NEAR * (high - low) * noise.uniform(x), low, high)
    same = ops.all(classify(beside)["logits"] == logits, axis=-1)
    differs = ops.cast(ops.argmax(logits, axis=-1), "int32")[None, :] != y[:, None]
    other = ops.take(x, ops.argmax(ops.cast(differs, "int32"), axis=-1), axis=0)
    line = Walk(classify, L2(1.0, ball.bounds), x, y, ops.arange(ops.shape(x)[0]))
    border = line.shrunk(other, ops.any(differs, axis=-1), BISECTIONS)

    def flat_at(z: Tensor) -> Tensor:
        value, _, gradient = backend.value_and_gradient(margin(classify, y), z)
        return flat(value, gradient, ball)

    return same & ops.any(differs, axis=-1) & flat_at(x) & flat_at(border)
