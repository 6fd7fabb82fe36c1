"""Computes input gradients, and rescales them to the forms that the papers show."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from tfrobust import losses
from tfrobust.interpret.batches import graph, images, logits_of
from tfrobust.utils import graph as backend
from tfrobust.utils.charts import GREEN, VERMILION
from tfrobust.utils.errors import invalid
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Bounds, Tensor
from tfrobust.utils.validation import check_nonnegative, check_number

BACKGROUNDS = {"black": 0.0, "white": 1.0}


def input_gradients(
    classifier: Any, x: Any, y: Any, *, bounds: Bounds = (0.0, 1.0), batch_size: int = 256
) -> np.ndarray:
    """Returns the gradient of the cross entropy by the pixels, in loss per unit of the pixels.

    G = d CE(x, y) / d x, for each image by itself; NaN becomes 0.

    Args:
        classifier: a classifier with named outputs.
        x: images `(N, H, W, C)`, pixels within the bounds.
        y: labels, `(N,)` integers or one-hot rows.
        bounds: least and greatest pixel value.
        batch_size: images in a batch.

    Returns:
        `(N, H, W, C)` float32.

    Example:

    >>> x, y = np.full((2, 8, 8, 1), 0.5, "float32"), np.array([3, 7])
    >>> tfrobust.interpret.input_gradients(tfrobust.models.get("digits"), x, y).shape
    (2, 8, 8, 1)

    Reference: FPR-v1, section 4.2.3; AELF, figure 2.
    """
    run = graph(lambda x, y: gradient(classifier, x, y))
    parts = images(classifier, x, y, "gradient map", (), batch_size, bounds)
    return np.concatenate([np.asarray(run(batch.x, batch.y)) for batch in parts])


def rescale(g: Any) -> np.ndarray:
    """Maps each image's values to [0, 1]: (g - min g) / (max g - min g), over all its pixels and channels.

    Args:
        g: gradients, `(N, H, W, C)`.

    Returns:
        The same shape, float32; an image of one value is 0.5 throughout.

    Example:

    >>> tfrobust.interpret.rescale(np.array([[[[-1.0], [0.0], [3.0]]]])).ravel().tolist()
    [0.0, 0.25, 1.0]
    """
    return np.asarray(rescaled(ops.convert_to_tensor(_checked(g))))


def clip_deviations(g: Any, deviations: float = 3.0) -> np.ndarray:
    """Clips each image's gradient to mean +- `deviations` standard deviations and maps the rest to [0, 1].

    Mean, deviation, minimum and maximum are over all pixels and channels of the image.

    Args:
        g: gradients, `(N, H, W, C)`.
        deviations: number of standard deviations, greater than 0.

    Returns:
        The same shape, float32 in [0, 1]; an image of one value is 0.5 throughout.

    Raises:
        ValueError: for `deviations` that are not positive.

    Example:

    >>> g = np.zeros((1, 4, 4, 1)); g[0, 0, 0], g[0, 0, 1], g[0, 0, 2] = 100.0, 1.0, -1.0
    >>> shown = tfrobust.interpret.clip_deviations(g, 1.0)  # without clipping 0.98 of the range would be the one pixel
    >>> bool(shown[0, 0, 1, 0] > 2 * tfrobust.interpret.rescale(g)[0, 0, 1, 0])
    True

    Reference: FPR-v1 and FPR-v2, figure 4 (3 deviations).
    """
    return np.asarray(rescaled(ops.convert_to_tensor(_checked(g)), check_deviations(deviations)))


def normalize(g: Any) -> np.ndarray:
    """Scales each image's gradient to [-1, 1]: G~ = G / ||G||_2, then G~ / max |G~|, which is G / max |G|.

    Args:
        g: gradients, `(N, H, W, C)`.

    Returns:
        The same shape, float32; zero stays zero.

    Example:

    >>> tfrobust.interpret.normalize(np.array([[[[-4.0], [0.0], [2.0]]]])).ravel().tolist()
    [-1.0, 0.0, 0.5]

    Reference: AELF, footnote 3.
    """
    return np.asarray(normalized(ops.convert_to_tensor(_checked(g))))


def sign_picture(
    g: Any,
    threshold: float,
    background: str = "black",
    *,
    positive: str | Sequence[float] = GREEN,
    negative: str | Sequence[float] = VERMILION,
) -> np.ndarray:
    """Paints the sign of the gradient in pixels whose |G| exceeds a threshold, in one colour for + and one for -.

    A pixel of several channels shows the channel of the greatest |G|.

    Args:
        g: gradients, `(N, H, W, C)`; raw as in the paper, or normalized.
        threshold: threshold of at least 0, in the units of g.
        background: "black" or "white".
        positive: colour of +, as matplotlib takes it. Colour-blind readers can distinguish the defaults, a green and a
            red; the paper has "lime" and "red".
        negative: colour of -.

    Returns:
        RGB, `(N, H, W, 3)` float32 in [0, 1].

    Raises:
        ValueError: for a negative threshold, an unknown background or an invalid colour.

    Example:

    >>> g = np.array([[[[0.5], [-0.5], [0.1]]]])
    >>> tfrobust.interpret.sign_picture(g, 0.2, "white", positive="lime", negative="red")[0, 0].tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]

    Reference: AELF, figure 4 and footnote 5.
    """
    from matplotlib.colors import to_rgb

    g = _checked(g)
    check_nonnegative("threshold", threshold)
    if background not in BACKGROUNDS:
        raise unknown("background", background, BACKGROUNDS)
    channel = np.abs(g).argmax(axis=-1, keepdims=True)
    strongest = np.take_along_axis(g, channel, axis=-1)
    picture = np.full((*g.shape[:-1], 3), BACKGROUNDS[background], "float32")
    picture = np.where(strongest > threshold, np.asarray(to_rgb(positive), "float32"), picture)
    return np.where(strongest < -threshold, np.asarray(to_rgb(negative), "float32"), picture)


def gradient(classifier: Any, x: Tensor, y: Tensor) -> Tensor:
    """Returns d CE / d x, `(B, H, W, C)`, in graph code."""
    return backend.value_and_gradient(lambda z: losses.cross_entropy(logits_of(classifier, z), y), x)[2]


def rescaled(g: Tensor, deviations: float | None = None) -> Tensor:
    """Computes `rescale`, or `clip_deviations`, in graph code."""
    pixels = (1, 2, 3)
    g = g / ops.maximum(ops.max(ops.abs(g), axis=pixels, keepdims=True), 1e-37)  # squares of tiny values would be 0
    if deviations is not None:
        mean, reach = ops.mean(g, axis=pixels, keepdims=True), deviations * ops.std(g, axis=pixels, keepdims=True)
        g = ops.minimum(ops.maximum(g, mean - reach), mean + reach)
    low, high = ops.min(g, axis=pixels, keepdims=True), ops.max(g, axis=pixels, keepdims=True)
    flat = high <= low
    return ops.where(flat, 0.5, (g - low) / ops.where(flat, 1.0, high - low))


def normalized(g: Tensor) -> Tensor:
    """Computes `normalize` in graph code."""
    return g / ops.maximum(ops.max(ops.abs(g), axis=(1, 2, 3), keepdims=True), 1e-37)


def check_deviations(deviations: float) -> float:
    """Returns the number of standard deviations, or raises ValueError if it is not positive."""
    return float(check_number("deviations", deviations, 0, above=True))


def _checked(g: Any) -> np.ndarray:
    g = np.asarray(g, "float32")
    if g.ndim != 4:
        raise invalid("shape of g", "gradients (N, H, W, C)", g.shape)
    return g
