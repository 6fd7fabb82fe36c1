"""Attacks without a radius look for the nearest adversary, over all of their runs."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrobust
from tfrobust import attacks
from tfrobust.utils.random import Noise

RNG = np.random.default_rng(4)
X = RNG.uniform(0.2, 0.8, (12, 3, 3, 1)).astype("float32")
FIRST, SECOND = RNG.normal(0, 1, (9, 8)).astype("float32"), RNG.normal(0, 1, (8, 5)).astype("float32")
OTHER = RNG.normal(0, 1, (8, 5)).astype("float32")


def network(last):
    def classify(z):
        return {"logits": ops.matmul(ops.tanh(ops.matmul(ops.reshape(z - 0.5, (-1, 9)), FIRST)), last)}

    return classify


classify = network(SECOND)
LOGITS = np.asarray(classify(X)["logits"])
Y = LOGITS.argmax(-1).astype("int32")
Y[0] = LOGITS[0].argsort()[-2]  # wrong from the start


def sizes(z, norm):
    change = np.abs(np.asarray(z) - X).reshape(len(X), -1)
    return change.max(-1) if norm == "linf" else np.sqrt(np.square(change).sum(-1))


def by_hand(attack, norm, seed=0):
    """The least size over all runs, each made by itself."""
    least = np.full(len(X), np.inf)
    search = tf.function(lambda x, y, run: attack.search(classify, x, y, Noise(tf.stack([seed, run])), run))
    for run in range(attack.runs(5)):
        z = search(X, Y, tf.constant(run)).numpy()
        missed = np.asarray(classify(z)["logits"]).argmax(-1) != Y
        least = np.minimum(least, np.where(missed, sizes(z, norm), np.inf))
    return least


MAKES = {
    "fab": lambda norm: attacks.fab(None, steps=15, targets=4, norm=norm),
    "transfer": lambda norm: attacks.transfer(
        [network(OTHER), network(SECOND)], attacks.fab(None, steps=15, targets=2, norm=norm)
    ),
}


@pytest.mark.parametrize(
    ("name", "norm"),
    [
        pytest.param("fab", "linf", marks=pytest.mark.slow),
        ("fab", "l2"),
        ("transfer", "linf"),
        pytest.param("transfer", "l2", marks=pytest.mark.slow),
    ],
)
def test_the_nearest_of_all_runs_is_kept(name, norm):
    attack = MAKES[name](norm)
    least = by_hand(attack, norm)
    assert np.isfinite(least).all() and least[0] == 0 and (least[1:] > 0).all()
    np.testing.assert_allclose(sizes(attack(classify, X, Y), norm), least, rtol=1e-5, atol=1e-7)


def test_in_a_ball_the_first_run_that_succeeds_is_kept():
    attack = attacks.fab(10.0, steps=15, targets=4, norm="l2")
    first = tf.function(lambda x, y: attack.search(classify, x, y, Noise([0, 0]), 0))(X, Y)
    np.testing.assert_allclose(attack(classify, X, Y), first, atol=1e-6)


@pytest.mark.parametrize("order", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_a_cascade_keeps_the_nearest_of_its_members(order):
    members = [attacks.fab(None, steps=15, targets=1, norm="l2"), attacks.fab(None, steps=1, norm="l2")][::order]
    each = [sizes(member(classify, X, Y), "l2") for member in members]
    together = sizes(attacks.Cascade(members)(classify, X, Y), "l2")
    np.testing.assert_allclose(together, np.minimum(*each), rtol=1e-5, atol=1e-7)
    assert all((together < one - 1e-6).any() for one in each)


@pytest.mark.parametrize("measure", ["evaluation", pytest.param("interpret", marks=pytest.mark.slow)])
def test_distances_are_those_of_the_nearest(measure):
    classifier = tfrobust.models.get("digits", input_shape=(8, 8, 1), features=8)
    x = RNG.uniform(0.2, 0.8, (8, 8, 8, 1)).astype("float32")
    y = np.asarray(classifier(x)["logits"]).argmax(-1).astype("int32")
    still = attacks.random_noise(1e-6, 1, norm="l2")
    nearest = attacks.fab(None, steps=8, targets=3, norm="l2")
    if measure == "evaluation":
        named = {"still": still, "nearest": nearest}
        table = tfrobust.evaluation.distances({"it": classifier}, (x, y), named, eps=1.0, verbose=False)
        found = table["nearest", "it"]
    else:
        found = tfrobust.interpret.perturbation_distances(classifier, (x, y), {"a": still, "b": nearest})["a", "b"]
    z = np.asarray(nearest(classifier, x, y))
    assert abs(found - np.sqrt(np.square(z - x).sum((1, 2, 3))).mean()) < 1e-3
