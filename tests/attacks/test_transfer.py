"""Transfer: the sources are attacked, the target is only met."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrobust
from tfrobust import attacks
from tfrobust.attacks.view_losses import adversarial_cross_entropy
from tfrobust.utils.random import Noise

RNG = np.random.default_rng(2)
X = RNG.uniform(0.4, 0.6, (6, 2, 2, 1)).astype("float32")
Y = np.array([0, 1, 0, 1, 0, 1], "int32")
SIGNS = np.where(Y == 0, -1.0, 1.0)[:, None, None, None]  # of the change that lowers the label's logit


def line(weights):
    """A classifier whose second logit is sum(weights * z), whose first is its negative."""

    def classify(z):
        score = ops.sum(z * np.reshape(weights, (1, 2, 2, 1)), axis=(1, 2, 3))
        return {"logits": ops.stack([-score, score], axis=-1)}

    return classify


def never(z):
    raise AssertionError("the target was asked")


FIRST, SECOND = np.array([1.0, -2.0, 3.0, 1.0], "float32"), np.array([-1.0, -1.0, 1.0, 2.0], "float32")


def steepest(weights, eps):
    """Where cross entropy of a line is greatest: x - eps * sign(w) for label 1, x + eps * sign(w) for label 0."""
    return X - eps * SIGNS * np.sign(weights).reshape(1, 2, 2, 1)


def test_it_is_the_inner_attack_on_the_source():
    inner = attacks.pgd(eps=0.1, steps=5, loss=adversarial_cross_entropy)
    moved = attacks.transfer(line(FIRST), inner)
    got = moved.search(never, X, Y, Noise(4), 0)
    np.testing.assert_array_equal(got, inner.search(line(FIRST), X, Y, Noise(4), 0))
    np.testing.assert_allclose(got, steepest(FIRST, 0.1), atol=1e-6)


@pytest.mark.parametrize("tensor", [False, True])
def test_runs_go_over_the_sources_first(tensor):
    moved = attacks.transfer([line(FIRST), line(SECOND)], {"name": "pgd", "steps": 5, "restarts": 3}, eps=0.1)
    assert moved.runs(2) == 6
    run = tf.function(lambda r: moved.search(never, tf.constant(X), tf.constant(Y), Noise(0), r), autograph=False)
    for number in range(6):
        got = run(tf.constant(number)) if tensor else moved.search(never, X, Y, Noise(0), number)
        np.testing.assert_allclose(got, steepest((FIRST, SECOND)[number % 2], 0.1), atol=1e-6)


def test_the_run_of_the_inner_attack_reaches_it():
    class Counting(attacks.Attack):
        def runs(self, classes):
            return 3

        def search(self, classify, x, y, seed=0, run=0):
            return self.ball.project(x + 0.01 * ops.cast(run, "float32"), x)

    moved = attacks.transfer([line(FIRST), line(SECOND)], Counting(attacks.Linf(0.1)))
    for run in (0, 1, 3, 5, tf.constant(4)):
        np.testing.assert_allclose(moved.search(never, X, Y, 0, run), X + 0.01 * (int(run) // 2), atol=1e-6)


def test_each_image_keeps_the_source_that_fools_the_target():
    def target(z):  # label 1 falls below 1.9 in all, label 0 above 2.1
        score = ops.sum(z, axis=(1, 2, 3))
        return {"logits": ops.stack([2.0 - score, score - 2.0], axis=-1)}

    x = np.where(SIGNS > 0, 0.51, 0.49).astype("float32") * np.ones_like(X)
    useless, useful = line([1.0, -1.0, 1.0, -1.0]), line([1.0, 1.0, 1.0, 1.0])
    found = attacks.transfer([useless, useful], "fgsm", eps=0.1)(target, x, Y)
    np.testing.assert_array_equal(np.argmax(target(found)["logits"], -1), 1 - Y)
    missed = attacks.transfer(useless, "fgsm", eps=0.1)(target, x, Y)
    np.testing.assert_array_equal(np.argmax(target(missed)["logits"], -1), Y)


def test_targeted():
    moved = attacks.transfer(line(FIRST), {"name": "pgd", "steps": 5, "targeted": True}, eps=0.1)
    assert moved.targeted
    np.testing.assert_allclose(moved.search(never, X, Y), 2 * X - steepest(FIRST, 0.1), atol=1e-6)


def test_what_it_says_of_itself():
    mask = np.ones((2, 2, 1))
    mask[0] = 0
    moved = attacks.transfer(line(FIRST), "mim", eps=0.2, norm="l2", bounds=(0.0, 2.0), mask=mask)
    assert (moved.kind, moved.name, moved.cost(2)) == ("transfer", "transfer", (10, 10))
    assert isinstance(moved.ball, attacks.L2) and moved.ball.eps == 0.2 and moved.ball.bounds == (0.0, 2.0)
    np.testing.assert_array_equal(np.asarray(moved.search(never, X, Y))[:, 0], X[:, 0])
    assert attacks.transfer(line(FIRST)).ball.eps == attacks.pgd().ball.eps
    assert attacks.expectation(moved, samples=7).cost(2) == (70, 70)


def test_a_config_of_paths_is_json(tmp_path, make_classifier, batch):
    x, y = batch
    paths = []
    for number in range(2):
        make_classifier().save(tmp_path / f"{number}.keras")
        paths.append(tmp_path / f"{number}.keras")
    for inner in ({"name": "pgd", "steps": 2}, attacks.pgd(eps=0.1, steps=2)):
        moved = attacks.transfer(paths, inner, eps=0.1)
        config = json.loads(json.dumps(moved.get_config()))
        assert config["sources"] == [str(path) for path in paths]
        again = attacks.get(config)
        assert again.get_config() == moved.get_config()
        np.testing.assert_array_equal(again.search(never, x, y, 0, 1), moved.search(never, x, y, 0, 1))
    assert attacks.transfer(make_classifier()).get_config()["sources"].name  # a network stays one


def test_evaluation_makes_it_from_a_config(tmp_path, make_classifier, batch):
    source, target = make_classifier(), make_classifier()
    source.save(tmp_path / "source.keras")
    config = {"name": "transfer", "sources": str(tmp_path / "source.keras"), "attack": {"name": "pgd", "steps": 2}}
    report = tfrobust.evaluate(target, batch, eps=0.1, attacks=[config], verbose=False)
    assert report.attacks[0].name == "transfer"
    assert report.attacks[0].settings["eps"] == 0.1
    assert report.robust_accuracy <= report.clean_accuracy


def probabilities():
    inputs = keras.Input((2, 2, 1))
    return keras.Model(inputs, keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(inputs)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: attacks.transfer([]), "Invalid value for `sources`: expected at least one classifier"),
        (lambda: attacks.transfer("no.keras"), r"paths of \.keras files\. Received: 'no\.keras', where there is no"),
        (lambda: attacks.transfer(3), "Invalid classifier"),
        (lambda: attacks.transfer(probabilities()), "Invalid classifier: expected a Keras model with named outputs"),
        (lambda: attacks.transfer(line(FIRST), "pdg"), "Did you mean 'pgd'"),
        (lambda: attacks.transfer(line(FIRST), 3), "Invalid value for `attack`: expected the name"),
        (lambda: attacks.transfer(line(FIRST), attacks.pgd(eps=0.1), eps=0.2), r"within {'eps': 0\.2}.*Linf\(eps=0\.1"),
        (lambda: attacks.transfer(line(FIRST), "cw_linf", norm="l2"), "within {'norm': 'l2'}.*Linf"),
        (lambda: attacks.transfer(line(FIRST), attacks.pgd(), bounds=(0, 2)), "within {'bounds'"),
        (lambda: attacks.transfer(line(FIRST), attacks.pgd(), mask=np.ones((2, 2, 1))), "within {'mask'"),
        (
            lambda: attacks.transfer(tfrobust.models.get("digits", classes=3)).check_classes(10),
            "Invalid source 'digits': expected one of the target's 10 classes. Received: 3 classes",
        ),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()
