"""Finds sources of images by the prefix before the colon.

A new source is a function `argument -> Source` and a line in `SOURCES`; checks, resizing, held-out splits and batches
are the same for all.
"""

import contextlib
import difflib
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrobust.utils.errors import invalid
from tfrobust.utils.pictures import upright
from tfrobust.utils.registry import unknown

SPLITS = ("train", "validation", "test")


class Source(NamedTuple):
    """A data set, not read yet.

    Attributes:
        splits: for each split that is stored, a function that reads it: `() -> (images, labels)`. Images are an array
            `(N, H, W)` or `(N, H, W, C)`, or an iterable of `(H, W, C)`.
        class_names: names of the classes in the order of the labels; None if they are not known.
    """

    splits: Mapping[str, Callable[[], tuple[Any, Any]]]
    class_names: tuple[str, ...] | None = None


def digits(argument: str) -> Source:
    """scikit-learn's 1797 handwritten digits, 8x8 with 17 gray levels: ships with it, needs no network."""
    _expect(not argument, "digits", f"digits:{argument}")

    def read() -> tuple[np.ndarray, np.ndarray]:
        from sklearn import datasets  # an import of seconds

        bunch = datasets.load_digits()
        return (bunch.images / 16.0).astype(np.float32), bunch.target

    return Source({"train": read}, tuple("0123456789"))


def npz(argument: str) -> Source:
    """A NumPy file with x_train, y_train, x_test, y_test (as Keras' mnist.npz), or with x and y."""
    _expect(bool(argument), "npz:FILE", "npz:")
    path = os.path.expanduser(argument)
    with _reading(path) as arrays:
        names = list(arrays)
    pairs = {split: (f"x_{split}", f"y_{split}") for split in SPLITS if {f"x_{split}", f"y_{split}"} <= {*names}}
    if not pairs and {"x", "y"} <= {*names}:
        pairs = {"train": ("x", "y")}
    if not pairs:
        expected = "arrays x_train, y_train, x_test, y_test, or x and y"
        raise invalid(f"file {path!r}", expected, ", ".join(names) or "no array")

    def read(x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
        with _reading(path) as arrays:
            try:
                return arrays[x], arrays[y]
            except Exception as error:  # a damaged or a pickled array: zlib, zipfile and NumPy have an error each
                raise invalid(f"file {path!r}", f"readable {x} and {y}", error) from error

    return Source({split: functools.partial(read, *pair) for split, pair in pairs.items()})


def folder(argument: str) -> Source:
    """DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, optionally DIR/validation; or DIR/CLASS/*.png."""
    import keras

    _expect(bool(argument), "folder:DIR", "folder:")
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"Expected a folder of images. Received: {str(root)!r}, which does not exist")
    stored = {split: root / split for split in SPLITS if (root / split).is_dir()} or {"train": root}
    # Keras finds the files and the classes. It would return resized float32 images, so they are read here.
    found = {
        split: keras.utils.image_dataset_from_directory(str(path), batch_size=None, shuffle=False, verbose=False)
        for split, path in stored.items()
    }
    names = next(iter(found.values())).class_names
    for split, dataset in found.items():
        if dataset.class_names != names:
            expected = f"the classes of the other splits, {names}"
            raise invalid(f"folder {str(stored[split])!r}", expected, dataset.class_names)

    def read(split: str) -> tuple[Iterator[np.ndarray], list[int]]:
        paths = found[split].file_paths
        return map(_decoded, paths), [names.index(Path(path).relative_to(stored[split]).parts[0]) for path in paths]

    return Source({split: functools.partial(read, split) for split in stored}, tuple(names))


def tfds(name: str) -> Source:
    """Any image classification of TensorFlow Datasets by its name; downloaded if it is not prepared yet."""
    import tensorflow_datasets  # an import of seconds

    try:
        builder = tensorflow_datasets.builder(name)
    except (ValueError, AssertionError) as error:  # an unknown name; or an unknown config or version of a known one
        builders = tensorflow_datasets.list_builders(with_community_datasets=False)
        if re.split("[/:]", name)[0] in builders:
            raise invalid("data set", "one that TFDS knows", f"{name!r}. {error}") from error
        usual = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn_cropped", "cifar10_corrupted/CONFIG")
        known = {"digits", "npz:FILE", "folder:DIR", *usual, *difflib.get_close_matches(name, builders)}
        raise unknown("data set (of these, or of TensorFlow Datasets)", name, known) from error
    image, label = _image_and_label(name, builder.info)
    try:
        builder.download_and_prepare()
    except Exception as error:  # any failure of the downloader: no network, no permission, a file to fetch by hand
        raise OSError(
            f"TensorFlow Datasets could not prepare {name!r}: expected a prepared copy in {str(builder.data_dir)!r} "
            "(TFDS_DATA_DIR sets where it looks), or a download that works. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    read = _images_of_tfds if None in builder.info.features[image].shape else _array_of_tfds
    stored = [split for split in SPLITS if split in builder.info.splits]
    if not stored:
        expected = f"a split {' or '.join(map(repr, SPLITS))}"
        raise invalid(f"data set {name!r}", expected, ", ".join(builder.info.splits) or "none")
    splits = {split: functools.partial(read, str(builder.data_dir), split, image, label) for split in stored}
    return Source(splits, tuple(builder.info.features[label].names))


SOURCES: dict[str, Callable[[str], Source]] = {"digits": digits, "npz": npz, "folder": folder}


def find(name: str) -> Source:
    """Returns the source for `digits`, `npz:FILE`, `folder:DIR` or a name of TensorFlow Datasets.

    Raises:
        ValueError: for an unknown name.
    """
    if not isinstance(name, str) or not name:
        raise invalid("data set", "a name such as 'digits' or 'npz:FILE'", repr(name))
    prefix, _, argument = name.partition(":")
    return SOURCES[prefix](argument) if prefix in SOURCES else tfds(name)


def _expect(condition: bool, form: str, received: str) -> None:
    if not condition:
        raise invalid("data set", repr(form), repr(received))


@contextlib.contextmanager
def _reading(path: str) -> Iterator[Any]:
    if not os.path.isfile(path):
        raise FileNotFoundError(f"Expected an .npz file. Received: {path!r}, which does not exist")
    with open(path, "rb") as file:  # NumPy would leave a damaged file open
        try:
            arrays = np.load(file, allow_pickle=False)
        except Exception as error:  # zipfile's, NumPy's or the system's
            raise invalid(f"file {path!r}", "NumPy's .npz format", error) from error
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise invalid(f"file {path!r}", "several named arrays, .npz", "one array, .npy")
        yield arrays


# As a graph, because eager operations on a file's bytes take longer than the picture itself.
_upright = tf.function(upright, [tf.TensorSpec((None, None, None), tf.uint8), tf.TensorSpec((), tf.string)])


def _decoded(path: str) -> np.ndarray:
    try:
        encoded = tf.io.read_file(path)
        image = _upright(tf.io.decode_image(encoded, expand_animations=False), encoded).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise invalid(f"image file {path!r}", "PNG, JPEG, GIF or BMP", error) from error
    return image[..., :3] if image.shape[-1] >= 3 else image[..., :1]  # without the alpha channel


def _image_and_label(name: str, info: Any) -> tuple[str, str]:
    from tensorflow_datasets import features

    found = dict(info.features.items()) if isinstance(info.features, features.FeaturesDict) else {}
    keys = info.supervised_keys or ("image", "label")
    wanted = (features.Image, features.ClassLabel)
    if len(keys) == 2 and all(isinstance(found.get(key), kind) for key, kind in zip(keys, wanted, strict=True)):
        return keys
    expected = "an image classification, which has an image and a class label"
    raise invalid(f"data set {name!r}", expected, f"features {', '.join(found) or info.features}")


# Keeps the two splits that were read last: `info`, training and validation then decode the images once.
@functools.lru_cache(maxsize=2)
def _array_of_tfds(directory: str, split: str, image: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    examples = _examples(directory, split, image, label)
    x, y = examples.batch(max(1, int(examples.cardinality()))).get_single_element()
    return x.numpy(), y.numpy()


def _images_of_tfds(directory: str, split: str, image: str, label: str) -> tuple[Iterator[np.ndarray], list[int]]:
    import tensorflow_datasets

    encoded = _examples(directory, split, image, label, decoders={image: tensorflow_datasets.decode.SkipDecoding()})
    labels = [int(y) for _, y in encoded]
    return (x.numpy() for x, _ in _examples(directory, split, image, label)), labels


def _examples(directory: str, split: str, image: str, label: str, **options: Any) -> Any:
    import tensorflow_datasets

    with tf.device("CPU:0"):
        stored = tensorflow_datasets.builder_from_directory(directory).as_dataset(split=split, **options)
        return stored.map(lambda example: (example[image], example[label]))
