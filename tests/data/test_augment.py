import numpy as np
import pytest
import tensorflow as tf

from tfrobust.data import Augment, load


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).uniform(0.1, 1, (200, 7, 5, 3)).astype("float32")


def offsets(image, augmented, pad, mirror, fill=0.0):
    """All offsets at which the mirrored or plain image, padded by NumPy, shows the augmented one."""
    height, width = image.shape[:2]
    padded = np.pad(image[:, ::-1] if mirror else image, [(pad, pad), (pad, pad), (0, 0)], constant_values=fill)
    window = [(i, j) for i in range(2 * pad + 1) for j in range(2 * pad + 1)]
    return [(i, j) for i, j in window if (padded[i : i + height, j : j + width] == augmented).all()]


@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_pad_crop_cuts_a_window_from_the_padded_image(x, fill):
    augmented = Augment(pad=2, flip=False, fill=fill)(tf.constant(x), [1, 2]).numpy()
    found = [offsets(a, b, 2, False, fill) for a, b in zip(x, augmented, strict=True)]
    assert all(len(f) == 1 for f in found)
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(np.array([f[0] for f in found]).T), 1)
    assert counts.min() >= 1 and counts.max() <= 24  # 8 expected in each of 25 cells
    assert np.abs(counts.sum(0) - 40).max() < 24 and np.abs(counts.sum(1) - 40).max() < 24


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_rest(x):
    augmented = Augment(pad=0)(tf.constant(x), [1, 2]).numpy()
    mirrored = (augmented == x[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (mirrored | (augmented == x).all(axis=(1, 2, 3))).all()
    assert 70 < mirrored.sum() < 130  # 4 deviations of a fair coin


def test_crop_and_flip_together_and_independent(x):
    augmented = Augment(pad=1)(tf.constant(x), [5, 6]).numpy()
    plain = [offsets(a, b, 1, False) for a, b in zip(x, augmented, strict=True)]
    mirror = [offsets(a, b, 1, True) for a, b in zip(x, augmented, strict=True)]
    assert all(len(p) + len(m) == 1 for p, m in zip(plain, mirror, strict=True))
    for found in (plain, mirror):
        assert {f[0] for f in found if f} == {(i, j) for i in range(3) for j in range(3)}


def test_the_seed_decides(x):
    augment, other = Augment(pad=2), Augment(pad=2)
    assert augment == other and hash(augment) == hash(other)
    first = augment(tf.constant(x), [0, 1]).numpy()
    assert (first == other(tf.constant(x), [0, 1]).numpy()).all()
    assert (first != augment(tf.constant(x), [0, 2]).numpy()).any()
    assert (first != augment(tf.constant(x), [1, 1]).numpy()).any()


def test_nothing_to_do_changes_nothing(x):
    assert (Augment(pad=0, flip=False)(tf.constant(x), [0, 1]).numpy() == x).all()


def test_load_augments_each_image_of_each_batch_by_itself():
    plain = load("digits", "test", batch_size=50)
    augmented = load("digits", "test", batch_size=50, augment=Augment(pad=1, flip=False))
    places = []
    for (x, y), (moved, same_y) in zip(plain, augmented, strict=True):
        assert (y.numpy() == same_y.numpy()).all()
        found = [offsets(a, b, 1, False) for a, b in zip(x.numpy(), moved.numpy(), strict=True)]
        assert all(found)
        places.append([f[0] for f in found])
    assert all(len(set(place)) > 1 for place in places)
    assert len({tuple(place) for place in places}) == len(places)


def test_any_function_of_pixels_and_seed_is_an_augmentation():
    seeds = []

    def negative(x, seed):
        seeds.append(seed.shape)
        return 1 - x

    (x, _), (other, _) = (
        next(iter(load("digits", "test"))),
        next(iter(load("digits", "test", augment=negative))),
    )
    assert (other.numpy() == 1 - x.numpy()).all()
    assert seeds == [(2,)]


def test_a_config_dict_is_a_mapping():
    ml_collections = pytest.importorskip("ml_collections")
    config = ml_collections.ConfigDict({"pad": 1, "flip": False, "fill": 0.25})
    a, b = load("digits", augment=config), load("digits", augment=Augment(pad=1, flip=False, fill=0.25))
    assert (next(iter(a))[0].numpy() == next(iter(b))[0].numpy()).all()


@pytest.mark.parametrize(
    "arguments", [{"pad": -1}, {"pad": 1.5}, {"pad": True}, {"flip": 1}, {"fill": 2}, {"fill": -0.1}, {"fill": "a"}]
)
def test_bad_arguments_are_refused(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(ValueError, match=f"`{name}`: expected .* Received: {value!r}"):
        Augment(**arguments)
