"""Networks that hide their gradients: the right alarm rings, and the full suite takes the false robustness away."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import attacks
from tfrobust.evaluation import evaluate

EPS = 0.1
IMAGES = 100


@pytest.fixture(scope="module")
def data():
    """Digits: all of the training images, and some of the test images."""
    train, test = (
        [np.concatenate(part) for part in zip(*tfrobust.data.load("digits", split), strict=True)]
        for split in ("train", "test")
    )
    return train, (test[0][:IMAGES], test[1][:IMAGES])


@pytest.fixture(scope="module")
def networks(data):
    """A small network trained with adversaries, and one without."""

    def trained(objective, epochs, **attack):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((8, 8, 1))
        hidden = keras.layers.Conv2D(32, 3, 2, padding="same", activation="relu")(inputs)
        hidden = keras.layers.Dense(64, activation="relu")(keras.layers.Flatten()(hidden))
        classifier = keras.Model(inputs, {"logits": keras.layers.Dense(10)(hidden)})
        trainer = tfrobust.AdversarialTrainer(classifier, objective=objective, **attack)
        trainer.compile(optimizer=keras.optimizers.Adam(4e-3))
        trainer.fit(*data[0], epochs=epochs, batch_size=128, verbose=0)
        return classifier

    pgd = attacks.pgd(eps=EPS, step_size=EPS / 3, steps=4)
    return {"robust": trained("madry", 12, attack=pgd), "plain": trained("standard", 12)}


def fakes(classifier):
    """Name -> pixels -> logits of the same decisions (or nearly), with gradients that lead nowhere."""

    def logits(z):
        return classifier(z)["logits"]

    features, head = keras.Model(classifier.input, classifier.layers[-1].input), classifier.layers[-1]
    return {
        "scaled": lambda z: 1e4 * logits(z),
        "quantized": lambda z: logits(tf.round(z * 16) / 16),
        "noise": lambda z: logits(z + 0.05 * tf.random.normal(tf.shape(z))),
        "probabilities": lambda z: tf.nn.softmax(logits(z)),
        "saturated": lambda z: tf.math.log(tf.clip_by_value(tf.nn.softmax(10 * logits(z)), 1e-7, 1 - 1e-7)),
        "cosines": lambda z: tf.nn.l2_normalize(logits(z), axis=-1),
        "cooled": lambda z: 1e-4 * logits(z),
        "stopped": lambda z: logits(tf.stop_gradient(z)),
        "rounded": lambda z: head(tf.round(16 * features(z)) / 16),
    }


RINGS = {
    "scaled": ["cross entropy is exactly zero", "is no measure of robustness"],
    "quantized": ["DLR is exactly zero", "still right"],
    "noise": ["is random"],
    "probabilities": ["look like probabilities"],
    "saturated": ["exactly zero", "still right"],
    "cosines": ["cosines without a scale"],
    "cooled": ["cosines without a scale"],
    "stopped": ["DLR is exactly zero", "still right", "reads no gradient"],
    "rounded": ["DLR is exactly zero", "still right"],
}


def of_labels(classifier):
    """Name -> pixels -> logits that tell the class and nothing more, or nearly nothing."""

    def logits(z):
        return classifier(z)["logits"]

    return {
        "one-hot": lambda z: tf.one_hot(tf.argmax(logits(z), axis=-1), 10),
        "two values": lambda z: tf.where(tf.one_hot(tf.argmax(logits(z), axis=-1), 10) > 0, 3.5, -2.0),
        "rounded": lambda z: tf.round(logits(z)),
        "float16": lambda z: tf.cast(tf.one_hot(tf.argmax(logits(z), axis=-1), 10), tf.float16),
        "in NumPy": lambda z: tf.ensure_shape(
            tf.numpy_function(lambda v: np.eye(10, dtype="float32")[np.argmax(v, -1)], [logits(z)], tf.float32),
            (None, 10),
        ),
    }


def report(classifier, data, attacks, **options):
    return evaluate(classifier, data, eps=EPS, attacks=attacks, verbose=False, **options)


def untouched(classify, x, y):
    return x


# Fast are those whose alarm needs a search; tests/evaluation/test_alarms.py reads the alarms of the others off figures.
SEARCHED = ("scaled", "quantized", "noise", "stopped")


@pytest.mark.parametrize(
    "fake",
    [*SEARCHED, *(pytest.param(name, marks=pytest.mark.slow) for name in ("probabilities", "saturated", "cosines"))],
)
def test_the_right_alarm_rings(networks, data, fake):
    logits = fakes(networks["robust"])[fake]
    searches = ["fgsm", {"name": "square", "queries": 300}] if fake == "stopped" else [untouched]
    found = report(lambda z: {"logits": logits(z)}, data[1], searches, probes=64)
    for words in RINGS[fake]:
        assert any(words in alarm for alarm in found.alarms), (words, found.alarms)


TELLS_LABELS = "gives labels or rounded values"


@pytest.mark.parametrize(
    "fake",
    [
        "one-hot",
        "in NumPy",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("two values", "rounded", "float16")),
    ],
)
def test_labels_alone_are_recognized(networks, data, fake):
    logits = of_labels(networks["plain"])[fake]
    found = report(lambda z: {"logits": logits(z)}, data[1], [untouched], probes=40)
    assert any(TELLS_LABELS in alarm for alarm in found.alarms), found.alarms


@pytest.mark.parametrize(
    "fake",
    [
        "saturated",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("scaled", "probabilities", "cosines", "stopped")),
    ],
)
def test_what_is_more_than_a_label_has_its_own_alarm(networks, data, fake):
    """Saturated ones too: their logits move near the decision boundary."""
    logits = fakes(networks["plain"])[fake]
    found = report(lambda z: {"logits": logits(z)}, data[1], [untouched], probes=40)
    assert not any(TELLS_LABELS in alarm for alarm in found.alarms), found.alarms


@pytest.mark.slow
@pytest.mark.parametrize("suite", ["standard", "black_box"])
def test_the_suites_see_through_labels(networks, data, honest, suite):
    logits = of_labels(networks["plain"])["one-hot"]
    found = report(lambda z: {"logits": logits(z)}, data[1], suite)
    print(f"{suite}: {found.robust_accuracy:.2%}, without the mask {honest['plain'].robust_accuracy:.2%}")
    assert found.robust_accuracy <= honest["plain"].robust_accuracy + 0.05 + 1e-9
    assert any(TELLS_LABELS in alarm for alarm in found.alarms)


@pytest.mark.parametrize("name", ["robust", pytest.param("plain", marks=pytest.mark.slow)])
def test_honest_networks_ring_nothing(networks, data, name):
    found = report(networks[name], data[1], "quick")
    assert found.alarms == ()
    assert found.robust_accuracy < found.clean_accuracy - 0.05


@pytest.fixture(scope="module")
def honest(networks, data):
    """What the standard suite finds of the networks without a mask."""
    return {name: report(network, data[1], "standard") for name, network in networks.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["robust", "plain"])
@pytest.mark.parametrize("fake", RINGS)
def test_the_standard_suite_sees_through_them(networks, data, honest, name, fake):
    logits = fakes(networks[name])[fake]
    found = report(lambda z: {"logits": logits(z)}, data[1], "standard")
    print(f"{fake} of {name}: {found.robust_accuracy:.2%}, without the mask {honest[name].robust_accuracy:.2%}")
    assert honest[name].alarms == ()
    assert found.clean_accuracy == pytest.approx(honest[name].clean_accuracy, abs=0.03)
    assert found.robust_accuracy <= honest[name].robust_accuracy + 0.03 + 1e-9
    for words in RINGS[fake]:
        assert any(words in alarm for alarm in found.alarms), (words, found.alarms)
