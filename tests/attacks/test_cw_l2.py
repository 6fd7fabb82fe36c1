"""Carlini and Wagner's attack against closed forms and a NumPy search of its own."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfrobust import attacks
from tfrobust.utils.random import ImageNoise

SHAPE = (3, 4, 2)


def linear(classes=4, pixels=24, seed=0, scale=3.0, rows=6):
    """A linear classifier, images in the middle of the range that are right with it, and its parameters."""
    rng = np.random.default_rng(seed)
    w = (scale * rng.normal(0, 1, (pixels, classes))).astype("float32")
    b = -0.5 * w.sum(axis=0) + rng.normal(0, 0.3, classes).astype("float32")
    x = rng.uniform(0.3, 0.7, (rows, *SHAPE)).astype("float32")
    y = np.argmax(x.reshape(rows, -1) @ w + b, axis=-1).astype("int32")

    def classify(z):
        return {"logits": ops.matmul(ops.reshape(z, (-1, pixels)), w) + b}

    return classify, x, y, w.astype("float64"), b.astype("float64")


def sizes(z, x):
    return np.linalg.norm((np.asarray(z) - x).reshape(len(x), -1), axis=1)


def logits_of(classify, z):
    return np.asarray(classify(ops.convert_to_tensor(z))["logits"])


def predicted(classify, z):
    return np.argmax(logits_of(classify, z), axis=-1)


def nearest_boundary(x, y, w, b):
    logits = x.reshape(len(x), -1).astype("float64") @ w + b
    gaps = np.take_along_axis(logits, y[:, None], 1) - logits
    lengths = np.linalg.norm(w[:, y].T[:, :, None] - w[None], axis=1)
    gaps[np.arange(len(y)), y] = np.inf
    return (gaps / np.maximum(lengths, 1e-30)).min(axis=1)


def by_hand(x, y, w, b, *, steps, searches, c, rate, confidence=0.0, bounds=(0.0, 1.0)):
    """The authors' search for one image of a linear classifier in NumPy, untargeted: the nearest adversary.

    Distances are in pixel ranges.
    """
    x, classes = x.ravel().astype("float64"), np.arange(w.shape[1])
    middle, half = (bounds[0] + bounds[1]) / 2, (bounds[1] - bounds[0]) / 2
    best, kept, low, high = np.inf, None, 0.0, np.inf
    for _ in range(searches):
        v, m, s = np.arctanh(0.999999 * (x - middle) / half), 0.0, 0.0
        last, succeeded = np.inf, False
        for step in range(steps):
            z = middle + half * np.tanh(v)
            logits = z @ w + b
            rival = np.argmax(np.where(classes == y, -np.inf, logits))
            margin = logits[rival] - logits[y]
            distance, missing = (((z - x) / (2 * half)) ** 2).sum(), max(confidence - margin, 0.0)
            if margin > confidence:
                succeeded = True
                if distance < best:
                    best, kept = distance, z
            total = distance + c * missing
            if step % max(steps // 10, 1) == 0:
                if total > 0.9999 * last:
                    break
                last = total
            slope = 2 * (z - x) / (2 * half) ** 2 - (c * (w[:, rival] - w[:, y]) if missing > 0 else 0.0)
            slope = slope * half * (1 - np.tanh(v) ** 2)
            m, s = 0.9 * m + 0.1 * slope, 0.999 * s + 0.001 * slope**2
            correction = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            v = v - rate * correction * m / (np.sqrt(s) + 1e-8)
        low, high = (low, min(high, c)) if succeeded else (max(low, c), high)
        c = (low + high) / 2 if high < 1e9 else 10 * c
    return kept


def test_equals_a_numpy_search():
    classify, x, y, w, b = linear()
    settings = {"steps": 60, "searches": 5, "confidence": 0.2, "bounds": (-0.5, 1.5)}
    z = np.asarray(attacks.cw_l2(initial_c=0.01, learning_rate=0.02, **settings)(classify, x, y))
    expected = [by_hand(i, label, w, b, c=0.01, rate=0.02, **settings) for i, label in zip(x, y, strict=True)]
    assert all(image is not None for image in expected)
    np.testing.assert_allclose(z, np.stack(expected).reshape(x.shape), atol=1e-4)


@pytest.mark.parametrize("classes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_reaches_the_nearest_boundary_of_a_linear_classifier(classes):
    classify, x, y, w, b = linear(classes)
    z = np.asarray(attacks.cw_l2(steps=300, learning_rate=2e-3)(classify, x, y))
    assert (predicted(classify, z) != y).all() and z.min() >= 0 and z.max() <= 1
    ratio = sizes(z, x) / nearest_boundary(x, y, w, b)
    assert (ratio > 0.999).all() and np.median(ratio) < 1.01
    if classes == 2:  # with more, the likeliest of the wrong classes may lie further away than another
        assert (ratio < 1.01).all()


def test_targeted_reaches_the_target():
    classify, x, y, w, b = linear()
    target = (y + 1) % 4
    z = attacks.cw_l2(steps=200, searches=7, targeted=True)(classify, x, target)
    np.testing.assert_array_equal(predicted(classify, z), target)
    untargeted = nearest_boundary(x, y, w, b)
    assert (sizes(z, x) > 0.999 * untargeted).all()
    np.testing.assert_array_equal(attacks.cw_l2(steps=2, targeted=True)(classify, x, y), x)  # there already


@pytest.mark.parametrize("targeted", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_confidence_is_a_margin_and_costs_distance(targeted):
    classify, x, y, _, _ = linear()
    label = (y + 1) % 4 if targeted else y
    distances = []
    for confidence in (0.0, 1.0):
        z = attacks.cw_l2(steps=150, searches=7, confidence=confidence, targeted=targeted)(classify, x, label)
        logits = logits_of(classify, z).copy()
        own = logits[np.arange(len(x)), label]
        logits[np.arange(len(x)), label] = -np.inf
        margin = logits.max(axis=-1) - own
        assert ((-margin if targeted else margin) > confidence - 1e-5).all()
        distances.append(sizes(z, x))
    assert (distances[1] > distances[0]).all()


def test_outside_a_radius_does_not_count():
    classify, x, y, w, b = linear()
    least = nearest_boundary(x, y, w, b)
    eps = float(np.median(least)) * 1.1
    z = np.asarray(attacks.cw_l2(eps, steps=150, searches=7)(classify, x, y))
    fooled = predicted(classify, z) != y
    np.testing.assert_array_equal(fooled, least < eps)
    assert 0 < fooled.sum() < len(y) and sizes(z, x).max() <= eps
    np.testing.assert_array_equal(z[~fooled], x[~fooled])


def test_mask_and_bounds():
    classify, x, y, _, _ = linear(seed=3)
    mask = np.zeros(SHAPE)
    mask[:2] = 1
    z = np.asarray(attacks.cw_l2(steps=150, searches=7, mask=mask, bounds=(0.2, 0.8))(classify, x, y))
    np.testing.assert_array_equal(z[:, 2:], x[:, 2:])
    assert z.min() >= 0.2 and z.max() <= np.float32(0.8)
    fooled = predicted(classify, z) != y
    assert fooled.mean() > 0.5
    np.testing.assert_array_equal(fooled, sizes(z, x) > 0)


def counted(classify):
    calls = []

    def counting(z):
        tf.py_function(lambda: calls.append(1), [], [])
        return classify(z)

    return counting, calls


def test_searches_end_early():
    classify, x, y, _, _ = linear()
    counting, calls = counted(classify)
    attack = attacks.cw_l2(steps=100, searches=4, initial_c=1e-6)
    tf.function(lambda x, y: attack.search(counting, x, y), autograph=False)(x, y)
    assert len(calls) < 200 < attack.cost(4)[0] == 401  # with so small a c nothing is gained
    counting, calls = counted(classify)
    attack = attacks.cw_l2(10.0, steps=100, searches=9, initial_c=1.0)
    tf.function(lambda x, y: attack.search(counting, x, y), autograph=False)(x, y)
    assert len(calls) < 110  # all are fooled inside the ball with the first c


def test_result_of_an_image_does_not_depend_on_the_batch():
    classify, x, y, _, _ = linear()
    attack = attacks.cw_l2(steps=50, searches=4)
    seed = ops.convert_to_tensor([3, 1], "int32")
    search = tf.function(
        lambda x, y, n: attack.search(classify, x, y, ImageNoise(seed, n)), autograph=False, reduce_retracing=True
    )
    numbers = np.arange(len(x), dtype="int32")
    alone = np.concatenate([search(x[i : i + 1], y[i : i + 1], numbers[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(search(x, y, numbers)[:3], alone, atol=1e-5)


def test_config_makes_the_same_attack():
    attack = attacks.get(json.loads(json.dumps(attacks.cw_l2(steps=10000, confidence=2.0).get_config())))
    assert (attack.steps, attack.confidence, attack.ball.eps) == (10000, 2.0, math.inf)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": -0.5}, "Invalid value for `eps`: expected a number of at least 0"),
        ({"steps": 0}, "Invalid value for `steps`"),
        ({"searches": 0}, "Invalid value for `searches`"),
        ({"initial_c": 0.0}, "Invalid value for `initial_c`: expected a positive number"),
        ({"learning_rate": math.inf}, "Invalid value for `learning_rate`: expected a positive number"),
        ({"confidence": -1.0}, "Invalid value for `confidence`: expected a number of at least 0"),
        ({"bounds": (0.0, 0.0)}, "Invalid value for `bounds`"),
    ],
)
def test_broken_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        attacks.cw_l2(**arguments)
