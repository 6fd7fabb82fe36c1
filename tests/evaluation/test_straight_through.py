"""Networks that round or threshold lose, to attacks that pass these layers, what they pretend to hold."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

import tfrobust
from tfrobust import attacks
from tfrobust.evaluation import evaluate

EPS = 0.1
IMAGES = 64
ALPHA = 0.75  # of a standard deviation
TOP = 0.4  # greatest size of a feature


@keras.saving.register_keras_serializable(package="tests")
def round8(z):
    return ops.round(z * 7) / 7


class MeanSparse(keras.layers.Layer):
    """Sets a feature within alpha standard deviations of its channel's mean to the mean; Amini et al. 2024."""

    def build(self, shape):
        self.mean = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False)
        self.deviation = self.add_weight(shape=shape[-1:], initializer="ones", trainable=False)

    def call(self, features):
        return ops.where(ops.abs(features - self.mean) < ALPHA * self.deviation, self.mean, features)


@pytest.fixture(scope="module")
def data():
    train, test = (
        [np.concatenate(part) for part in zip(*tfrobust.data.load("digits", split), strict=True)]
        for split in ("train", "test")
    )
    return train, (test[0][:IMAGES], test[1][:IMAGES])


@pytest.fixture(scope="module")
def networks(data):
    """A small network whose features are bounded, trained without adversaries, and two that hide its gradient."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(32, 3, 2, padding="same", activation="relu")(inputs)
    wide = keras.initializers.VarianceScaling(9.0, seed=1)
    features = keras.layers.Dense(64, kernel_initializer=wide)(keras.layers.Flatten()(x))
    head = keras.layers.Dense(10)
    honest = keras.Model(inputs, {"logits": head(ops.clip(features, -TOP, TOP))})
    trainer = tfrobust.AdversarialTrainer(honest, objective="standard")
    trainer.compile(optimizer=keras.optimizers.Adam(4e-3))
    trainer.fit(*data[0], epochs=12, batch_size=128, verbose=0)

    sparse = MeanSparse(name="sparse")
    thresholded = keras.Model(inputs, {"logits": head(ops.clip(sparse(features), -TOP, TOP))})
    seen = keras.Model(inputs, features).predict(data[0][0], verbose=0)
    sparse.set_weights([seen.mean(axis=0), seen.std(axis=0)])
    rounded = keras.Model(inputs, honest(keras.layers.Lambda(round8, name="round")(inputs)))
    return {"honest": honest, "round": rounded, "sparse": thresholded}


@pytest.fixture(scope="module")
def honest(networks, data):
    """The robust accuracy of the honest network under a suite, which is measured once."""
    return functools.cache(lambda suite: report(networks["honest"], data[1], attacks=suite).robust_accuracy)


def report(classifier, data, **options):
    return evaluate(classifier, data, eps=EPS, verbose=False, **{"probes": 0, **options})


SUITES = ["quick", pytest.param("standard", marks=pytest.mark.slow)]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("name", ["round", "sparse"])
def test_what_is_pretended_is_lost(networks, data, honest, name, suite):
    """Without the oracle the network seems far more robust than the one that it is made of; with it, it is as weak."""
    network = networks[name]
    before = network.predict(data[1][0], verbose=0)["logits"].tobytes()
    gradients = attacks.straight_through(name)
    hidden, passed = (report(network, data[1], attacks=suite, gradients=g) for g in (None, gradients))
    print(f"{suite}: {hidden.robust_accuracy:.0%} without, {passed.robust_accuracy:.0%} with, ", end="")
    print(f"{honest(suite):.0%} of the honest network; after each attack ", end="")
    print(
        *(
            f"{result.name} {result.accuracy:.0%}/{its.accuracy:.0%}"
            for result, its in zip(hidden.attacks, passed.attacks, strict=True)
        )
    )
    assert hidden.clean_accuracy == passed.clean_accuracy > 0.95
    assert passed.robust_accuracy <= honest(suite) + 0.03
    if suite == "quick":
        assert hidden.robust_accuracy > passed.robust_accuracy + 0.2
    else:  # its attacks by queries see through it as well
        assert hidden.attacks[0].accuracy > passed.attacks[0].accuracy + 0.2
        assert passed.robust_accuracy <= hidden.robust_accuracy + 0.02
    assert network.predict(data[1][0], verbose=0)["logits"].tobytes() == before
    assert passed.verify(network).robust_accuracy == pytest.approx(passed.robust_accuracy, abs=0.02)


def test_probes_and_rounding_follow_it_too(networks, data):
    attack = attacks.pgd(EPS, steps=20, early_stop=True)
    found = report(networks["round"], data[1], attacks=[attack], gradients=attacks.straight_through("round"), probes=32)
    assert not any(words in alarm for alarm in found.alarms for words in ("zero", "hides", "labels", "plain grey"))
    assert dict(found.curves["eps"])[EPS] < found.clean_accuracy - 0.2
    assert found.robust_accuracy_8bit - found.robust_accuracy < 0.05  # the adversaries are moved along the gradient


def test_a_classifier_that_is_a_function(networks, data):
    rounded = attacks.replace_gradient(round8)
    found = report(lambda z: networks["honest"](rounded(z)), data[1], attacks=["fgsm"])
    other = report(networks["round"], data[1], attacks=["fgsm"], gradients=attacks.straight_through(round8))
    assert found.clean_accuracy == other.clean_accuracy
    assert found.robust_accuracy == pytest.approx(other.robust_accuracy, abs=0.02)


def test_an_oracle_with_layers_that_are_preprocessing(networks, data, tmp_path):
    """In a classifier that was saved and loaded, the function of the layer is still the same."""
    classifier = tfrobust.expose(networks["honest"], preprocess=keras.layers.Lambda(round8, output_shape=(8, 8, 1)))
    classifier.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    found = report(loaded, data[1], attacks=["fgsm"], gradients=attacks.straight_through(round8))
    assert found.robust_accuracy < found.clean_accuracy - 0.1


def untouched(classify, x, y):
    return x


def test_the_report_says_what_was_followed(networks, data):
    given = [
        attacks.expectation(attacks.fgsm(EPS), samples=2),
        {"name": "pgd", "steps": 2},
        {"name": "square", "queries": 5},
        untouched,
    ]
    found = report(
        networks["round"], (data[1][0][:8], data[1][1][:8]), attacks=given, gradients=attacks.straight_through("round")
    )
    of = "StraightThrough(part=[round], backward=identity"
    assert [result.settings.get("gradients") for result in found.attacks] == [
        f"{of}, gradients=Expected(transformation=None, samples=2))",
        f"{of})",
        None,
        None,
    ]
    assert f"Attacks that follow gradients follow those of {of})." in found.notes
    assert "`gradients` does not reach callables, which take their own: untouched." in found.notes


def test_a_state_is_of_one_oracle(networks, data, tmp_path):
    few, state = (data[1][0][:8], data[1][1][:8]), tmp_path / "s.state"
    first = report(networks["round"], few, attacks=["fgsm"], gradients=attacks.straight_through("round"), state=state)
    again = report(networks["round"], few, attacks=["fgsm"], gradients=attacks.straight_through("round"), state=state)
    assert first.robust_accuracy == again.robust_accuracy
    with pytest.raises(ValueError, match=r"of another evaluation.*attacks"):
        report(networks["round"], few, attacks=["fgsm"], state=state)


@pytest.mark.parametrize(
    ("gradients", "text"),
    [
        (attacks.straight_through("rond"), "Unknown layer.*Did you mean 'round'"),
        (attacks.straight_through(untouched), "Invalid part untouched"),
        ("round", "Invalid value for `gradients`: expected an oracle"),
        (attacks.replace_gradient(round8), "Invalid value for `gradients`: expected an oracle"),
    ],
)
def test_refusals_leave_no_state(networks, data, gradients, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        report(networks["round"], data[1], gradients=gradients, state=tmp_path / "s.state")
    assert list(tmp_path.iterdir()) == []
