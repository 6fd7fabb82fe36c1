import doctest
import gc
import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust.data import load

SPLITS = ("train", "validation", "test")


@pytest.fixture
def npz(tmp_path):
    """1000 images whose four pixels write out their own number, so that an image says which one it is."""
    numbers = np.arange(1000)
    x = np.stack([numbers // 100, numbers // 10 % 10, numbers % 10, 7 + 0 * numbers], axis=1).astype("uint8")
    np.savez(tmp_path / "d.npz", x=x.reshape(-1, 2, 2), y=numbers % 7)
    return f"npz:{tmp_path / 'd.npz'}"


def read(dataset):
    return [(x.numpy(), y.numpy()) for x, y in dataset]


def numbers(batches):
    x = np.concatenate([x for x, _ in batches])
    digits = np.rint(x.reshape(len(x), 4) * 255).astype(int)
    return digits[:, 0] * 100 + digits[:, 1] * 10 + digits[:, 2]


def same(a, b):
    return len(a) == len(b) and all((p == q).all() and (r == s).all() for (p, r), (q, s) in zip(a, b, strict=True))


def test_digits_have_the_promised_shape_range_and_type():
    for split, count in {"train": 1294, "validation": 144, "test": 359}.items():
        batches = read(load("digits", split, batch_size=100))
        assert sum(len(y) for _, y in batches) == count
        for x, y in batches:
            assert x.shape == (len(y), 8, 8, 1) and x.dtype == np.float32 and y.dtype == np.int32
            assert x.min() == 0 and x.max() == 1
    assert load("digits").element_spec == (
        tf.TensorSpec((None, 8, 8, 1), tf.float32),
        tf.TensorSpec((None,), tf.int32),
    )


def test_the_splits_are_disjoint_complete_stratified_and_do_not_depend_on_the_seed(npz):
    found = {split: numbers(read(load(npz, split, seed=1))) for split in SPLITS}
    assert sorted(np.concatenate(list(found.values()))) == list(range(1000))
    assert [len(found[split]) for split in SPLITS] == [720, 80, 200]
    for split, fraction in {"train": 0.72, "validation": 0.08, "test": 0.2}.items():
        assert set(found[split]) == set(numbers(read(load(npz, split, seed=2, batch_size=7))))
        counts = np.bincount(found[split] % 7)
        assert np.abs(counts - fraction * 1000 / 7).max() <= 2


def test_the_validation_fraction_is_taken_from_train_alone(npz):
    test = numbers(read(load(npz, "test", validation=0.5)))
    assert set(test) == set(numbers(read(load(npz, "test", validation=0))))
    assert len(load(npz, validation=0, batch_size=800)) == 1
    assert numbers(read(load(npz, "validation", validation=0.5))).size == 400


def test_each_pass_is_another_permutation(npz):
    dataset = load(npz)
    first, second = numbers(read(dataset)), numbers(read(dataset))
    assert sorted(first) == sorted(second) == sorted(set(first))
    assert (first != second).mean() > 0.9
    assert (first != np.sort(first)).mean() > 0.9


def test_orders_of_successive_epochs_are_not_correlated(npz):
    dataset = load(npz, validation=0)
    orders = np.array([numbers(read(dataset)) for _ in range(12)])
    correlations = np.corrcoef(np.vstack([np.sort(orders[0]), orders]))[np.triu_indices(13, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(800)  # 78 pairs, each of deviation 1 / sqrt(800)


def test_what_is_not_shuffled_keeps_its_order(npz):
    for dataset in (load(npz, "test"), load(npz, shuffle=False), load(npz, "validation")):
        for _ in range(2):
            order = numbers(read(dataset))
            assert (order == np.sort(order)).all()
    shuffled = numbers(read(load(npz, "test", shuffle=True)))
    assert (shuffled != np.sort(shuffled)).any()


def test_the_seed_decides(npz):
    augment = {"pad": 1, "flip": True}
    assert same(read(load(npz, seed=3, augment=augment)), read(load(npz, seed=3, augment=augment)))
    assert not same(read(load(npz, seed=3)), read(load(npz, seed=4)))
    assert not same(read(load(npz, seed=3)), read(load(npz, seed=-3)))
    fixed = {"shuffle": False, "augment": augment}
    assert not same(read(load(npz, seed=3, **fixed)), read(load(npz, seed=4, **fixed)))


@pytest.mark.parametrize("options", [{}, {"augment": {"pad": 1}}, {"shuffle": False, "augment": {"pad": 1}}])
def test_first_epoch_k_equals_pass_k_plus_1(npz, options):
    dataset = load(npz, batch_size=100, **options)
    passes = [read(dataset) for _ in range(4)]
    for epoch, expected in enumerate(passes):
        assert same(read(load(npz, batch_size=100, first_epoch=epoch, **options)), expected)
    assert not same(passes[0], passes[1])


def test_a_look_at_a_batch_changes_nothing(npz):
    dataset = load(npz, batch_size=100)
    expected = [read(load(npz, batch_size=100, first_epoch=epoch)) for epoch in range(2)]
    for epoch in range(2):
        next(iter(dataset))
        read(dataset.take(7))
        iter(dataset)
        assert same(read(dataset), expected[epoch])


def test_the_dataset_keeps_what_it_needs_alive(npz):
    dataset = load(npz, augment={"pad": 1}).map(lambda x, y: (x, y))
    gc.collect()
    assert len(read(dataset)) == len(read(dataset)) == 6


def test_parallelism_does_not_change_the_batches(npz):
    expected = read(load(npz, batch_size=10, augment={"pad": 1}))
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    assert same(read(load(npz, batch_size=10, augment={"pad": 1}).with_options(options)), expected)
    options = tf.data.Options()
    options.threading.private_threadpool_size = 16
    assert same(read(load(npz, batch_size=10, augment={"pad": 1}).with_options(options)), expected)


@pytest.mark.parametrize(("batch_size", "sizes"), [(720, [720]), (700, [700, 20]), (1000, [720]), (360, [360, 360])])
def test_cardinality_is_known_and_the_last_batch_is_kept(npz, batch_size, sizes):
    for options in ({}, {"shuffle": False}, {"augment": {"pad": 1}}):
        dataset = load(npz, batch_size=batch_size, **options)
        assert [len(y) for _, y in read(dataset)] == sizes
        assert len(dataset) == len(sizes)


def test_fit_sees_one_epoch_after_the_other(npz):
    class Recorder(keras.Model):
        def train_step(self, data):
            tf.py_function(lambda y: seen.append(y.numpy()), [data[1]], [])
            return {"loss": tf.constant(0.0)}

    seen = []
    model = Recorder(inputs=(inputs := keras.Input((2, 2, 1))), outputs=keras.layers.Flatten()(inputs))
    model.compile()
    model.fit(load(npz, batch_size=300), epochs=3, verbose=0, shuffle=False)
    expected = [y for epoch in range(3) for _, y in read(load(npz, batch_size=300, first_epoch=epoch))]
    assert len(seen) == 9 and all((a == b).all() for a, b in zip(seen, expected, strict=True))


# Shorter than a pass of 3 batches, and longer.
@pytest.mark.parametrize("steps", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_epochs_of_a_given_length_cut_the_passes_and_go_on_where_one_ended(steps):
    options = {"batch_size": 500, "seed": 3, "augment": {"pad": 1, "flip": True}}
    passes = load("digits", **options)
    expected = [batch for _ in range(5) for batch in passes][: 3 * steps]
    cut = load("digits", steps_per_epoch=steps, **options)
    assert int(cut.cardinality()) == steps
    next(iter(cut))  # a look changes nothing
    got = [batch for _ in range(3) for batch in cut]
    resumed = list(load("digits", steps_per_epoch=steps, first_epoch=2, **options))
    for batches, wanted in ((got, expected), (resumed, expected[-steps:])):
        for (x, y), (expected_x, expected_y) in zip(batches, wanted, strict=True):
            np.testing.assert_array_equal(x, expected_x)
            np.testing.assert_array_equal(y, expected_y)


def test_info_tells_what_a_model_needs(npz):
    info = tfrobust.data.info("digits")
    assert (info.name, info.input_shape, info.classes) == ("digits", (8, 8, 1), 10)
    assert info.class_names == tuple("0123456789")
    assert info.sizes == {"train": 1294, "validation": 144, "test": 359}
    info = tfrobust.data.info(npz, validation=0, image_size=(3, 5))
    assert info.input_shape == (3, 5, 1) and info.classes == 7
    assert info.sizes == {"train": 800, "test": 200}


@pytest.mark.parametrize("module", ["augment", "load"])
def test_examples_run(module):
    globs = {"tfrobust": tfrobust, "tf": tf}
    results = doctest.testmod(importlib.import_module(f"tfrobust.data.{module}"), extraglobs=globs)
    assert results.attempted and not results.failed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "`batch_size`: expected an integer of at least 1. Received: 0"),
        ({"batch_size": 2.5}, "`batch_size`.*Received: 2.5"),
        ({"batch_size": True}, "`batch_size`.*Received: True"),
        ({"validation": 1.0}, r"`validation`: expected a fraction in \[0, 1\). Received: 1.0"),
        ({"validation": -0.1}, "`validation`.*Received: -0.1"),
        ({"validation": float("nan")}, "`validation`.*Received: nan"),
        ({"validation": "a"}, "`validation`.*Received: 'a'"),
        ({"split": "tset"}, "Unknown split: expected one of test, train, validation. Received: 'tset'.*'test'"),
        (
            {"split": "validation", "validation": 0},
            "expected 'train' or 'test'. Received: 'validation' with validation=0",
        ),
        ({"split": "validation", "validation": 1e-6}, "expected at least one image for 'validation'.*validation=1e-06"),
        ({"first_epoch": -1}, "`first_epoch`: expected an integer of at least 0. Received: -1"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch`: expected an integer of at least 1. Received: 0"),
        ({"seed": 0.5}, "`seed`: expected an integer. Received: 0.5"),
        ({"shuffle": 3}, "`shuffle`: expected True, False or None. Received: 3"),
        ({"image_size": 8}, r"`image_size`: expected \(height, width\). Received: 8"),
        ({"image_size": (8, 0)}, "`image_size`.*Received: 0"),
        ({"augment": "crop_flip"}, "`augment`: expected None.*Received: 'crop_flip'"),
        ({"augment": {"pda": 4}}, "Unknown argument of augment.*Received: 'pda'. Did you mean 'pad'"),
    ],
)
def test_arguments_are_refused_in_words(arguments, message):
    with pytest.raises(ValueError, match=message):
        load("digits", **arguments)
