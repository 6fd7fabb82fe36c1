"""Decodes pictures in graph code, for the signature `predict_bytes` and for a client that compares with it."""

from __future__ import annotations

import tensorflow as tf

from tfrobust.utils.types import Tensor

MEGAPIXELS = 16  # the largest picture that is decoded: a PNG of 1 MB may declare pixels of 1 GB
CHANNELS = (1, 3)  # numbers of channels that pictures are decoded to
PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
HEADER = 24  # bytes of a PNG up to the end of its width and height


def decode(encoded: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Returns pictures as uint8 pixels `(batch, H, W, C)`: decoded, resized as `tfrobust.data` resizes, rounded.

    The declared size of a picture is checked before it is decoded. Gray pictures get equal channels, alpha is left out.

    Raises:
        tf.errors.InvalidArgumentError: if a file is not PNG or JPEG, is cut short, or has more than 16 megapixels.
    """
    spec = tf.TensorSpec(shape, tf.uint8)
    # Two in parallel, because 16 megapixels take 250 MB while they are resized.
    return tf.map_fn(lambda one: _decoded(one, shape), encoded, fn_output_signature=spec, parallel_iterations=2)


def _decoded(encoded: Tensor, shape: tuple[int, int, int]) -> Tensor:
    height, width, channels = shape
    known = tf.logical_or(_begins(encoded, PNG), _begins(encoded, JPEG))
    with tf.control_dependencies([tf.debugging.Assert(known, ["Expected a PNG or JPEG picture"])]):
        size = tf.cond(_begins(encoded, PNG), lambda: _png_size(encoded), lambda: _jpeg_size(encoded))
    fits = tf.reduce_all(size > 0) & (tf.reduce_prod(size) <= MEGAPIXELS * 10**6) & tf.reduce_all(size < 2**31)
    message = f"Expected a picture of at most {MEGAPIXELS} megapixels. Received (height, width):"
    with tf.control_dependencies([tf.debugging.Assert(fits, [message, size])]):
        # The operation reads both PNG and JPEG, and fails if the file is cut short.
        pixels = tf.io.decode_png(encoded, channels=channels)
    same = tf.reduce_all(tf.shape(pixels)[:2] == (height, width))
    return tf.ensure_shape(tf.cond(same, lambda: pixels, lambda: _resized(pixels, (height, width))), shape)


def _resized(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    resized = tf.image.resize(pixels, size, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0.0, 255.0), tf.uint8)


def _begins(encoded: Tensor, magic: bytes) -> Tensor:
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def _png_size(encoded: Tensor) -> Tensor:
    whole = tf.strings.length(encoded) >= HEADER
    with tf.control_dependencies([tf.debugging.Assert(whole, ["Expected a whole PNG picture. Received a part"])]):
        header = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, HEADER - 8, 8), tf.uint8), tf.int64)
    width, height = (tf.reduce_sum(part * [2**24, 2**16, 2**8, 1]) for part in tf.split(header, 2))
    return tf.stack([height, width])


def _jpeg_size(encoded: Tensor) -> Tensor:
    return tf.io.extract_jpeg_shape(encoded, output_type=tf.int64)[:2]
