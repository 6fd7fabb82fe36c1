"""Finds sources of images by the prefix before the colon.

A new source is a function `argument -> Source` and a line in `SOURCES`; checks, resizing, held-out splits and batches
are the same for all.
"""

import difflib
import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfrobust.data import files
from tfrobust.data.stored import Pictures
from tfrobust.utils.digest import digest_of
from tfrobust.utils.errors import invalid
from tfrobust.utils.pictures import upright
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor

SPLITS = ("train", "validation", "test")


class Source(NamedTuple):
    """A data set, not read yet.

    Attributes:
        splits: for each split that is stored, a function that reads it: `() -> (images, labels)`. Images are an array
            `(N, H, W)` or `(N, H, W, C)`, which may be mapped from a file, or `Pictures` that are not decoded yet.
        class_names: names of the classes in the order of the labels; None if they are not known.
        digest: text that changes when the stored data do, and is the same for a copy of them; empty if they cannot.
    """

    splits: Mapping[str, Callable[[], tuple[Any, Any]]]
    class_names: tuple[str, ...] | None = None
    digest: str = ""


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
    path = Path(argument).expanduser()
    members = files.members(path)
    return _of_arrays(path, {name: functools.partial(files.member, path, name) for name in members}, str(members))


def npy(argument: str) -> Source:
    """A folder of NumPy files x_train.npy, y_train.npy, x_test.npy, y_test.npy, or x.npy and y.npy."""
    _expect(bool(argument), "npy:DIR", "npy:")
    root = _folder(argument, "NumPy files")
    found = {path.stem: path for path in sorted(root.glob("*.npy"))}
    sizes = str([(name, path.stat().st_size) for name, path in found.items()])
    return _of_arrays(root, {name: functools.partial(files.array, path) for name, path in found.items()}, sizes)


def folder(argument: str) -> Source:
    """DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, optionally DIR/validation; or DIR/CLASS/*.png."""
    import keras

    _expect(bool(argument), "folder:DIR", "folder:")
    root = _folder(argument, "images")
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
    listed = [files.listing(root, dataset.file_paths) for dataset in found.values()]

    def read(split: str) -> tuple[Pictures, list[int]]:
        paths = found[split].file_paths
        pictures = files.pictures(paths, _decoded)
        return pictures, [names.index(Path(path).relative_to(stored[split]).parts[0]) for path in paths]

    return Source({split: functools.partial(read, split) for split in stored}, tuple(names), digest_of(*listed))


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
        prefixes = ("digits", "npz:FILE", "npy:DIR", "folder:DIR")
        known = {*prefixes, *usual, *difflib.get_close_matches(name, builders)}
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
    stored = [split for split in SPLITS if split in builder.info.splits]
    if not stored:
        expected = f"a split {' or '.join(map(repr, SPLITS))}"
        raise invalid(f"data set {name!r}", expected, ", ".join(builder.info.splits) or "none")
    splits = {split: functools.partial(_of_tfds, str(builder.data_dir), split, image, label) for split in stored}
    counts = {split: builder.info.splits[split].num_examples for split in stored}
    return Source(splits, tuple(builder.info.features[label].names), f"{builder.info.full_name} {counts}")


SOURCES: dict[str, Callable[[str], Source]] = {"digits": digits, "npz": npz, "npy": npy, "folder": folder}


def find(name: str) -> Source:
    """Returns the source for `digits`, `npz:FILE`, `npy:DIR`, `folder:DIR` or a name of TensorFlow Datasets.

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


def _folder(argument: str, content: str) -> Path:
    root = Path(argument).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"Expected a folder of {content}. Received: {str(root)!r}, which does not exist")
    return root


def _of_arrays(path: Path, arrays: Mapping[str, Callable[[], np.ndarray]], digest: str) -> Source:
    """Returns the source of named arrays in a file or a folder."""
    pairs = {split: (f"x_{split}", f"y_{split}") for split in SPLITS if {f"x_{split}", f"y_{split}"} <= {*arrays}}
    if not pairs and {"x", "y"} <= {*arrays}:
        pairs = {"train": ("x", "y")}
    if not pairs:
        expected = "arrays x_train, y_train, x_test, y_test, or x and y"
        raise invalid(
            f"{'folder' if path.is_dir() else 'file'} {str(path)!r}", expected, ", ".join(arrays) or "no array"
        )

    def read(x: str, y: str) -> tuple[np.ndarray, np.ndarray]:
        try:
            return arrays[x](), arrays[y]()
        except Exception as error:  # a damaged or a pickled array: zlib, zipfile and NumPy have an error each
            raise invalid(f"file {str(path)!r}", f"readable {x} and {y}", error) from error

    return Source({split: functools.partial(read, *pair) for split, pair in pairs.items()}, digest=digest)


def _decoded(path: Tensor) -> Tensor:
    """Returns the picture of a file as a viewer shows it, without transparency."""
    encoded = tf.io.read_file(path)
    image = upright(tf.io.decode_image(encoded, expand_animations=False), encoded)
    image.set_shape((None, None, None))
    return image[..., : tf.where(tf.shape(image)[-1] >= 3, 3, 1)]


def _image_and_label(name: str, info: Any) -> tuple[str, str]:
    from tensorflow_datasets import features

    found = dict(info.features.items()) if isinstance(info.features, features.FeaturesDict) else {}
    keys = info.supervised_keys or ("image", "label")
    wanted = (features.Image, features.ClassLabel)
    if len(keys) == 2 and all(isinstance(found.get(key), kind) for key, kind in zip(keys, wanted, strict=True)):
        return keys
    expected = "an image classification, which has an image and a class label"
    raise invalid(f"data set {name!r}", expected, f"features {', '.join(found) or info.features}")


@functools.lru_cache(maxsize=8)  # every split of the same data asks again
def _of_tfds(directory: str, split: str, image: str, label: str) -> tuple[Pictures, np.ndarray]:
    import tensorflow_datasets
    from tensorflow_datasets import decode

    builder = tensorflow_datasets.builder_from_directory(directory)
    stored, features = builder.info.splits[split], builder.info.features
    # One pass without decoding tells the labels, and where each example of this order is stored.
    with tf.device("CPU:0"):
        examples = builder.as_dataset(
            split=split,
            decoders={image: decode.SkipDecoding()},
            read_config=tensorflow_datasets.ReadConfig(add_tfds_id=True),
        ).map(lambda example: (example[label], example["tfds_id"]))
        labels, ids = map(np.concatenate, zip(*examples.batch(4096).as_numpy_iterator(), strict=True))
    before = dict(zip(stored.filenames, np.cumsum([0, *stored.shard_lengths]).tolist(), strict=False))
    places = [(name, int(index)) for name, _, index in (os.fsdecode(found).rpartition("__") for found in ids)]
    numbers = np.array([before[name] + index for name, index in places], np.int64)
    record = files.RECORDS[builder.info.file_format.value](list(map(str, stored.filepaths)))
    alone = decode.PartialDecoding({image: True}).extract_features(features)

    def decoded(number: Tensor) -> Tensor:
        serialized = tf.numpy_function(record, [number], tf.string)
        return alone.deserialize_example(tf.ensure_shape(serialized, ()))[image]

    return Pictures(numbers, decoded, features[image].shape, ids, f"{directory} {split}"), labels
