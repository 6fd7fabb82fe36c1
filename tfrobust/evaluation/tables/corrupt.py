"""Corrupts images by the families of CIFAR-10-C: noise, blur, weather and digital artefacts.

The results are not CIFAR-10-C: the families are those of Hendrycks and Dietterich 2019 (Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations), but the formulas and levels are this project's, so that they run on
images of any size in one graph, and every severity changes the pixels more than the one before (in the mean over
images; for pixelate on sides of at least 24 pixels). Frost, snow, spatter and frosted glass, which need pictures or
many passes, are left out. A new kind is a function `(u, level, noise) -> u` and a line in `KINDS`.
"""

import math
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from tfrobust.utils.errors import invalid, invalid_value
from tfrobust.utils.random import ImageNoise, stream
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Bounds, Tensor

SEVERITIES = (1, 2, 3, 4, 5)
SIDE = 32  # lengths are pixels of an image with this side, and grow with the side of larger ones


class Draws(ImageNoise):
    """Random numbers by image, also of Poisson's distribution."""

    def poisson(self, rate: Tensor) -> Tensor:
        """Returns counts of the given rates, shaped as they are."""

        def row(given: tuple[Tensor, Tensor]) -> Tensor:
            number, rates = given
            seed = tf.random.experimental.stateless_fold_in(self.seed, number)
            return tf.random.stateless_poisson(tf.shape(rates), seed, rates, tf.float32)

        spec = tf.TensorSpec(rate.shape[1:], tf.float32)
        return tf.ensure_shape(tf.map_fn(row, (self._numbers, rate), fn_output_signature=spec), rate.shape)


class Kind(NamedTuple):
    """A kind of corruption."""

    family: str  # "noise", "blur", "weather" or "digital"
    levels: tuple[float, ...]  # levels of the severities 1 to 5
    # (u, level, noise) -> u, pixels `(B, H, W, C)` in [0, 1]; the result is clipped to [0, 1].
    corrupt: Callable[[Tensor, float, Draws], Tensor]


def gaussian_noise(u: Tensor, level: float, noise: Draws) -> Tensor:
    """u + level * N(0, 1)."""
    return u + level * noise.normal(u)


def shot_noise(u: Tensor, level: float, noise: Draws) -> Tensor:
    """Poisson(photons * u) / photons, with photons = 1 / level."""
    return noise.poisson(u / level) * level


def impulse_noise(u: Tensor, level: float, noise: Draws) -> Tensor:
    """The share `level` of all values becomes 0 or 1."""
    drawn = noise.uniform(u)
    return ops.where(ops.abs(drawn) < level, ops.cast(drawn > 0, u.dtype), u)


def speckle_noise(u: Tensor, level: float, noise: Draws) -> Tensor:
    """u + u * level * N(0, 1)."""
    return u + u * level * noise.normal(u)


def gaussian_blur(u: Tensor, level: float, noise: Draws) -> Tensor:
    """Convolution with a Gaussian of standard deviation `level`, in pixels."""
    deviation = level * _scale(u)
    reach = math.ceil(3 * deviation)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    return _convolved(u, np.outer(weights, weights))  # Keras' `gaussian_blur` pads with zeros and darkens the edges


def defocus_blur(u: Tensor, level: float, noise: Draws) -> Tensor:
    """Convolution with a disk of radius `level`, in pixels, its edge a pixel wide."""
    radius = level * _scale(u)
    reach = math.ceil(radius + 0.5)
    offsets = np.arange(-reach, reach + 1)
    return _convolved(u, np.clip(radius + 0.5 - np.hypot(offsets[:, None], offsets), 0, 1))


def motion_blur(u: Tensor, level: float, noise: Draws) -> Tensor:
    """The mean over a line of `level` pixels, in a random direction for each image."""
    angle = np.pi * noise.uniform(u[:, :1, :1, :1])[:, 0, 0, 0]
    one, zero = ops.ones_like(angle), ops.zeros_like(angle)

    def at(share: float) -> Tensor:
        far = share * level * _scale(u)
        return _moved(u, [one, zero, far * ops.cos(angle), zero, one, far * ops.sin(angle)])

    return _mean_of(at, np.linspace(-0.5, 0.5, _samples(level * _scale(u))))


def zoom_blur(u: Tensor, level: float, noise: Draws) -> Tensor:
    """The mean over magnifications from 1 to `level` about the middle."""
    one = ops.ones_like(u[:, 0, 0, 0])
    height, width = u.shape[1:3]

    def at(zoom: float) -> Tensor:
        kept = one / zoom
        return _moved(u, [kept, 0 * one, (1 - kept) * (width - 1) / 2, 0 * one, kept, (1 - kept) * (height - 1) / 2])

    return _mean_of(at, np.linspace(1.0, level, _samples((level - 1) * max(height, width) / 2)))


def brightness(u: Tensor, level: float, noise: Draws) -> Tensor:
    """u + level."""
    return u + level


def contrast(u: Tensor, level: float, noise: Draws) -> Tensor:
    """The difference from the image's mean, channel by channel, times 1 - level."""
    middle = ops.mean(u, axis=(1, 2), keepdims=True)
    return middle + (1 - level) * (u - middle)


def fog(u: Tensor, level: float, noise: Draws) -> Tensor:
    """(u + level * f) * m / (m + level): f in [0, 1] drifts over all scales, m is the image's greatest value."""
    height, width = u.shape[1:3]
    field, cells, octave = 0.0, 2, 0
    while octave == 0 or cells <= max(height, width):
        grid = ops.broadcast_to(u[:, :1, :1, :1], (ops.shape(u)[0], cells, cells, 1))
        drawn = noise.fold(octave).uniform(tf.ensure_shape(grid, (None, cells, cells, 1)))
        field = field + ops.image.resize(drawn, (height, width), interpolation="bilinear") / 2**octave
        cells, octave = 2 * cells, octave + 1
    least, most = (extreme(field, axis=(1, 2, 3), keepdims=True) for extreme in (ops.min, ops.max))
    field = (field - least) / ops.maximum(most - least, 1e-6)
    peak = ops.maximum(ops.max(u, axis=(1, 2, 3), keepdims=True), 1e-3)
    return (u + level * field) * peak / (peak + level)


def pixelate(u: Tensor, level: float, noise: Draws) -> Tensor:
    """Averaged to a picture of side (1 - level) times its own, and back by nearest neighbours."""
    size = tuple(u.shape[1:3])
    small = tuple(max(1, round(side * (1 - level))) for side in size)
    z = ops.image.resize(u, small, interpolation="area")
    for axis, (few, many) in enumerate(zip(small, size, strict=True), 1):
        z = ops.take(z, ((np.arange(many) + 0.5) * few / many).astype("int32"), axis=axis)  # the cell under its middle
    return z


def jpeg_compression(u: Tensor, level: float, noise: Draws) -> Tensor:
    """Saved as JPEG at quality 100 - level; channels by themselves where they are not three."""
    quality, channels = int(100 - level), u.shape[-1]

    def saved(image: Tensor) -> Tensor:
        if channels in (1, 3):
            return tf.image.adjust_jpeg_quality(image, quality)
        parts = [tf.image.adjust_jpeg_quality(image[..., c : c + 1], quality) for c in range(channels)]
        return tf.concat(parts, axis=-1)

    return tf.map_fn(saved, u, fn_output_signature=tf.TensorSpec(u.shape[1:], u.dtype))


# Keras' `elastic_transform` draws one seed for the batch, so that an image's noise would depend on the others.
def elastic(u: Tensor, level: float, noise: Draws) -> Tensor:
    """Every pixel is fetched from `level` pixels away (root mean square), near ones from nearly the same direction."""
    height, width, channels = u.shape[1:]
    both = ops.broadcast_to(u[..., :1], (*ops.shape(u)[:3], 2))
    field = noise.normal(tf.ensure_shape(both, (None, height, width, 2)))
    field = gaussian_blur(field, 3.0, noise)
    size = ops.sqrt(ops.mean(ops.square(field), axis=(1, 2, 3), keepdims=True) * 2)  # for both coordinates together
    field = field * level * _scale(u) / ops.maximum(size, 1e-6)
    grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1).astype("float32")

    def fetched(given: tuple[Tensor, Tensor]) -> Tensor:
        image, points = given[0], ops.moveaxis(given[1], -1, 0)
        parts = [ops.image.map_coordinates(image[..., c], points, 1, fill_mode="nearest") for c in range(channels)]
        return ops.stack(parts, axis=-1)

    return ops.vectorized_map(fetched, (u, grid + field))


KINDS: dict[str, Kind] = {
    "gaussian_noise": Kind("noise", (0.04, 0.06, 0.08, 0.09, 0.10), gaussian_noise),
    "shot_noise": Kind("noise", (1 / 500, 1 / 250, 1 / 100, 1 / 75, 1 / 50), shot_noise),
    "impulse_noise": Kind("noise", (0.01, 0.02, 0.03, 0.05, 0.07), impulse_noise),
    "speckle_noise": Kind("noise", (0.06, 0.10, 0.12, 0.16, 0.20), speckle_noise),
    "gaussian_blur": Kind("blur", (0.4, 0.6, 0.7, 0.8, 1.0), gaussian_blur),
    "defocus_blur": Kind("blur", (0.6, 0.8, 1.0, 1.5, 2.0), defocus_blur),
    "motion_blur": Kind("blur", (2.0, 3.0, 4.0, 5.0, 6.0), motion_blur),
    "zoom_blur": Kind("blur", (1.06, 1.11, 1.16, 1.21, 1.26), zoom_blur),
    "brightness": Kind("weather", (0.05, 0.10, 0.15, 0.20, 0.30), brightness),
    "contrast": Kind("weather", (0.25, 0.50, 0.60, 0.70, 0.85), contrast),
    "fog": Kind("weather", (0.2, 0.5, 0.75, 1.0, 1.5), fog),
    "pixelate": Kind("digital", (0.15, 0.25, 0.35, 0.45, 0.55), pixelate),
    "jpeg_compression": Kind("digital", (20, 35, 42, 50, 60), jpeg_compression),
    "elastic": Kind("digital", (0.5, 0.8, 1.1, 1.5, 2.0), elastic),
}


def corrupt(
    x: Tensor, kind: str, severity: int, *, seed: int = 0, numbers: Tensor | None = None, bounds: Bounds = (0.0, 1.0)
) -> Tensor:
    """Returns corrupted images, by the kinds of CIFAR-10-C but not its images.

    Random numbers are functions of (seed, kind, number of the image); the severities of one image share them.

    Args:
        x: pixels, `(B, H, W, C)` within the bounds.
        kind: name of the corruption, one of `KINDS`.
        severity: severity from 1 to 5.
        seed: seed of the random numbers.
        numbers: numbers of the images in their data, `(B,)`; None: 0, 1, 2 ...
        bounds: least and greatest pixel value.

    Returns:
        Pixels within the bounds, shaped as x, float32.

    Raises:
        ValueError: for an unknown kind or severity, and an array that is not a batch of images.

    Example:

    >>> x = np.full((1, 8, 8, 1), 0.5, "float32")
    >>> round(float(tfrobust.evaluation.corrupt(x, "brightness", 3)[0, 0, 0, 0]), 3)
    0.65
    """
    found, x = KINDS.get(kind), ops.convert_to_tensor(x, "float32")
    if found is None:
        raise unknown("kind of corruption", kind, KINDS)
    if severity not in SEVERITIES:
        raise invalid_value("severity", "an integer from 1 to 5", severity)
    if len(x.shape) != 4:
        raise invalid("shape of x", "(batch, H, W, C)", tuple(x.shape))
    low, high = bounds
    numbers = ops.arange(ops.shape(x)[0]) if numbers is None else numbers
    noise = Draws(stream(seed, zlib.crc32(kind.encode()) & 0x7FFFFFFF), ops.cast(numbers, "int32"))
    u = ops.clip((x - low) / (high - low), 0.0, 1.0)
    return low + (high - low) * ops.clip(found.corrupt(u, found.levels[severity - 1], noise), 0.0, 1.0)


def _scale(u: Tensor) -> float:
    return max(1.0, min(u.shape[1:3]) / SIDE)


def _samples(pixels: float) -> int:
    """Returns the number of samples of a mean along so many pixels: at least two for each."""
    return 2 * math.ceil(pixels) + 1


def _convolved(u: Tensor, kernel: np.ndarray) -> Tensor:
    """Returns every channel convolved with a kernel of odd sides, scaled to a sum of 1, with repeated edge pixels."""
    depthwise = np.tile((kernel / kernel.sum())[:, :, None, None], (1, 1, u.shape[-1], 1)).astype("float32")
    for axis in (1, 2):
        u = ops.take(u, np.pad(np.arange(u.shape[axis]), len(kernel) // 2, mode="edge"), axis=axis)
    return ops.depthwise_conv(u, depthwise, padding="valid")


def _moved(u: Tensor, rows: list[Tensor]) -> Tensor:
    """Returns images fetched from (a0 x + a1 y + a2, b0 x + b1 y + b2); edge pixels are repeated outside."""
    transform = ops.stack([*rows, ops.zeros_like(rows[0]), ops.zeros_like(rows[0])], axis=-1)
    return ops.image.affine_transform(u, transform, interpolation="bilinear", fill_mode="nearest")


def _mean_of(image: Callable[[float], Tensor], arguments: np.ndarray) -> Tensor:
    return sum(image(float(argument)) for argument in arguments) / len(arguments)
