"""DeepFool against closed forms and a NumPy loop of its own."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfrobust import attacks
from tfrobust.attacks import Linf

SHAPE = (3, 4, 2)


def linear(classes=5, pixels=24, seed=0):
    """A linear classifier, images in the middle of the range that are right with it, and its parameters."""
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 1, (pixels, classes)).astype("float32")
    b = -0.5 * w.sum(axis=0) + rng.normal(0, 0.3, classes).astype("float32")
    x = rng.uniform(0.4, 0.6, (12, *SHAPE)).astype("float32")
    y = np.argmax(x.reshape(12, -1) @ w + b, axis=-1).astype("int32")

    def classify(z):
        return {"logits": ops.matmul(ops.reshape(z, (-1, pixels)), w) + b}

    return classify, x, y, w, b


def curved(pixels=24, classes=6, seed=1):
    """A classifier with curvature whose gradients are written down: logits = tanh(x a) v."""
    rng = np.random.default_rng(seed)
    a = rng.normal(0, 0.5, (pixels, 8)).astype("float32")
    v = rng.normal(0, 1, (8, classes)).astype("float32")

    def classify(z):
        return {"logits": ops.matmul(ops.tanh(ops.matmul(ops.reshape(z, (-1, pixels)), a)), v)}

    def logits(x):
        return np.tanh(x @ a) @ v

    def jacobian(x):
        return ((1 - np.tanh(x @ a) ** 2) * a @ v).T

    x = rng.uniform(0, 1, (10, *SHAPE)).astype("float32")
    return classify, logits, jacobian, x, np.argmax(logits(x.reshape(10, -1)), axis=-1).astype("int32")


def by_hand(logits, jacobian, x, norm, candidates, steps=50, overshoot=0.02):
    """Algorithm 2 of the paper for one image, in NumPy, and how many steps it took."""
    x = x.ravel().astype("float64")
    ranking = np.argsort(-logits(x))[:candidates]
    label, z, total = ranking[0], x, np.zeros_like(x)
    for step in range(steps):
        if np.argmax(logits(z)) != label:
            return z, step
        gaps, gradients = logits(z), jacobian(z)
        moves = []
        for k in ranking[1:]:
            w = gradients[k] - gradients[label]
            length = np.abs(w).sum() if norm == "linf" else np.linalg.norm(w)
            distance = abs(gaps[k] - gaps[label]) / length
            moves.append((distance, (distance + 1e-4) * (np.sign(w) if norm == "linf" else w / length)))
        total = total + min(moves, key=lambda move: move[0])[1]
        z = np.clip(x + (1 + overshoot) * total, 0, 1)
    return z, steps


def sizes(z, x, norm):
    return np.linalg.norm((np.asarray(z) - x).reshape(len(x), -1), np.inf if norm == "linf" else 2, axis=1)


def predicted(classify, z):
    return np.argmax(np.asarray(classify(ops.convert_to_tensor(z))["logits"]), axis=-1)


@pytest.mark.parametrize(
    ("classes", "norm"),
    [
        (2, "linf"),
        pytest.param(2, "l2", marks=pytest.mark.slow),
        pytest.param(5, "linf", marks=pytest.mark.slow),
        (5, "l2"),
    ],
)
def test_linear_classifier_takes_one_step_to_the_nearest_boundary(classes, norm):
    classify, x, y, w, b = linear(classes)
    logits = x.reshape(12, -1) @ w + b
    gaps = np.take_along_axis(logits, y[:, None], 1) - logits
    lengths = np.linalg.norm(w[:, y].T[:, :, None] - w[None], 1 if norm == "linf" else 2, axis=1)
    gaps[np.arange(12), y] = np.inf
    least = (gaps / np.maximum(lengths, 1e-30)).min(axis=1)
    z = attacks.deepfool(steps=1, norm=norm)(classify, x, y)
    assert (predicted(classify, z) != y).all()
    np.testing.assert_allclose(sizes(z, x, norm), 1.02 * (least + 1e-4), rtol=1e-3, atol=1e-5)
    exact = attacks.deepfool(steps=1, norm=norm, overshoot=0.0)(classify, x, y)
    np.testing.assert_allclose(sizes(exact, x, norm), least + 1e-4, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("candidates", [2, 10])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_equals_a_numpy_loop(norm, candidates):
    classify, logits, jacobian, x, y = curved()
    z = np.asarray(attacks.deepfool(norm=norm, candidates=candidates)(classify, x, y))
    expected, steps = zip(*(by_hand(logits, jacobian, image, norm, candidates) for image in x), strict=True)
    assert max(steps) > 1 and len(set(steps)) > 1  # each image stops by itself
    fooled = predicted(classify, z) != y
    assert fooled.mean() > 0.6
    np.testing.assert_allclose(z[fooled], np.stack(expected).reshape(x.shape)[fooled], atol=1e-4)
    np.testing.assert_array_equal(z[~fooled], x[~fooled])


def test_candidates_are_the_likeliest_classes():
    classify, x, y, w, b = linear(classes=6)
    second = np.argsort(-(x.reshape(12, -1) @ w + b), axis=-1)[:, 1]
    z = np.asarray(attacks.deepfool(candidates=2, steps=1)(classify, x, y))
    normal = (w[:, second] - w[:, y]).T
    along = ((z - x).reshape(12, -1) * normal).sum(1) / np.linalg.norm(normal, axis=1)
    np.testing.assert_allclose(along, sizes(z, x, "l2"), rtol=1e-3)


def test_outside_a_radius_does_not_count():
    classify, x, y, _, _ = linear()
    free = np.asarray(attacks.deepfool()(classify, x, y))
    eps = float(np.median(sizes(free, x, "l2")))
    z = np.asarray(attacks.deepfool(eps)(classify, x, y))
    inside = sizes(free, x, "l2") <= eps
    assert 0 < inside.sum() < 12
    np.testing.assert_array_equal(z, np.where(inside[:, None, None, None], free, x))


def test_image_that_is_wrong_already_is_returned():
    classify, x, y, _, _ = linear()
    np.testing.assert_array_equal(attacks.deepfool()(classify, x, (y + 1) % 5), x)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_mask_and_bounds(norm):
    classify, x, y, _, _ = linear(seed=3)
    mask = np.zeros(SHAPE)
    mask[:2] = 1
    attack = attacks.deepfool(norm=norm, mask=mask, bounds=(0.3, 0.7))
    z = np.asarray(attack(classify, x, y))
    np.testing.assert_array_equal(z[:, 2:], x[:, 2:])
    assert z.min() >= 0.3 and z.max() <= np.float32(0.7)
    fooled = predicted(classify, z) != y
    assert fooled.mean() > 0.5
    np.testing.assert_array_equal(fooled, sizes(z, x, "linf") > 0)


def test_result_of_an_image_does_not_depend_on_the_batch():
    classify, _, _, x, y = curved()
    attack = attacks.deepfool()
    alone = np.concatenate([attack(classify, x[i : i + 1], y[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(attack(classify, x, y)[:4], alone, atol=1e-6)


def test_ends_when_every_image_has_left_its_label():
    classify, x, y, _, _ = linear()
    calls = []

    def counting(z):
        tf.py_function(lambda: calls.append(1), [], [])
        return classify(z)

    attack = attacks.deepfool(steps=40)
    tf.function(lambda x, y: attack.search(counting, x, y), autograph=False)(x, y)
    assert len(calls) == 4  # the clean image, two looks (the second ends it), the last point
    assert attack.cost(5) == (42, 160)


def test_convolutional_net():
    inputs = keras.Input((8, 8, 1))
    h = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    h = keras.layers.Flatten()(keras.layers.ReLU()(h))
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(12)(h)})
    x = np.random.default_rng(0).uniform(0, 1, (9, 8, 8, 1)).astype("float32")
    y = predicted(classifier, x)
    for norm in ("linf", "l2"):
        z = np.asarray(attacks.deepfool(norm=norm)(classifier, x, y))
        assert (predicted(classifier, z) != y).all() and z.min() >= 0 and z.max() <= 1


def test_config_makes_the_same_attack():
    attack = attacks.get(json.loads(json.dumps(attacks.deepfool(norm="linf", candidates=4).get_config())))
    assert (attack.candidates, attack.ball.eps, type(attack.ball)) == (4, math.inf, Linf)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": -0.1}, "Invalid value for `eps`: expected a number of at least 0"),
        ({"norm": "l1"}, "Unknown norm of deepfool: expected one of l2, linf"),
        ({"steps": 0}, "Invalid value for `steps`"),
        ({"overshoot": -0.1}, "Invalid value for `overshoot`: expected a number of at least 0"),
        ({"candidates": 1}, "Invalid value for `candidates`: expected an integer of at least 2"),
    ],
)
def test_broken_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        attacks.deepfool(**arguments)
