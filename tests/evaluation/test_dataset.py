"""Everything that reads data reads every container that `fit` takes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import callbacks, evaluation, interpret


@pytest.fixture
def given(containers):
    """name of a container -> function of arrays that returns the one argument of `evaluate`."""
    return {
        "arrays": lambda *arrays: arrays,
        "list": lambda *arrays: list(arrays),
        "lists": lambda *arrays: tuple(part.tolist() for part in arrays),
        **{name: lambda *arrays, make=make: make(*arrays)[0] for name, make in containers.items() if name != "arrays"},
    }


def linear():
    layers = [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
    return tfrobust.expose(keras.Sequential(layers))


def test_evaluate_reads_every_container(given, batch):
    x, y = batch
    weights = np.ones(20, "float32")
    classifier, reports = linear(), {}
    options = {"eps": 0.05, "attacks": ["fgsm"], "probes": 0, "verbose": False}
    for name, make in given.items():
        reports[name] = tfrobust.evaluate(classifier, make(x, y), **options)
        if name != "lists":
            reports[f"{name}, weights"] = tfrobust.evaluate(classifier, make(x, y, weights), **options)
    for name in ("arrays", "tf.data", "PyDataset"):
        reports[f"{name}, dict"] = tfrobust.evaluate(classifier, given[name]({"image": x}, y), **options)
    for name, report in reports.items():
        assert report.images == 20, name
        assert report.clean_accuracy == reports["arrays"].clean_accuracy, name
        assert report.robust_accuracy == reports["arrays"].robust_accuracy, name


def test_measurements_of_all_kinds_read_every_container(given, batch):
    classifier = linear()
    measures = {
        "noise": lambda data: evaluation.noise(classifier, data, [0.1], ["uniform"], draws=1, verbose=False),
        "coverage": lambda data: interpret.coverage({"linear": classifier}, data, [0.5]),
    }
    for measure in measures.values():
        tables = {name: measure(make(*batch)) for name, make in given.items()}
        for table in tables.values():
            # Sums over batches of other sizes round differently.
            np.testing.assert_allclose(table.figures, tables["arrays"].figures, rtol=1e-6)


def test_a_study_reads_a_generator_once(given, batch):
    x, y = np.tile(batch[0], (1, 2, 2, 1)), batch[1]
    layers = [keras.Input((12, 12, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
    small = {"linear": tfrobust.expose(keras.Sequential(layers))}
    options = {"eps": 0.1, "sections": ["coverage", "gradients"], "verbose": False}
    assert interpret.study(small, given["generator"](x, y), **options).settings["images"] == {"test": 20}


@pytest.mark.parametrize("name", ["PyDataset", "generator", "for ever"])
def test_callbacks_read_what_fit_reads(name, given, batch, tmp_path):
    make = given.get(name) or (lambda *arrays: tf.data.Dataset.from_tensor_slices(arrays).batch(10).repeat())
    trainer = tfrobust.AdversarialTrainer(linear(), "madry", tfrobust.attacks.pgd(eps=0.1, steps=1))
    trainer.compile("sgd")
    watching = [
        callbacks.CatastrophicOverfitting(make(*batch)),
        callbacks.RobustnessMonitor(make(*batch), tmp_path, attack="fgsm", count=4),
    ]
    history = trainer.fit(*batch, callbacks=watching, verbose=0).history
    assert 0 <= history["pgd_accuracy"][0] <= 1


def test_a_callback_refuses_bad_data_before_the_first_step(given, batch):
    x, y = batch
    trainer = tfrobust.AdversarialTrainer(linear(), "madry", tfrobust.attacks.pgd(eps=0.1, steps=1))
    trainer.compile("sgd")
    before = trainer.get_weights()
    with pytest.raises(ValueError, match="Invalid pixels"):
        trainer.fit(x, y, callbacks=[callbacks.CatastrophicOverfitting(given["PyDataset"](255 * x, y))], verbose=0)
    for left, right in zip(trainer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(left, right)


class Endless(keras.utils.PyDataset):
    num_batches = None

    def __getitem__(self, index):
        return np.zeros((2, 6, 6, 1), "float32"), np.zeros(2, "int32")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (Endless(), "expected a dataset that ends"),
        ([(np.zeros((2, 6, 6, 1)), np.zeros(2))] * 4, "Received: list of 4"),
        ([(np.zeros((2, 6, 6, 1)), np.zeros(2))] * 2, "Received: list of 2, which are not arrays"),
        ((batch for batch in [np.zeros((2, 6, 6, 1))]), "Received: batches that are ndarray"),
        (
            tf.data.Dataset.from_tensors({"image": 0.0, "label": 1}),
            r"data.map\(lambda d: \(d\['image'\], d\['label'\]\)",
        ),
        ("digits", "Received: str"),
        ({"image": np.zeros((2, 6, 6, 1))}, r"Received: a dict of \['image'\]"),
    ],
)
def test_what_are_no_data_is_refused_in_a_sentence(data, words):
    with pytest.raises(ValueError, match=f"Invalid data.*{words}"):
        tfrobust.evaluate(linear(), data, eps=0.1, verbose=False)


def test_evaluate_names_the_ways_out_for_pixels_of_0_to_255(batch):
    x, y = batch
    layers = [keras.Input((6, 6, 1)), keras.layers.Rescaling(1 / 255, name="bytes"), keras.layers.Flatten()]
    classifier = tfrobust.expose(keras.Sequential([*layers, keras.layers.Dense(4)]))
    words = r"layer 'bytes' shows.*bounds=\(0, 255\).*preprocess=keras.layers.Rescaling\(255.0\)"
    with pytest.raises(ValueError, match=words):
        tfrobust.evaluate(classifier, (255 * x, y), eps=8 / 255, verbose=False)
    with pytest.raises(ValueError, match=words):
        interpret.input_gradients(classifier, 255 * x, y)
    assert interpret.input_gradients(classifier, 255 * x, y, bounds=(0, 255)).shape == x.shape
