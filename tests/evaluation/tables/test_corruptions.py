"""Corruptions: bounds, severities, randomness by image; stored copies of CIFAR-10; tables as files."""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrobust
from tfrobust.evaluation import Table
from tfrobust.evaluation.tables import corrupt, corruptions, noise
from tfrobust.evaluation.tables.corrupt import KINDS, SEVERITIES

RANDOM = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur", "fog", "elastic")
SHAPES = ((28, 28, 1), (32, 32, 3))


def pictures(count, shape, seed=0):
    """Smooth images with some texture, from black to white."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 4, 4, shape[-1])).astype("float32")
    x = np.array(ops.image.resize(coarse, shape[:2], interpolation="bicubic")) + 0.1 * rng.normal(size=(count, *shape))
    axes = (1, 2, 3)
    return ((x - x.min(axes, keepdims=True)) / np.ptp(x, axis=axes, keepdims=True)).astype("float32")


def reader(shape, classes=3):
    """A classifier whose class is how bright the image is: below 1/3, between, above 2/3 of the range."""
    inputs = keras.Input(shape)
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Flatten()(inputs)[:, None, :, None])
    dense = keras.layers.Dense(classes)
    model = keras.Model(inputs, {"logits": dense(mean)})
    middles = (np.arange(classes) + 0.5) / classes  # -(m - c)^2 without m^2
    dense.set_weights([2 * middles[None].astype("float32"), -np.square(middles).astype("float32")])
    return model


def flat(values, shape=(8, 8, 1)):
    return np.broadcast_to(np.reshape(values, (-1, 1, 1, 1)), (len(values), *shape)).astype("float32")


@pytest.mark.parametrize("shape", [SHAPES[0], pytest.param(SHAPES[1], marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_severities_distort_more_and_more_within_the_bounds(kind, shape):
    x = pictures(8, shape)
    moved = [np.asarray(corrupt(x, kind, severity)) for severity in SEVERITIES]
    assert all(z.shape == x.shape and z.dtype == x.dtype and z.min() >= 0 and z.max() <= 1 for z in moved)
    distances = [np.sqrt(np.square(z - x).mean(axis=(1, 2, 3))).mean() for z in moved]
    assert distances[0] > 1e-4
    assert (np.diff(distances) > 0).all()


def test_an_image_is_corrupted_alike_in_any_batch_and_scale():
    x = pictures(6, (16, 16, 3))
    for kind in KINDS:
        whole = np.asarray(corrupt(x, kind, 3, seed=5))
        np.testing.assert_array_equal(whole, corrupt(x, kind, 3, seed=5))
        part = corrupt(x[4:], kind, 3, seed=5, numbers=np.arange(4, 6))
        np.testing.assert_allclose(part, whole[4:], atol=1e-6)
        wide = corrupt(2 * x - 1, kind, 3, seed=5, bounds=(-1.0, 1.0))
        # The pixel range says what is black. Counts and thresholds jump where rounding moves their argument.
        assert np.isclose(wide, 2 * whole - 1, atol=1e-4).mean() > 0.99
        another = np.asarray(corrupt(x, kind, 3, seed=6))
        assert (kind in RANDOM) == bool((another != whole).any())


def test_kinds_that_are_written_in_one_line_are_that_line():
    x = pictures(2, (8, 8, 3))
    np.testing.assert_allclose(corrupt(x, "brightness", 3), np.clip(x + 0.15, 0, 1), atol=1e-6)
    mean = x.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(corrupt(x, "contrast", 2), mean + 0.5 * (x - mean), atol=1e-6)
    drawn = np.asarray(corrupt(x, "impulse_noise", 5))
    assert set(np.unique(drawn[drawn != x])) <= {0.0, 1.0}
    halves = np.asarray(corrupt(pictures(1, (20, 20, 1)), "pixelate", 5))[0, :, :, 0]  # 9 cells along a side
    assert len(np.unique(halves)) <= 81


@pytest.mark.parametrize("kind", ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "elastic", "pixelate"])
def test_what_moves_or_averages_pixels_leaves_an_even_image(kind):
    x = flat([0.2, 0.7])
    np.testing.assert_allclose(corrupt(x, kind, 5), x, atol=1e-5)


def test_blurs_of_a_point_are_their_kernels():
    x = np.zeros((1, 15, 15, 1), "float32")
    x[0, 7, 7] = 1
    offsets = np.arange(-7, 8)
    squares = offsets[:, None] ** 2 + offsets**2
    near = slice(4, 11)  # three standard deviations
    gauss = np.exp(-squares / 2)[near, near]
    np.testing.assert_allclose(corrupt(x, "gaussian_blur", 5)[0, near, near, 0], gauss / gauss.sum(), atol=1e-6)
    disk = np.clip(2.5 - np.sqrt(squares), 0, 1)
    np.testing.assert_allclose(corrupt(x, "defocus_blur", 5)[0, ..., 0], disk / disk.sum(), atol=1e-6)


def test_shot_noise_has_the_mean_and_variance_of_counts():
    x = np.full((1, 64, 64, 3), 0.5, "float32")
    z = np.asarray(corrupt(x, "shot_noise", 5))
    assert z.mean() == pytest.approx(0.5, abs=0.005)
    assert z.var() == pytest.approx(0.5 / 50, rel=0.1)


def test_a_table_has_every_kind_and_severity_and_their_means():
    x = flat([0.1, 0.3, 0.5, 0.62, 0.9])
    y = np.array([0, 0, 1, 1, 2])
    table = corruptions(reader((8, 8, 1)), (x, y), ["brightness", "gaussian_blur"], [1, 3, 5], verbose=False)
    assert table.rows == ("clean", "brightness", "gaussian_blur", "mean")
    assert table.columns == ("1", "3", "5", "mean")
    np.testing.assert_allclose(table.figures[0], 1)
    # Brighter by 0.05, 0.15 and 0.3: 0.3 leaves its third in all, 0.62 in all, 0.1 in the last and 0.5 in the last.
    np.testing.assert_allclose(table.figures[1], [0.6, 0.6, 0.2, 7 / 15])
    np.testing.assert_allclose(table.figures[2], 1)
    np.testing.assert_allclose(table.figures[3], [0.8, 0.8, 0.6, 11 / 15])
    assert table.images == 5 and "not CIFAR-10-C" in table.notes[0]


def test_figures_do_not_depend_on_the_batch_size():
    x, y = pictures(10, (8, 8, 1)), np.arange(10) % 3
    tables = [corruptions(reader((8, 8, 1)), (x, y), list(RANDOM), [5], batch_size=b, verbose=False) for b in (3, 10)]
    assert tables[0] == tables[1]


def test_cifar10_by_its_name_is_read_from_the_stored_copies(monkeypatch):
    x, y = flat([0.1, 0.5, 0.9]), np.array([0, 1, 2])
    asked = []

    def load(name, split, *, batch_size):
        asked.append((name, split))
        images = np.minimum(x + 0.3 * ("fog" in name) * int(name[-1] == "5"), 1)
        return tf.data.Dataset.from_tensors((images.astype("float32"), y))

    monkeypatch.setattr(tfrobust.data, "load", load)
    table = corruptions(reader((8, 8, 1)), "cifar10", ["fog", "frost"], [1, 5], verbose=False)
    stored = [f"cifar10_corrupted/{kind}_{severity}" for kind in ("fog", "frost") for severity in (1, 5)]
    assert asked == [("cifar10", "test"), *((name, "test") for name in stored)]
    np.testing.assert_allclose([table["fog", "1"], table["fog", "5"], table["frost", "mean"]], [1, 1 / 3, 1])
    assert table.notes == ("CIFAR-10-C.",)
    asked.clear()
    corruptions(reader((8, 8, 1)), "digits", ["contrast"], [1], verbose=False)
    assert asked == [("digits", "test")]


def test_the_names_of_cifar_10_c_are_those_of_tensorflow_datasets():
    from tensorflow_datasets.image_classification import cifar10_corrupted as stored

    module = importlib.import_module("tfrobust.evaluation.tables.corruptions")  # the function has the module's name
    assert sorted(module.CIFAR_10_C) == sorted(stored.BENCHMARK_CORRUPTIONS)
    assert sorted(module.EXTRA) == sorted(stored.EXTRA_CORRUPTIONS)
    assert "cifar10_corrupted/fog_1" in {
        f"cifar10_corrupted/{name}" for name in stored.Cifar10Corrupted.builder_configs
    }
    assert set(KINDS) <= {*module.CIFAR_10_C, *module.EXTRA}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kinds": ["mist"]}, r"^Unknown kind of corruption: expected one of brightness, .*Received: 'mist'"),
        ({"kinds": "fog"}, r"^Invalid value for `kinds`: expected a list of names"),
        ({"kinds": []}, r"^Invalid value for `kinds`"),
        ({"severities": [0]}, r"^Invalid value for `severities`: expected integers from 1 to 5"),
        ({"severities": []}, r"^Invalid value for `severities`"),
        ({"bounds": (0.0, 0.5)}, r"range|bounds|within|\[0"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        corruptions(reader((8, 8, 1)), (flat([0.1, 0.9]), np.array([0, 2])), verbose=False, **options)


def test_what_cannot_be_corrupted_is_refused():
    with pytest.raises(ValueError, match=r"^Unknown kind of corruption: .*Did you mean 'fog'"):
        corrupt(flat([0.5]), "fogg", 1)
    with pytest.raises(
        ValueError, match=r"^Invalid value for `severity`: expected an integer from 1 to 5. Received: 6"
    ):
        corrupt(flat([0.5]), "fog", 6)
    with pytest.raises(ValueError, match=r"^Invalid shape of x: expected \(batch, H, W, C\). Received: \(8, 8, 1\)"):
        corrupt(flat([0.5])[0], "fog", 1)


# Random noise


def test_noise_within_eps_fools_nobody_who_is_further_from_the_border():
    x, y = flat([0.1, 0.5, 0.9]), np.array([0, 1, 2])  # the nearest border is 1/6 away
    table = noise(reader((8, 8, 1)), (x, y), [0.05, 0.15], draws=4, verbose=False)
    assert table.rows == ("uniform mean", "uniform worst of 4", "gaussian mean", "gaussian worst of 4")
    assert table.columns == ("clean", "0.05", "0.15")
    np.testing.assert_allclose(table.figures, 1)


def test_the_worst_of_draws_is_no_better_than_their_mean_and_falls_with_more():
    x, y = pictures(30, (6, 6, 1)), np.arange(30) % 3
    one, many = (noise(reader((6, 6, 1)), (x, y), [0.3], ["gaussian"], draws=n, verbose=False) for n in (1, 20))
    assert one["gaussian mean", "0.3"] == one["gaussian worst of 1", "0.3"]
    assert many["gaussian worst of 20", "0.3"] < many["gaussian mean", "0.3"]
    assert many["gaussian worst of 20", "0.3"] <= one["gaussian worst of 1", "0.3"]  # the first draw is one of them
    again = noise(reader((6, 6, 1)), (x, y), [0.3], ["gaussian"], draws=20, batch_size=7, verbose=False)
    assert again == many


def test_wrong_noise_is_refused():
    data = flat([0.5]), np.array([1])
    for options, match in (
        ({"kinds": ["salt"]}, r"^Unknown kind of noise: expected one of gaussian, uniform. Received: 'salt'"),
        ({"draws": 0}, r"^Invalid value for `draws`: expected an integer of at least 1. Received: 0"),
        ({"eps": []}, r"^Invalid value for `eps`: expected at least one size"),
        ({"eps": [8]}, r"^Invalid value for `eps`: expected at most the pixel range"),
    ):
        with pytest.raises(ValueError, match=match):
            noise(reader((8, 8, 1)), data, verbose=False, **options)


# Tables


def test_a_table_is_the_same_after_a_file(tmp_path):
    table = corruptions(reader((8, 8, 1)), (flat([0.1, 0.9]), np.array([0, 2])), ["contrast"], [2], verbose=False)
    table.save(tmp_path / "tables" / "corruptions.json")
    loaded = Table.load(tmp_path / "tables" / "corruptions.json")
    assert loaded == table and str(loaded) == str(table)
    assert "contrast" in str(table) and "100.00" in str(table)
    assert table.flat()["contrast 2"] == 1.0
    (tmp_path / "other.json").write_text('{"rows": 3}')
    with pytest.raises(ValueError, match=r"^Invalid table: expected a file that Table.save wrote"):
        Table.load(tmp_path / "other.json")
    with pytest.raises(FileNotFoundError):
        Table.load(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"^Unknown row: expected one of clean, contrast, mean. Received: 'fog'"):
        table["fog", "2"]
    with pytest.raises(ValueError, match=r"^Unknown column: expected one of 2, mean. Received: '3'"):
        table["contrast", "3"]
