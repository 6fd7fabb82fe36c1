"""Turns decoded pictures upright by the orientation that a camera wrote into the file, in graph code."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from tfrobust.utils.types import Tensor

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"  # how the files begin
SCAN = b"\xff\xda\0"  # how a scan of a JPEG begins; within a scan's own bytes a zero follows each \xff
_ORIENTATION, _SHORT = 0x0112, 3  # in EXIF the number of the field, and the type of its value
_FIELD = 12  # bytes of a field in EXIF's directory: number 2, type 2, count 4, value 4
_SEGMENT = 2**16  # the EXIF data of a JPEG is shorter


def upright(pixels: Tensor, encoded: Tensor) -> Tensor:
    """Returns the pixels `(H, W, C)` that were decoded from a JPEG or PNG file as a viewer shows them.

    A camera stores the rows of its sensor and, as a number of 1 to 8, the turn or reflection that makes the picture
    upright. TensorFlow's decoders ignore that number. Turns by 90 degrees exchange height and width.
    """
    turn = orientation(encoded)
    pixels = _if_among((5, 6, 7, 8), turn, lambda: tf.transpose(pixels, (1, 0, 2)), pixels)
    rows = _if_among((3, 4, 7, 8), turn, lambda: tf.reverse(pixels, [0]), pixels)
    return _if_among((2, 3, 6, 7), turn, lambda: tf.reverse(rows, [1]), rows)


def orientation(encoded: Tensor) -> Tensor:
    """Returns the EXIF orientation of a JPEG or PNG file as an int64 scalar; 1, upright, if it has none."""
    header = parts(encoded, SCAN, 1)[0]  # behind the scans telephones write further pictures, with their own EXIF data
    found = parts(header, tf.where(begins(encoded, PNG), b"eXIf", b"Exif\0\0"), 1)
    none = tf.constant(1, tf.int64)
    return tf.cond(tf.size(found) > 1, lambda: _of_exif(tf.strings.substr(found[-1], 0, _SEGMENT)), lambda: none)


def _of_exif(exif: Tensor) -> Tensor:
    """Returns the orientation of what follows EXIF's mark: the order of bytes, and the place of a list of fields."""
    little, big = begins(exif, b"II*\0"), begins(exif, b"MM\0*")
    data = tf.io.decode_raw(tf.strings.join([exif, bytes(8)]), tf.uint8)  # data that are cut short end in zeros
    at = tf.minimum(number(data[4:8], little), tf.size(data, tf.int64) - 2)
    fields = data[at + 2 : at + 2 + _FIELD * number(data[at : at + 2], little)]
    fields = tf.reshape(fields[: tf.size(fields) // _FIELD * _FIELD], (-1, _FIELD))
    right = (number(fields[:, :2], little) == _ORIENTATION) & (number(fields[:, 2:4], little) == _SHORT)
    found = tf.boolean_mask(number(fields[:, 8:10], little), right & (little | big))
    return tf.concat([tf.boolean_mask(found, (found >= 1) & (found <= 8)), [1]], axis=0)[0]


def begins(encoded: Tensor, magic: bytes) -> Tensor:
    """Returns whether a file begins with these bytes."""
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def parts(encoded: Tensor, separator: Tensor | bytes, most: int) -> Tensor:
    """Returns what stands before, between and after the first `most` places of a separator in a file."""
    # `tf.strings.split` does the same in 150 more operations, because it returns a ragged tensor.
    return tf.raw_ops.StringSplitV2(input=encoded[None], sep=separator, maxsplit=most).values


def number(digits: Tensor, little: Tensor | bool = False) -> Tensor:
    """Returns whole numbers `(...)` as int64 from bytes `(..., 2 or 4)`; `little`: the lowest byte is the first."""
    size = tf.shape(digits, tf.int64)[-1]
    places = tf.where(little, tf.range(size), tf.range(size)[::-1])
    return tf.reduce_sum(tf.bitwise.left_shift(tf.cast(digits, tf.int64), 8 * places), axis=-1)


def _if_among(turns: Sequence[int], turn: Tensor, changed: Callable[[], Tensor], pixels: Tensor) -> Tensor:
    return tf.cond(tf.reduce_any(turn == tf.constant(turns, tf.int64)), changed, lambda: pixels)
