"""Checks images and labels, and chooses the held-out images, which are always the same."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tfrobust.utils.errors import InvalidArgument, invalid


def images(x: Any, image_size: tuple[int, int] | None, where: str) -> np.ndarray:
    """Returns images as `(N, H, W, C)`, uint8 in 0..255 or float in [0, 1].

    Args:
        x: an array `(N, H, W)` or `(N, H, W, C)`, or an iterable of images `(H, W, C)` that may differ in size.
        image_size: None, or the (H, W) that every image is resized to.
        where: name of the data, for errors.

    Raises:
        ValueError: if `x` is not of these forms.
    """
    if not hasattr(x, "shape"):
        return _pixels(_stacked(x, image_size, where), where)
    x = np.asarray(x)
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        raise invalid(f"images in {where}", "shape (N, H, W) or (N, H, W, C)", x.shape)
    if 0 in x.shape:
        raise invalid(f"images in {where}", "at least one image", f"shape {x.shape}")
    if x.shape[1] in (1, 3) and x.shape[2] > 3 and x.shape[3] > 3:
        hint = "which looks like channels first; np.moveaxis(x, 1, -1) makes them channels last."
        raise invalid(f"images in {where}", "channels last, (N, H, W, C)", f"shape {x.shape}, {hint}")
    x = _pixels(x, where)
    if image_size is not None and x.shape[1:3] != image_size:
        x = np.concatenate([_resized(x[i : i + 256], image_size) for i in range(0, len(x), 256)])
    return x


def labels(y: Any, count: int, classes: int | None, where: str) -> tuple[np.ndarray, int]:
    """Returns labels as `(N,)` int32, and the number of classes.

    Args:
        y: `(N,)` or `(N, 1)` integers, or one-hot `(N, C)`.
        count: N.
        classes: number of classes; None: the greatest label plus 1.
        where: name of the data, for errors.

    Raises:
        ValueError: for a wrong length, labels that are not integers, soft labels, or labels out of range.
    """
    y, subject = np.asarray(y), f"labels in {where}"
    if y.ndim not in (1, 2) or len(y) != count or 0 in y.shape:
        shapes = f"shape ({count},), ({count}, 1) or one-hot ({count}, C)"
        raise invalid(subject, f"one for each of the {count} images, {shapes}", f"shape {y.shape}")
    if y.ndim == 2 and y.shape[1] > 1:
        y, classes = _from_one_hot(y, classes, subject)
    y = y.reshape(-1)
    if not np.issubdtype(y.dtype, np.integer):
        raise invalid(subject, "integers", f"dtype {y.dtype}")
    least, most = int(y.min()), int(y.max())
    classes = most + 1 if classes is None else classes
    if least < 0 or most >= classes:
        raise invalid(subject, f"integers in [0, {classes})", f"labels from {least} to {most}")
    if classes < 2:
        raise invalid(subject, "at least 2 classes", classes)
    return y.astype(np.int32), classes


def held_out(y: np.ndarray, fraction: float, key: int) -> np.ndarray:
    """Returns which examples a fixed stratified choice takes: a mask `(N,)` with round(fraction * N) times True.

    The examples, sorted by class and in random order within a class, are taken at equal distances: every class gives
    its share, rounded up or down to an integer, however few it has. The generator is NumPy's legacy one because its
    numbers never change; the seed of a run has no influence.

    Args:
        y: labels `(N,)`.
        fraction: fraction of the examples, in [0, 1).
        key: number of the choice; each key gives another one.
    """
    count = round(fraction * len(y))
    taken = np.zeros(len(y), bool)
    if count:
        by_class = np.lexsort((np.random.RandomState(key).permutation(len(y)), y))
        taken[by_class[((np.arange(count) + 0.5) * len(y) / count).astype(int)]] = True
    return taken


def _pixels(x: np.ndarray, where: str) -> np.ndarray:
    if x.dtype == np.uint8:
        return x
    subject, integers = f"images in {where}", np.issubdtype(x.dtype, np.integer)
    if not (integers or np.issubdtype(x.dtype, np.floating)):
        raise invalid(subject, "uint8 in 0..255 or floats in [0, 1]", f"dtype {x.dtype}")
    least, most = x.min(), x.max()
    if not (np.isfinite(least) and np.isfinite(most)):  # NaN among the pixels makes both NaN
        raise invalid(subject, "finite pixels", "NaN or infinity among them")
    if least < 0 or most > (255 if integers else 1):
        expected = "integers in 0..255" if integers else "floats in [0, 1]"
        raise invalid(subject, expected, f"{x.dtype} pixels from {least} to {most}")
    if integers:
        return x.astype(np.uint8)
    return x.astype(np.float32) if x.dtype.itemsize > 4 else x  # a batch is float32 anyway


def _stacked(x: Iterable[Any], image_size: tuple[int, int] | None, where: str) -> np.ndarray:
    stack: list[np.ndarray] = []
    for image in map(np.asarray, x):
        if image_size is not None and image.shape[:2] != image_size:
            image = _resized(image, image_size)
        if stack and image.shape[:2] != stack[0].shape[:2]:
            expected = "images of one size, or image_size=(height, width) to resize them to"
            received = f"images of sizes {stack[0].shape[:2]} and {image.shape[:2]}"
            raise invalid(f"images in {where}", expected, received)
        stack.append(image)
    if not stack:
        raise invalid(f"images in {where}", "at least one image", "none")
    # Gray images among coloured ones get three equal channels.
    channels = max(image.shape[-1] for image in stack)
    return np.stack([np.broadcast_to(image, (*image.shape[:2], channels)) for image in stack])


def _resized(x: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    if 0 in x.shape:
        raise InvalidArgument(f"Expected images with at least one pixel. Received: shape {x.shape}")
    with tf.device("CPU:0"):
        resized = tf.image.resize(x, image_size, antialias=True).numpy()
    if x.dtype == np.uint8:
        return np.clip(np.rint(resized), 0, 255).astype(np.uint8)
    return np.clip(resized, 0, 1).astype(x.dtype)


def _from_one_hot(y: np.ndarray, classes: int | None, subject: str) -> tuple[np.ndarray, int]:
    if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
        received = f"shape {y.shape} with other rows; soft labels are not supported"
        raise invalid(subject, "(N,), (N, 1) or one-hot rows with a single 1", received)
    if classes is not None and classes != y.shape[1]:
        raise invalid(subject, f"{classes} columns", f"shape {y.shape}")
    return y.argmax(axis=1), y.shape[1]
