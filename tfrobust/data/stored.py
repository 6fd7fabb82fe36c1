"""Reads images by their numbers, wherever they are stored: in memory, in a mapped array, or encoded in files."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfrobust.utils.errors import InvalidArgument, demand, invalid, plain_errors
from tfrobust.utils.types import Tensor

IN_MEMORY = 2**30  # bytes up to which `cache="auto"` keeps images in memory
AT_ONCE = 256  # images that are read at a time where the number changes nothing
NAMED = 5  # files that an error names


class Stored(Protocol):
    """Images `(N, H, W, C)`, uint8 in 0..255 or floats in [0, 1]."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, numbers: Tensor) -> Tensor:
        """Returns the numbered images `(n, H, W, C)` for numbers `(n,)`, int64; in graph code."""

    def of(self, numbers: np.ndarray) -> Stored:
        """Returns the numbered images alone."""


class InMemory:
    """Images in an array."""

    def __init__(self, pixels: np.ndarray | Tensor) -> None:
        with tf.device("CPU:0"):  # tf.data runs there
            self._pixels = tf.convert_to_tensor(pixels)
        self.shape, self.dtype = tuple(self._pixels.shape), np.dtype(self._pixels.dtype.as_numpy_dtype)

    def read(self, numbers: Tensor) -> Tensor:
        return tf.gather(self._pixels, numbers)

    def of(self, numbers: np.ndarray) -> InMemory:
        with tf.device("CPU:0"):
            return self if len(numbers) == self.shape[0] else InMemory(tf.gather(self._pixels, numbers))


class Mapped:
    """Images in an array that is mapped from a file, which are resized as they are read."""

    def __init__(
        self, array: np.ndarray, image_size: tuple[int, int] | None, numbers: np.ndarray | None = None
    ) -> None:
        self._array, self._image_size = array, image_size
        self._numbers = np.arange(len(array)) if numbers is None else numbers
        self.shape = (len(self._numbers), *(image_size or array.shape[1:3]), array.shape[3])
        self.dtype = array.dtype

    def read(self, numbers: Tensor) -> Tensor:
        pixels = tf.numpy_function(lambda rows: np.asarray(self._array[self._numbers[rows]]), [numbers], self.dtype)
        pixels.set_shape((None, *self._array.shape[1:]))
        return resized(pixels, self._image_size)

    def of(self, numbers: np.ndarray) -> Mapped:
        return Mapped(self._array, self._image_size, self._numbers[numbers])


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """Encoded pictures, which may differ in size.

    Attributes:
        keys: what identifies each picture, `(N, ...)`, such as the path of its file.
        decode: function of a key that returns pixels `(height, width, 1 or 3)` uint8, in graph code.
        size: height, width and channels of all pictures; None for what is not known.
        names: the pictures' names for errors, `(N,)`.
        digest: text that changes when a file does.
        known: sizes that are known already, see `sizes`.
    """

    keys: np.ndarray
    decode: Callable[[Tensor], Tensor]
    size: tuple[int | None, int | None, int | None]
    names: np.ndarray
    digest: str
    known: np.ndarray | None = None

    # Pictures are compared by their digest, so that their sizes are found once in a process.
    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pictures) and self.digest == other.digest

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def sizes(self) -> np.ndarray:
        """Height, width and channels of every picture, `(N, 3)`; zeros for one that cannot be decoded."""
        return _sizes(self) if self.known is None else self.known

    def of(self, rows: np.ndarray) -> Pictures:
        """Returns the chosen pictures alone, for numbers or a mask."""
        known = None if self.known is None and None not in self.size else self.sizes[rows]
        return dataclasses.replace(self, keys=self.keys[rows], names=self.names[rows], known=known)


class Encoded:
    """Pictures of one size, which are decoded and resized as they are read."""

    dtype = np.dtype("uint8")

    def __init__(self, pictures: Pictures, shape: tuple[int, int, int], image_size: tuple[int, int] | None) -> None:
        self._pictures, self._image_size = pictures, image_size
        self.shape = (len(pictures), *shape)

    @functools.cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        """Keys and names outside of the graph, which would keep a copy of them."""
        with tf.init_scope(), tf.device("CPU:0"):
            return tf.constant(self._pictures.keys), tf.constant(self._pictures.names)

    def read(self, numbers: Tensor) -> Tensor:
        keys, names = self._tensors
        wanted = tf.gather(keys, numbers)

        def picture(place: Tensor) -> tuple[Tensor, Tensor]:
            pixels = resized(self._pictures.decode(wanted[place]), self._image_size)
            # Gray pictures among coloured ones get three equal channels. Another size is an error.
            return place, tf.ensure_shape(tf.broadcast_to(pixels, self.shape[1:]), self.shape[1:])

        count = tf.size(numbers, tf.int64)
        # A batch for no number has to exist as well, so the first row is always there.
        first = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int64), tf.zeros(self.shape[1:], tf.uint8)))
        read = tf.data.Dataset.range(count).map(picture, num_parallel_calls=os.cpu_count()).ignore_errors()
        places, pixels = first.concatenate(read).batch(count + 1).get_single_element()
        missing = tf.sets.difference(tf.range(count)[None], places[None, 1:]).values
        files = tf.strings.reduce_join(tf.gather(names, tf.gather(numbers, missing))[:NAMED], separator=", ")
        sentence = tf.strings.format(
            f"Invalid image files: expected pictures {self.shape[1:]} that can be decoded, as when they were listed."
            " Received: {} that cannot: {}",
            (tf.size(missing), files),
        )
        with tf.control_dependencies([demand(tf.size(missing) == 0, sentence)]):
            return tf.ensure_shape(pixels[1:], (None, *self.shape[1:]))

    def of(self, numbers: np.ndarray) -> Encoded:
        return Encoded(self._pictures.of(numbers), self.shape[1:], self._image_size)


def encoded(pictures: Pictures, image_size: tuple[int, int] | None, where: str) -> Encoded:
    """Returns pictures of one size; sizes that are not known are found by decoding every picture once.

    Raises:
        ValueError: if a picture cannot be decoded, or if the pictures differ in size and `image_size` is None.
    """
    height, width, channels = pictures.size
    height, width = image_size or (height, width)
    if height is None or width is None or channels is None:
        sizes = pictures.sizes
        if len(broken := np.flatnonzero(sizes[:, 0] == 0)):
            expected = (
                "PNG, JPEG, GIF or BMP files that can be decoded. Remove the others, or leave them out by "
                'on_error="skip"'
            )
            named = ", ".join(map(os.fsdecode, pictures.names[broken[:NAMED]]))
            received = f"{len(broken)} of {len(sizes)} that cannot: {named}{', ...' if len(broken) > NAMED else ''}"
            raise invalid(f"image files in {where}", expected, received)
        kinds = np.unique(sizes[:, :2], axis=0)
        if image_size is None and len(kinds) > 1:
            expected = "images of one size, or image_size=(height, width) to resize them to"
            received = f"images of sizes {' and '.join(str(tuple(map(int, kind))) for kind in kinds[:2])}"
            raise invalid(f"images in {where}", expected, received)
        height, width = image_size or map(int, kinds[0])
        channels = int(sizes[:, 2].max())
    return Encoded(pictures, (height, width, channels), image_size)


@functools.lru_cache(maxsize=8)
def _sizes(pictures: Pictures) -> np.ndarray:
    with tf.device("CPU:0"):
        keys = tf.constant(pictures.keys)

    def size(number: Tensor) -> tuple[Tensor, Tensor]:
        return number, tf.shape(pictures.decode(keys[number]))

    found = tf.data.Dataset.range(len(pictures)).map(size, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    sizes = np.zeros((len(pictures), 3), int)
    for numbers, rows in found.batch(AT_ONCE).as_numpy_iterator():
        sizes[numbers] = rows
    return sizes


def kept(stored: Stored, cache: bool | str) -> Stored:
    """Returns images that are in memory if `cache` asks for it; see `load`."""
    size = int(np.prod(stored.shape)) * stored.dtype.itemsize
    if isinstance(stored, InMemory) or not (size <= IN_MEMORY if cache == "auto" else cache):
        return stored
    pixels = np.empty(stored.shape, stored.dtype)
    batches = tf.data.Dataset.range(len(pixels)).batch(AT_ONCE)
    batches = batches.map(lambda numbers: (numbers, stored.read(numbers)), num_parallel_calls=tf.data.AUTOTUNE)
    with plain_errors():
        for numbers, read in batches.as_numpy_iterator():
            pixels[numbers] = read
    return InMemory(pixels)


def resized(pixels: Tensor, image_size: tuple[int, int] | None) -> Tensor:
    """Returns pixels `(..., H, W, C)` at another size and in their own type, rounded and within their range."""
    if image_size is None or tuple(pixels.shape[-3:-1]) == tuple(image_size):
        return pixels
    if 0 in pixels.shape:
        raise InvalidArgument(f"Expected images with at least one pixel. Received: shape {pixels.shape}")
    found = tf.image.resize(pixels, image_size, antialias=True)
    if pixels.dtype == tf.uint8:
        return tf.cast(tf.clip_by_value(tf.round(found), 0, 255), tf.uint8)
    return tf.cast(tf.clip_by_value(found, 0, 1), pixels.dtype)
