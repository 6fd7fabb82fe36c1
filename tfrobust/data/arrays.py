"""Checks images and labels, and chooses the held-out images, which are always the same."""

from typing import Any

import numpy as np

from tfrobust.data.stored import InMemory, Mapped, Stored
from tfrobust.utils.errors import invalid


def images(x: np.ndarray, image_size: tuple[int, int] | None, where: str) -> Stored:
    """Returns the images of an array; pixels that are mapped from a file and need no other type stay there.

    Args:
        x: an array `(N, H, W)` or `(N, H, W, C)`, integers in 0..255 or floats in [0, 1].
        image_size: None, or the (H, W) that every image is resized to.
        where: name of the data, for errors.

    Raises:
        ValueError: if `x` is not of this form.
    """
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
    return InMemory(x) if image_size is None and not isinstance(x, np.memmap) else Mapped(x, image_size)


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


def _from_one_hot(y: np.ndarray, classes: int | None, subject: str) -> tuple[np.ndarray, int]:
    if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
        received = f"shape {y.shape} with other rows; soft labels are not supported"
        raise invalid(subject, "(N,), (N, 1) or one-hot rows with a single 1", received)
    if classes is not None and classes != y.shape[1]:
        raise invalid(subject, f"{classes} columns", f"shape {y.shape}")
    return y.argmax(axis=1), y.shape[1]
