"""Loads data sets by name, ready for training."""

import dataclasses
from typing import Any

import tensorflow as tf

from tfrobust.data import augment as augmentation
from tfrobust.data import pipeline, sources
from tfrobust.data.splits import Splits
from tfrobust.data.stored import kept
from tfrobust.utils.errors import invalid_value
from tfrobust.utils.registry import unknown
from tfrobust.utils.validation import check_integer, check_number


@dataclasses.dataclass(frozen=True)
class Info:
    """Facts about a data set that a model and a report need.

    Attributes:
        name: the name that `load` takes.
        input_shape: shape of an image, (H, W, C).
        classes: number of classes.
        class_names: names of the classes in the order of the labels.
        sizes: number of images in each split that `load` can give.
        skipped: names of the files that were left out, because they cannot be decoded (`on_error="skip"`).
        digest: text that changes when the stored data do, and is the same for a copy of them.
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...]
    sizes: dict[str, int]
    skipped: tuple[str, ...] = ()
    digest: str = ""


def load(
    name: str,
    split: str = "train",
    *,
    batch_size: int = 128,
    validation: float = 0.1,
    augment: Any = None,
    shuffle: bool | None = None,
    seed: int = 0,
    image_size: tuple[int, int] | None = None,
    first_epoch: int = 0,
    steps_per_epoch: int | None = None,
    cache: bool | str = "auto",
    on_error: str = "raise",
) -> tf.data.Dataset:
    """Returns one split of a data set as batches of (pixels, labels); reading it to its end is one epoch.

    Images that do not fit into memory are read, decoded, resized and augmented as batches are requested, several at
    a time; order and pixels are the same.

    Train, validation and test are disjoint, and the split of an image depends only on the data and `validation`:
    without a stored test split, a fixed stratified fifth of train becomes test; without a stored validation split, a
    fixed stratified share of the rest becomes validation.

    Order and augmentation are a function of (seed, epoch, position). The dataset counts the epochs that were read to
    their end: its epoch number k + 1 equals, bit for bit, the first of one that was loaded with `first_epoch=k`.
    A resumed run therefore sees the same batches as an uninterrupted one.

    Args:
        name: `digits` (scikit-learn's, 8x8 gray), any image classification of TensorFlow Datasets (`mnist`,
            `cifar10`, `cifar10_corrupted/fog_1`, ...), `npz:FILE` (arrays x_train, y_train, x_test, y_test, or x, y;
            uint8 or fractions in [0, 1]; labels as integers or one-hot), `npy:DIR` (files x_train.npy, ... of such
            arrays), or `folder:DIR` (DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, or DIR/CLASS/*.png).
        split: "train", "validation" or "test".
        batch_size: images in a batch; the last batch of a pass may have fewer.
        validation: fraction of train that becomes validation, in [0, 1), if no validation split is stored.
        augment: None; an `Augment` or a mapping of its arguments, `{"pad": 4, "flip": True}`; or a function of
            `(B, H, W, C)` pixels and a seed of two integers that returns pixels.
        shuffle: whether each pass has its own order; None: only that of train.
        seed: seed of order and augmentation; the splits do not depend on it.
        image_size: None, or the (height, width) in pixels that all images are resized to.
        first_epoch: number of the first epoch.
        steps_per_epoch: batches in an epoch; None: one pass. An epoch may end within a pass, and the next one continues
            there, so that a long pass becomes several epochs, each with its checkpoint and its validation.
        cache: whether the decoded images of the split are kept in memory; "auto": those of at most 1 GiB, at one byte
            for each value of a pixel.
        on_error: "raise" an error that names the files of a folder that cannot be decoded, or "skip" them. Every file
            is decoded once to find out, when its split is first read in a process.

    Returns:
        A finite dataset of (x `(B, H, W, C)` float32 in [0, 1], y `(B,)` int32).

    Raises:
        ValueError: for an unknown name or split, an argument out of range, data without images and class labels, or
            files that cannot be decoded; while batches are read, an error names files that were removed or changed.
        FileNotFoundError: for a file or a folder that does not exist.
        OSError: if TensorFlow Datasets can neither find nor download the data.

    Example:

    >>> x, y = next(iter(tfrobust.data.load("digits", "test", batch_size=32)))
    >>> tuple(x.shape), tuple(y.shape)
    ((32, 8, 8, 1), (32,))
    """
    batch_size = check_integer("batch_size", batch_size)
    first_epoch = check_integer("first_epoch", first_epoch, 0)
    if steps_per_epoch is not None:
        steps_per_epoch = check_integer("steps_per_epoch", steps_per_epoch)
    seed = check_integer("seed", seed, None)
    transform = augmentation.get(augment)
    if not isinstance(shuffle, (bool, type(None))):
        raise invalid_value("shuffle", "True, False or None", shuffle)
    if split not in sources.SPLITS:
        raise unknown("split", split, sources.SPLITS)
    if not (isinstance(cache, bool) or cache == "auto"):
        raise invalid_value("cache", "True, False or 'auto'", cache)
    x, y = _splits(name, validation, image_size, on_error).get(split)
    return pipeline.batches(
        kept(x, cache),
        y,
        batch_size=batch_size,
        shuffle=split == "train" if shuffle is None else shuffle,
        augment=transform,
        seed=seed,
        first_epoch=first_epoch,
        steps_per_epoch=steps_per_epoch,
    )


def info(
    name: str, *, validation: float = 0.1, image_size: tuple[int, int] | None = None, on_error: str = "raise"
) -> Info:
    """Returns the shape, the classes and the sizes of a data set.

    Args:
        name, validation, image_size, on_error: as in `load`, which also raises the same errors.

    Example:

    >>> tfrobust.data.info("digits").input_shape
    (8, 8, 1)
    """
    splits = _splits(name, validation, image_size, on_error)
    names = splits.class_names()
    return Info(name, splits.shape(), len(names), names, splits.sizes(), splits.skipped(), splits.digest())


def _splits(name: str, validation: float, image_size: tuple[int, int] | None, on_error: str) -> Splits:
    if on_error not in ("raise", "skip"):
        raise invalid_value("on_error", "'raise' or 'skip'", on_error)
    check_number("validation", validation, 0, 1, below=True, expected="a fraction")
    if image_size is not None:
        if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
            raise invalid_value("image_size", "(height, width)", image_size)
        image_size = (check_integer("image_size", image_size[0]), check_integer("image_size", image_size[1]))
    return Splits(name, sources.find(name), validation, image_size, on_error)
