import functools
import importlib
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from export.pictures import decode
from tfrobust.data import info, load

sources = importlib.import_module("tfrobust.data.sources")
splits = importlib.import_module("tfrobust.data.splits")

SHARED = Path(__file__).parents[2].parent / "shared"


def everything(name, split, **options):
    batches = [(x.numpy(), y.numpy()) for x, y in load(name, split, shuffle=False, **options)]
    return tuple(map(np.concatenate, zip(*batches, strict=True)))


def images(count, shape=(4, 4), dtype="uint8", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (count, *shape))
    return x.astype("uint8") if dtype == "uint8" else (x / 255).astype(dtype)


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "d.npz", **arrays)
        return f"npz:{tmp_path / 'd.npz'}"

    return save


@pytest.fixture
def write(tmp_path):
    """Writes PNG files `{"train/cat": images}` and gives the name of the folder."""

    def write(folders):
        for folder, pictures in folders.items():
            (tmp_path / folder).mkdir(parents=True)
            for number, picture in enumerate(pictures):
                tf.io.write_file(str(tmp_path / folder / f"{number:03}.png"), tf.io.encode_png(picture))
        return f"folder:{tmp_path}"

    return write


@pytest.fixture
def tfds_in(monkeypatch):
    """Lets TFDS look in another folder; it reads TFDS_DATA_DIR only when it is imported."""

    def look(folder):
        monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(folder))

    return look


# npz


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 5, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "float16"])
def test_npz_as_keras_writes_it(save, shape, dtype):
    x, y = images(50, shape, dtype), np.arange(50) % 5
    name = save(x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    expected = (x / np.float32(255) if dtype == "uint8" else x).astype("float32").reshape(50, *(*shape, 1)[:3])
    test_x, test_y = everything(name, "test")
    assert (test_x == expected[40:]).all() and (test_y == y[40:]).all()
    train_x, _ = everything(name, "train", validation=0)
    assert (train_x == expected[:40]).all()
    assert info(name).sizes == {"train": 36, "validation": 4, "test": 10}


@pytest.mark.parametrize(
    "spell", [lambda y: y, lambda y: y[:, None], lambda y: np.eye(5)[y], lambda y: y.astype("int8")]
)
def test_labels_in_every_spelling(save, spell):
    y = np.arange(50) % 5
    name = save(x_train=images(50), y_train=spell(y), x_test=images(50), y_test=spell(y))
    assert (everything(name, "test")[1] == y).all()
    assert info(name).classes == 5


def test_one_hot_labels_tell_of_classes_without_an_image(save):
    y = np.eye(9)[np.arange(50) % 5]
    assert info(save(x=images(50), y=y)).classes == 9


def test_integers_of_another_type_are_0_to_255(save):
    x = images(50)
    name = save(x_train=x.astype("int64"), y_train=np.arange(50) % 5, x_test=x, y_test=np.arange(50) % 5)
    assert (everything(name, "train", validation=0)[0] == everything(name, "test")[0]).all()


def test_npz_with_its_own_validation_uses_it(save):
    x, y = images(90), np.arange(90) % 3
    name = save(x_train=x, y_train=y, x_validation=x[:6], y_validation=y[:6], x_test=x[:9], y_test=y[:9])
    assert info(name).sizes == {"train": 90, "validation": 6, "test": 9}
    assert len(everything(name, "validation", validation=0)[1]) == 6


def test_uint8_stays_uint8_in_memory(save):
    for array, dtype in ((images(20), np.uint8), (images(20, dtype="float16"), np.float16)):
        name = save(x=array, y=np.arange(20) % 2)
        stored = splits.Splits(name, sources.find(name), 0.1, None).get("train")
        assert stored.x.dtype == dtype and stored.y.dtype == np.int32


def test_image_size_resizes(save):
    x = np.repeat(np.repeat(images(20, (4, 6)), 2, axis=1), 2, axis=2)
    name = save(x=x, y=np.arange(20) % 2)
    assert info(name, image_size=(4, 6)).input_shape == (4, 6, 1)
    small, _ = everything(name, "test", image_size=(4, 6))
    large, _ = everything(name, "test")
    # A window of the antialiasing triangle reaches into the neighbours, so: close to the mean, and never outside.
    assert np.abs(small - large[:, ::2, ::2]).mean() < 0.25 and small.min() >= 0 and small.max() <= 1
    flat = save(x=np.full((20, 8, 8), 77, "uint8"), y=np.arange(20) % 2)
    assert (everything(flat, "test", image_size=(3, 5))[0] == np.float32(77) / np.float32(255)).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": images(50, dtype="float32") * 2}, r"expected floats in \[0, 1\]. Received: float32 pixels from 0.0 to"),
        ({"x": images(50, dtype="float32") - 0.5}, "Received: float32 pixels from -0.5"),
        ({"x": images(50).astype("int32") * 2}, "expected integers in 0..255. Received: int32 pixels"),
        ({"x": np.where(images(50) > 250, np.nan, 0.5)}, "expected finite pixels"),
        ({"x": np.where(images(50) > 250, np.inf, 0.5)}, "expected finite pixels"),
        ({"x": images(50) > 9}, "expected uint8 in 0..255 or floats.*Received: dtype bool"),
        ({"x": images(50, (3, 8, 8))}, "expected channels last.*Received: shape .50, 3, 8, 8."),
        ({"x": images(50, (1, 8, 8))}, "expected channels last"),
        ({"x": images(50, (16,))}, r"expected shape \(N, H, W\) or \(N, H, W, C\). Received: \(50, 16\)"),
        ({"x": images(50, (2, 2, 2, 2))}, "expected shape"),
        ({"x": images(0), "y": np.arange(0)}, "expected at least one image"),
        ({"x": images(50, (0, 4))}, "expected at least one image"),
        ({"y": np.arange(49) % 5}, "expected one for each of the 50 images.*Received: shape .49,."),
        ({"y": np.arange(50) % 5 / 2}, "expected integers. Received: dtype float64"),
        ({"y": np.array(["a", "b"] * 25)}, "expected integers. Received: dtype <U1"),
        ({"y": np.arange(50) % 5 - 1}, r"expected integers in \[0, 4\). Received: labels from -1 to 3"),
        ({"y": np.full((50, 4), 0.25)}, "soft labels are not supported"),
        ({"y": np.zeros((50, 4))}, "expected .* one-hot"),
        ({"y": np.zeros((50, 0))}, "expected one for each"),
        ({"y": np.zeros((50, 2, 2))}, "expected one for each"),
        ({"y": np.zeros(50, int)}, "expected at least 2 classes. Received: 1"),
        ({"y": np.array([object()] * 50)}, "expected readable x and y"),
    ],
)
def test_bad_arrays_are_refused_in_words(save, changed, message):
    name = save(**{"x": images(50), "y": np.arange(50) % 5, **changed})
    with pytest.raises(ValueError, match=message):
        load(name)


def test_test_labels_must_be_classes_of_train(save):
    name = save(x_train=images(9), y_train=np.arange(9) % 3, x_test=images(9), y_test=np.arange(9))
    with pytest.raises(ValueError, match=r"\(test\): expected integers in \[0, 3\). Received: labels from 0 to 8"):
        load(name, "test")


def test_npz_files_that_are_none(save, tmp_path):
    with pytest.raises(ValueError, match=r"expected arrays x_train, .* Received: a, x_train"):
        load(save(a=images(5), x_train=images(5)))
    with pytest.raises(ValueError, match="Received: no array"):
        load(save())
    (tmp_path / "text.npz").write_text("no")
    with pytest.raises(ValueError, match=r"expected NumPy's .npz format"):
        load(f"npz:{tmp_path / 'text.npz'}")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "d.npz").read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"expected NumPy's .npz format"):
        load(f"npz:{tmp_path / 'cut.npz'}")
    np.save(tmp_path / "one.npy", images(5))
    with pytest.raises(ValueError, match=r"several named arrays"):
        load(f"npz:{tmp_path / 'one.npy'}")
    with pytest.raises(FileNotFoundError, match=r"Received: '.*absent.npz'"):
        load(f"npz:{tmp_path / 'absent.npz'}")
    with pytest.raises(ValueError, match="expected 'npz:FILE'"):
        load("npz:")


def test_a_data_set_too_small_to_share_says_so(save):
    name = save(x=images(2), y=np.arange(2))
    with pytest.raises(ValueError, match="expected at least one image for 'test'"):
        load(name, "test")


# folder


def test_folder_with_train_and_test(write):
    cats, dogs = images(6, (5, 4, 3)), images(4, (5, 4, 3), seed=1)
    name = write({"train/cat": cats, "train/dog": dogs, "test/cat": cats[:1], "test/dog": dogs[:2]})
    about = info(name, validation=0.2)
    assert about.input_shape == (5, 4, 3) and about.class_names == ("cat", "dog")
    assert about.sizes == {"train": 8, "validation": 2, "test": 3}
    x, y = everything(name, "test")
    assert (x == np.concatenate([cats[:1], dogs[:2]]) / np.float32(255)).all() and (y == [0, 1, 1]).all()


def test_folder_with_its_own_validation(write):
    name = write({f"{s}/{c}": images(4, (4, 4, 1)) for s in ("train", "validation", "test") for c in "ab"})
    assert info(name).sizes == {"train": 8, "validation": 8, "test": 8}
    assert info(name).input_shape == (4, 4, 1)


def test_folder_of_classes_gives_up_a_fifth_for_test(write):
    name = write({"a": images(20, (4, 4, 1)), "b": images(30, (4, 4, 1), seed=1)})
    assert info(name, validation=0).sizes == {"train": 40, "test": 10}
    assert (np.bincount(everything(name, "test")[1]) == [4, 6]).all()


def test_gray_images_among_coloured_ones_and_transparent_ones(write):
    gray = images(2, (4, 4, 1))
    name = write({"test/a": [*gray, images(1, (4, 4, 2))[0]], "test/b": images(3, (4, 4, 4))})
    x, _ = everything(name, "test")
    assert x.shape == (6, 4, 4, 3)
    assert (x[:2] == gray / np.float32(255)).all()
    assert (x[3:] == images(3, (4, 4, 4))[..., :3] / np.float32(255)).all()


def test_folder_of_images_of_different_sizes(write):
    name = write({"a": images(5, (4, 4, 3)), "b": images(5, (6, 5, 3))})
    with pytest.raises(
        ValueError, match=r"image_size=\(height, width\).*Received: images of sizes \(4, 4\) and \(6, 5\)"
    ):
        load(name)
    assert info(name, image_size=(4, 4)).input_shape == (4, 4, 3)
    x, y = everything(name, "train", image_size=(4, 4), validation=0)
    assert x.min() >= 0 and x.max() <= 1 and (np.bincount(y) == [4, 4]).all()


def test_photos_are_turned_as_the_export_turns_them(tmp_path):
    """A classifier that learns from photos sees them as `predict_bytes` will show them."""
    pixels = np.kron(images(1, (2, 3, 3))[0], np.ones((16, 16, 1), "uint8"))
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera held upright
    files = [tmp_path / "test" / name / "photo.jpg" for name in "ab"]
    for file in files:
        file.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(file, exif=exif, quality=95, subsampling=0)
    x, _ = everything(f"folder:{tmp_path}", "test")
    assert x.shape == (2, 48, 32, 3)
    served = tf.function(decode)(tf.constant([file.read_bytes() for file in files]), (48, 32, 3))
    np.testing.assert_array_equal(x, served / np.float32(255))
    np.testing.assert_allclose(x[0], np.rot90(pixels, -1) / 255, atol=0.1)


def test_folders_that_are_none(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Received: '.*absent'"):
        load(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(ValueError, match="No images found"):
        load(f"folder:{tmp_path}")
    name = write({"train/a": images(2, (4, 4, 1)), "train/b": images(2, (4, 4, 1)), "test/a": images(2, (4, 4, 1))})
    with pytest.raises(ValueError, match=r"expected the classes of the other splits, \['a', 'b'\]. Received: \['a'\]"):
        load(name)
    (tmp_path / "test" / "b").mkdir()
    (tmp_path / "test" / "b" / "no.png").write_text("no")
    with pytest.raises(ValueError, match=r"Received: 1 of 3 that cannot: .*no.png"):
        load(name, "test")


# data that stay in their files


@pytest.fixture
def everywhere(save, write, tfds_in, tmp_path):
    """The same 40 images in every kind of source."""
    pictures = images(40, (6, 5, 3))

    @functools.cache
    def find(kind):
        if kind == "npz":
            return save(x=pictures, y=np.arange(40) % 2)
        if kind == "npy":
            np.save(tmp_path / "x.npy", pictures)
            np.save(tmp_path / "y.npy", np.arange(40) % 2)
            return f"npy:{tmp_path}"
        if kind == "folder":
            return write({"ant": pictures[::2], "bee": pictures[1::2]})
        prepare(tmp_path, "in_files", pictures, (6, 5, 3), "train")
        tfds_in(tmp_path)
        return "in_files"

    return find


KINDS = ("npz", "npy", "folder", "tfds")


@pytest.mark.parametrize(("kind", "image_size"), [("npz", (3, 4)), ("npy", None), ("folder", (3, 4)), ("tfds", None)])
def test_images_in_files_give_the_batches_of_images_in_memory(everywhere, kind, image_size):
    options = {"batch_size": 7, "augment": {"pad": 1}, "image_size": image_size, "seed": 3}
    in_memory, in_files = (load(everywhere(kind), cache=cache, **options) for cache in (True, False))
    for _ in range(2):
        for (x, y), (x_file, y_file) in zip(in_memory, in_files, strict=True):
            assert (x.numpy() == x_file.numpy()).all() and (y.numpy() == y_file.numpy()).all()


def test_an_epoch_of_images_in_files_begins_without_the_epochs_before(everywhere):
    name = everywhere("folder")
    whole, later = load(name, cache=False, batch_size=8), load(name, cache=False, batch_size=8, first_epoch=2)
    epochs = [[x.numpy() for x, _ in whole] for _ in range(3)]
    assert all((a == b.numpy()).all() for a, (b, _) in zip(epochs[2], later, strict=True))
    assert not (epochs[2][0] == epochs[1][0]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_are_those_that_were_stored(everywhere, kind):
    pictures = images(40, (6, 5, 3))
    stored = {picture.tobytes(): number % 2 for number, picture in enumerate(pictures)}
    x, y = everything(everywhere(kind), "train", cache=False, validation=0)
    assert len(x) == 32
    for pixels, label in zip(np.rint(x * 255).astype("uint8"), y, strict=True):
        assert stored[pixels.tobytes()] == label


def test_arrays_in_files_are_mapped_and_not_read(tmp_path):
    """A billion pixels of zeros take no room on the disk, and reading them would take 1 GB of memory."""
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (10_000, 320, 320, 1)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 10_000 * 320 * 320)
    np.save(tmp_path / "y.npy", np.arange(10_000) % 10)
    before = resident()
    data = load(f"npy:{tmp_path}", cache=False)
    assert sum(len(y) for _, y in data.take(3)) == 3 * 128
    assert resident() - before < 400


def resident():
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_broken_files_are_counted_and_named_or_left_out(write, tmp_path):
    name = write({"train/a": images(9, (4, 4, 1)), "train/b": images(9, (4, 4, 1)), "test/a": [], "test/b": []})
    for file in ("a/003", "b/001"):
        path = tmp_path / "train" / f"{file}.png"
        path.write_bytes(path.read_bytes()[:-20])  # cut off
    write({"test/a/more": images(1, (4, 4, 1)), "test/b/more": images(1, (4, 4, 1))})
    with pytest.raises(ValueError, match=r"Received: 2 of 18 that cannot: .*a/003.png, .*b/001.png"):
        load(name)
    assert len(everything(name, "test")[1]) == 2  # a whole split is not concerned
    about = info(name, on_error="skip", validation=0)
    assert about.sizes == {"train": 16, "test": 2}
    assert [Path(file).name for file in about.skipped] == ["003.png", "001.png"]
    for cache in (True, False):
        assert len(everything(name, "train", on_error="skip", validation=0, cache=cache)[1]) == 16
    with pytest.raises(ValueError, match=r"`on_error`: expected 'raise' or 'skip'. Received: 'ignore'"):
        load(name, on_error="ignore")


@pytest.mark.parametrize("change", ["removed", "cut", "another size"])
def test_a_folder_that_changes_while_it_is_read_names_the_file(write, tmp_path, change):
    name = write({"train/a": images(9, (4, 4, 1)), "train/b": images(9, (4, 4, 1))})
    data = load(name, cache=False, validation=0)
    path = tmp_path / "train" / "a" / "004.png"
    if change == "removed":
        path.unlink()
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        tf.io.write_file(str(path), tf.io.encode_png(images(1, (5, 5, 1))[0]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Received: 1 that cannot: .*a/004.png"):
        list(data)


def test_the_digest_of_data_tells_whether_they_changed(write, tmp_path):
    name = write({"train/a": images(9, (4, 4, 1)), "train/b": images(9, (4, 4, 1))})
    before = info(name).digest
    assert info(name).digest == before
    (tmp_path / "train" / "b" / "008.png").rename(tmp_path / "train" / "b" / "other.png")
    assert info(name).digest != before


# names, and TensorFlow Datasets


def test_unknown_names_offer_the_nearest():
    with pytest.raises(
        ValueError, match=r"Unknown data set.*digits.*npz:FILE.*Received: 'mnits'. Did you mean 'mnist'"
    ):
        load("mnits")
    with pytest.raises(ValueError, match=r"'digts'. Did you mean 'digits'"):
        load("digts")
    with pytest.raises(ValueError, match=r"Unknown data set.*Received: 'no name'"):
        load("no name")
    with pytest.raises(ValueError, match=r"expected one that TFDS knows. Received: 'cifar10_corrupted/snwo'"):
        load("cifar10_corrupted/snwo")
    with pytest.raises(ValueError, match=r"expected an image classification.*Received: features"):
        load("imdb_reviews")
    for name in ("", None, 3):
        with pytest.raises(ValueError, match="expected a name such as"):
            load(name)
    with pytest.raises(ValueError, match=r"expected 'digits'. Received: 'digits:8'"):
        load("digits:8")


def test_a_download_that_fails_says_what_was_expected(monkeypatch, tfds_in, tmp_path):
    import tensorflow_datasets as tfds

    def offline(self, *args, **kwargs):
        raise ConnectionError("no route to host")

    tfds_in(tmp_path)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", offline)
    with pytest.raises(OSError, match=r"could not prepare 'mnist'.*TFDS_DATA_DIR.*ConnectionError: no route to host"):
        load("mnist")


def test_mnist(tfds_in):
    if not (SHARED / "tfds" / "mnist").is_dir():
        pytest.skip("needs a prepared MNIST in ../shared/tfds")
    tfds_in(SHARED / "tfds")
    about = info("mnist")
    assert about.input_shape == (28, 28, 1) and about.classes == 10
    assert about.sizes == {"train": 54000, "validation": 6000, "test": 10000}
    x, y = next(iter(load("mnist", augment={"pad": 2, "flip": False})))
    assert x.shape == (128, 28, 28, 1) and x.dtype == tf.float32 and y.dtype == tf.int32
    _, y = everything("mnist", "test")
    assert np.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_cifar10(tfds_in):
    if not (SHARED / "tfds_cifar10_subset" / "cifar10").is_dir():
        pytest.skip("needs a prepared part of CIFAR-10 in ../shared/tfds_cifar10_subset")
    tfds_in(SHARED / "tfds_cifar10_subset")
    about = info("cifar10")
    assert about.input_shape == (32, 32, 3) and about.classes == 10
    assert sum(about.sizes[s] for s in ("train", "validation")) == 8336 and about.sizes["test"] == 1017
    counts = [np.bincount(everything("cifar10", s)[1], minlength=10) for s in ("train", "validation")]
    assert np.abs(counts[1] / sum(counts) - 0.1).max() < 0.005


def prepare(folder, name, pictures, shape, split):
    import tensorflow_datasets as tfds

    def examples():
        yield from ({"image": picture, "label": i % 2} for i, picture in enumerate(pictures))

    signature = {"image": tf.TensorSpec((None, None, 3), tf.uint8), "label": tf.TensorSpec((), tf.int64)}
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        data_dir=folder,
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=shape), "label": tfds.features.ClassLabel(names=["ant", "bee"])}
        ),
        split_datasets={split: tf.data.Dataset.from_generator(examples, output_signature=signature)},
    )


@pytest.mark.parametrize("sizes", [[(8, 8)], [(8, 8), (6, 9)]])
def test_any_prepared_data_set_of_tfds(tfds_in, tmp_path, sizes):
    """With images of one size, and of several; with a test split alone, as the corrupted CIFAR-10."""
    shape = (*sizes[0], 3) if len(sizes) == 1 else (None, None, 3)
    pictures = [images(1, (*sizes[i % len(sizes)], 3), seed=i)[0] for i in range(12)]
    prepare(tmp_path, "made_up", pictures, shape, "test")
    tfds_in(tmp_path)
    if len(sizes) > 1:
        with pytest.raises(ValueError, match="image_size"):
            load("made_up", "test")
    about = info("made_up", image_size=(8, 8))
    assert about.class_names == ("ant", "bee") and about.sizes == {"test": 12} and about.input_shape == (8, 8, 3)
    x, y = everything("made_up", "test", image_size=(8, 8))
    whole = {p.tobytes(): i % 2 for i, p in enumerate(pictures) if p.shape == (8, 8, 3)}
    read = [(image.tobytes(), label) for image, label in zip(np.rint(x * 255).astype("uint8"), y, strict=True)]
    found = [(whole[key], label) for key, label in read if key in whole]
    assert len(found) == len(whole) and all(a == b for a, b in found)
    with pytest.raises(ValueError, match=r"Invalid split of 'made_up': expected 'test'. Received: 'train'"):
        load("made_up")


def test_a_data_set_of_tfds_without_a_known_split(tfds_in, tmp_path):
    prepare(tmp_path, "odd", images(4, (8, 8, 3)), (8, 8, 3), "full")
    tfds_in(tmp_path)
    for read in (load, info):
        with pytest.raises(ValueError, match=r"expected a split 'train' or 'validation' or 'test'. Received: full"):
            read("odd")
