"""Loads data sets by name, ready for training."""

import dataclasses
from typing import Any

import tensorflow as tf

from tfrobust.data import augment as augmentation
from tfrobust.data import pipeline, sources
from tfrobust.data.splits import Splits
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
    """

    name: str
    input_shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...]
    sizes: dict[str, int]


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
) -> tf.data.Dataset:
    """Returns one split of a data set as batches of (pixels, labels); reading it to its end is one epoch.

    The images stay in memory. Train, validation and test are disjoint, and the split of an image depends only on the
    data and `validation`: without a stored test split, a fixed stratified fifth of train becomes test; without a stored
    validation split, a fixed stratified share of the rest becomes validation.

    Order and augmentation are a function of (seed, epoch, position). The dataset counts the epochs that were read to
    their end: its epoch number k + 1 equals, bit for bit, the first of one that was loaded with `first_epoch=k`.
    A resumed run therefore sees the same batches as an uninterrupted one.

    Args:
        name: `digits` (scikit-learn's, 8x8 gray), any image classification of TensorFlow Datasets (`mnist`,
            `cifar10`, `cifar10_corrupted/fog_1`, ...), `npz:FILE` (arrays x_train, y_train, x_test, y_test, or x, y;
            uint8 or fractions in [0, 1]; labels as integers or one-hot), or `folder:DIR` (DIR/train/CLASS/*.png and
            DIR/test/CLASS/*.png, or DIR/CLASS/*.png).
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

    Returns:
        A finite dataset of (x `(B, H, W, C)` float32 in [0, 1], y `(B,)` int32).

    Raises:
        ValueError: for an unknown name or split, an argument out of range, or data without images and class labels.
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
    x, y, rows = _splits(name, validation, image_size).get(split)
    return pipeline.batches(
        x,
        y,
        rows,
        batch_size=batch_size,
        shuffle=split == "train" if shuffle is None else shuffle,
        augment=transform,
        seed=seed,
        first_epoch=first_epoch,
        steps_per_epoch=steps_per_epoch,
    )


def info(name: str, *, validation: float = 0.1, image_size: tuple[int, int] | None = None) -> Info:
    """Returns the shape, the classes and the sizes of a data set.

    Args:
        name, validation, image_size: as in `load`, which also raises the same errors.

    Example:

    >>> tfrobust.data.info("digits").input_shape
    (8, 8, 1)
    """
    splits = _splits(name, validation, image_size)
    names = splits.class_names()
    shape = splits.get(splits.names[-1]).x.shape[1:]
    return Info(name, shape, len(names), names, splits.sizes())


def _splits(name: str, validation: float, image_size: tuple[int, int] | None) -> Splits:
    check_number("validation", validation, 0, 1, below=True, expected="a fraction")
    if image_size is not None:
        if not isinstance(image_size, (tuple, list)) or len(image_size) != 2:
            raise invalid_value("image_size", "(height, width)", image_size)
        image_size = (check_integer("image_size", image_size[0]), check_integer("image_size", image_size[1]))
    return Splits(name, sources.find(name), validation, image_size)
