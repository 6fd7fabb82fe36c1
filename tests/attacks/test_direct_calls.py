"""Calls of an attack by itself: what it takes as images and labels, and what it refuses in words."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfrobust import attacks
from tfrobust.attacks import Cascade, random_noise

RNG = np.random.default_rng(1)
X = RNG.uniform(0, 1, (6, 3, 3, 1)).astype("float32")
W = RNG.normal(0, 1, (9, 4)).astype("float32")


def classify(z):
    return {"logits": ops.matmul(ops.reshape(z - 0.5, (-1, 9)), W)}


Y = np.argmax(classify(X)["logits"], -1)
MAKERS = {
    "pgd": lambda **kw: attacks.cw_linf(0.3, steps=5, **kw),
    "square": lambda **kw: attacks.square(0.3, queries=20, **kw),
    "hop_skip_jump": lambda **kw: attacks.hop_skip_jump(0.3, steps=2, samples=10, starts=4, **kw),
    "cascade": lambda **kw: Cascade([random_noise(0.3, draws=3), attacks.square(0.3, queries=20)]),
}
every = pytest.mark.parametrize("name", MAKERS)


@functools.cache
def made(name, **options):
    """The same attack in all tests: it builds its graph once."""
    return MAKERS[name](**options)


@every
def test_labels_come_in_every_form_that_a_trainer_takes(name):
    attack = made(name)
    expected = np.asarray(attack(classify, X, Y, seed=1))
    one_hot = np.eye(4)[Y]
    for given in (Y.tolist(), Y[:, None], Y.astype("uint8"), Y.astype("float32"), one_hot, one_hot.astype(bool)):
        np.testing.assert_array_equal(attack(classify, X, given, seed=1), expected)
    np.testing.assert_array_equal(attack(classify, tf.constant(X), tf.constant(Y), seed=1), expected)
    np.testing.assert_array_equal(attack(classify, X.astype("float64"), Y, seed=1), expected)


@every
def test_batches_of_one_and_of_none(name):
    attack = made(name)
    assert attack(classify, X[:1], Y[:1]).shape == (1, 3, 3, 1)
    assert attack(classify, X[:0], Y[:0]).shape == (0, 3, 3, 1)


@every
@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        (X, np.where(Y[0] == Y, 4, Y), "expected integers from 0 to 3. Received: .*greatest 4"),
        (X, Y - 5, "expected integers from 0 to 3. Received: least -"),
        (X, Y + 0.5, "Invalid labels: expected whole numbers or one-hot rows"),
        (X, np.full((6, 4), 0.25), "Invalid labels: expected one-hot rows"),
        (X, Y[:5], r"expected a label for each of the images \(6, 3, 3, 1\).*Received: \(5,\)"),
        (X, Y.astype(str), "Invalid labels: expected integers or one-hot rows. Received: dtype string"),
        (255 * X, Y, r"Invalid pixels: expected values in \[0, 1\]"),
        (np.where(X > 0.9, np.nan, X), Y, "Invalid pixels"),
        (X[0], Y[:1], r"Invalid shape of x: expected a batch of images, \(batch, H, W, C\). Received: \(3, 3, 1\)"),
    ],
    ids=["above", "below", "half", "soft", "fewer", "text", "bytes", "nan", "one image"],
)
def test_what_cannot_be_is_refused_in_words(name, x, y, text):
    with pytest.raises(ValueError, match=text):
        made(name)(classify, x, y)


@pytest.mark.parametrize("name", ["pgd", "square", pytest.param("hop_skip_jump", marks=pytest.mark.slow)])
def test_a_target_has_to_be_a_class(name):
    with pytest.raises(ValueError, match=r"expected integers from 0 to 3\. Received: least 7, greatest 7"):
        made(name, targeted=True)(classify, X, np.full(6, 7))


def test_a_search_refuses_a_classifier_in_place_of_a_loss(make_classifier, batch):
    with pytest.raises(ValueError, match=r"Invalid loss: expected a function of pixels.*attack\(classifier, x, y\)"):
        attacks.fgsm(0.1).ascend(make_classifier(), *batch)


def test_a_classifier_without_names_is_refused_in_words():
    with pytest.raises(ValueError, match=r"expected named outputs, 'logits' among them.*Received:"):
        attacks.square(0.1, queries=5)(lambda z: classify(z)["logits"], X, Y)
