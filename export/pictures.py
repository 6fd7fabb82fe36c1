"""Decodes pictures in graph code, for the signature `predict_bytes` and for a client that compares with it."""

from __future__ import annotations

import tensorflow as tf

from tfrobust.utils.pictures import JPEG, PNG, SCAN, begins, number, parts, upright
from tfrobust.utils.types import Tensor

MEGAPIXELS = 16  # the largest picture that is decoded: a PNG of 1 MB may declare pixels of 1 GB
SCANS = 50  # the most passes over a JPEG's pixels: libjpeg writes 10, and 113 KiB can ask for 13 s with repeated ones
CHANNELS = (1, 3)  # numbers of channels that pictures are decoded to
HEADER = 24  # bytes of a PNG up to the end of its width and height


def decode(encoded: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Returns pictures as uint8 pixels `(batch, H, W, C)`: decoded, turned upright, resized and rounded.

    The declared size of a picture is checked before it is decoded. Gray pictures get equal channels, alpha is left out,
    the inks of a CMYK picture become colours. Pictures are turned and resized as `tfrobust.data` does it.

    Raises:
        tf.errors.InvalidArgumentError: if a file is not PNG or JPEG, is cut short, or has more than 16 megapixels or 50
            scans.
    """
    spec = tf.TensorSpec(shape, tf.uint8)
    # Two in parallel, because 16 megapixels take 250 MB while they are resized.
    return tf.map_fn(lambda one: _decoded(one, shape), encoded, fn_output_signature=spec, parallel_iterations=2)


def _decoded(encoded: Tensor, shape: tuple[int, int, int]) -> Tensor:
    height, width, channels = shape
    png = begins(encoded, PNG)
    known = tf.debugging.Assert(png | begins(encoded, JPEG), ["Expected a PNG or JPEG picture"])
    with tf.control_dependencies([known]):
        size, inks = tf.cond(png, lambda: (_png_size(encoded), False), lambda: _jpeg_size(encoded))
    fits = tf.reduce_all(size > 0) & (tf.reduce_prod(size) <= MEGAPIXELS * 10**6) & tf.reduce_all(size < 2**31)
    message = f"Expected a picture of at most {MEGAPIXELS} megapixels. Received (height, width):"
    few = png | (_scans(encoded) <= SCANS)
    more = f"Expected a JPEG of at most {SCANS} scans. Received more: save it anew, without the option progressive"
    checks = [tf.debugging.Assert(fits, [message, size]), tf.debugging.Assert(few, [more])]
    with tf.control_dependencies(checks):
        pixels = tf.cond(inks, lambda: _of_inks(encoded, channels), lambda: _read(encoded, channels))
    pixels = upright(pixels, encoded)
    same = tf.reduce_all(tf.shape(pixels)[:2] == (height, width))
    return tf.ensure_shape(tf.cond(same, lambda: pixels, lambda: _resized(pixels, (height, width))), shape)


def _read(encoded: Tensor, channels: int) -> Tensor:
    # The operation reads both PNG and JPEG, and fails if the file is cut short.
    return tf.io.decode_png(encoded, channels=channels)


def _of_inks(encoded: Tensor, channels: int) -> Tensor:
    """Returns a CMYK picture, which TensorFlow decodes to colours but not to gray."""
    colours = _read(encoded, 3)
    return colours if channels == 3 else tf.image.rgb_to_grayscale(colours)


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    resized = tf.image.resize(pixels, size, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def _png_size(encoded: Tensor) -> Tensor:
    """Returns the declared height and width."""
    whole = tf.strings.length(encoded) >= HEADER
    with tf.control_dependencies([tf.debugging.Assert(whole, ["Expected a whole PNG picture. Received a part"])]):
        header = tf.io.decode_raw(tf.strings.substr(encoded, HEADER - 8, 8), tf.uint8)
    return number(tf.reshape(header, (2, 4))[::-1])


def _jpeg_size(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the declared height and width, and whether the picture has the four channels of inks."""
    shape = tf.io.extract_jpeg_shape(encoded, output_type=tf.int64)
    return shape[:2], shape[2] == 4


def _scans(encoded: Tensor) -> Tensor:
    """Returns how many scans a JPEG has, counted up to one more than is allowed."""
    return tf.size(parts(encoded, SCAN, SCANS + 1)) - 1
