"""Expectation over transformation: value and gradient of the mean over draws."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfrobust import attacks
from tfrobust.attacks.gradients import Exact, Expected
from tfrobust.utils.random import Noise

RNG = np.random.default_rng(3)
X = RNG.uniform(0.3, 0.7, (5, 4, 4, 1)).astype("float32")
TOP = RNG.uniform(0.0, 1.0, X.shape).astype("float32")


def bowl(z):
    """Concave, with its top at TOP."""
    return -ops.sum((z - TOP) ** 2, axis=(1, 2, 3))


def noisy(z, seed):
    return z + 0.3 * tf.random.stateless_normal(tf.shape(z), seed)


def halved(z, seed):
    """Half of the pixels, drawn anew, are 0."""
    return z * tf.cast(tf.random.stateless_uniform(tf.shape(z), seed) < 0.5, z.dtype)


def draws(oracle, noise):
    """The transformations of the zero image that the oracle's draws are."""
    return [np.asarray(noisy(tf.zeros(X.shape), noise.fold(k).seed)) for k in range(oracle.samples)]


def test_mean_of_noise_on_a_quadratic_loss():
    oracle, noise = Expected(noisy, samples=6), Noise(1)
    value, observed, gradient = oracle(bowl, tf.constant(X), noise)
    shifts = draws(oracle, noise)
    # mean_k -|x + e_k - t|^2 has the gradient -2 (x + mean e - t).
    np.testing.assert_allclose(gradient, -2 * (X + np.mean(shifts, 0) - TOP), atol=1e-5)
    expected = -np.mean([((X + e - TOP) ** 2).sum((1, 2, 3)) for e in shifts], 0)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(oracle.value(bowl, tf.constant(X), noise)[0], expected, rtol=1e-5)
    assert observed is None
    assert np.abs(np.mean(shifts, 0)).max() > 0.05  # the draws differ from each other and from 0
    assert len({float(e[0, 0, 0, 0]) for e in shifts}) == 6


def test_many_draws_come_near_the_expectation():
    _, _, gradient = tf.function(lambda x: Expected(noisy, samples=400)(bowl, x, Noise(2)))(X)
    np.testing.assert_allclose(gradient, -2 * (X - TOP), atol=0.15)  # 2 * 0.3 / sqrt(400) = 0.03 is one deviation
    assert np.abs(gradient + 2 * (X - TOP)).max() > 0.01


def test_pixels_that_are_dropped_at_random():
    value, _, gradient = tf.function(lambda x: Expected(halved, samples=500)(bowl, x, Noise(3)))(X)
    # E -|m x - t|^2 with m = 0 or 1: -(|x - t|^2 + |t|^2) / 2, gradient -(x - t).
    np.testing.assert_allclose(gradient, -(X - TOP), atol=0.2)
    np.testing.assert_allclose(value, -(((X - TOP) ** 2) + TOP**2).sum((1, 2, 3)) / 2, rtol=0.05)


@pytest.mark.parametrize("transformation", [None, lambda z, seed: z])
def test_the_identity_changes_nothing(transformation):
    for norm in ("linf", "l2"):
        plain = attacks.pgd(eps=0.2, steps=5, step_size=0.03, norm=norm)
        same = attacks.expectation(plain, transformation, samples=3)
        np.testing.assert_allclose(same.ascend(bowl, X, 4)[0], plain.ascend(bowl, X, 4)[0], atol=1e-6)


def test_what_is_observed_is_averaged():
    def loss(z):
        return bowl(z), ops.cast(z[:, 0, 0, 0] > 0.5, "int32")

    oracle, noise = Expected(noisy, samples=8), Noise(5)
    _, observed, _ = oracle(loss, tf.constant(X), noise)
    np.testing.assert_allclose(
        observed, np.mean([X[:, 0, 0, 0] + e[:, 0, 0, 0] > 0.5 for e in draws(oracle, noise)], 0)
    )


def test_draws_are_new_at_every_step():
    seen = []

    def transformation(z, seed):
        tf.py_function(lambda s: seen.append(tuple(s.numpy())), [seed], [])
        return z

    attacks.expectation(attacks.pgd(eps=0.1, steps=3, start="none"), transformation, samples=4).ascend(bowl, X)
    assert len(seen) == len(set(seen)) == 12


@pytest.mark.parametrize("samples", [1, 7])
def test_a_step_asks_as_often_as_it_draws(samples):
    asked = []

    def loss(z):
        tf.py_function(lambda: asked.append(1), [], [])
        return bowl(z)

    attack = attacks.expectation(attacks.pgd(eps=0.1, steps=3), samples=samples)
    attack.ascend(loss, X)
    assert len(asked) == 3 * samples
    assert attack.maximizing(lambda views: views.y).cost(10) == (3 * samples, 3 * samples)


def test_it_goes_through_every_place_that_holds_the_oracle():
    for attack in (attacks.pgd(), attacks.cw_linf(), attacks.transfer(lambda z: z, "mim")):
        changed = attacks.expectation(attack, noisy, 5)
        assert type(changed) is type(attack)
        assert isinstance(attack.gradients, Exact) and changed.gradients.samples == 5
        inner = getattr(changed, "attack", changed)
        assert inner.gradients is changed.gradients


def test_a_mean_over_many_looks_climbs_higher_than_one():
    def very_noisy(z, seed):
        return z + 3.0 * tf.random.stateless_normal(tf.shape(z), seed)

    plain = attacks.pgd(eps=0.3, step_size=0.05, steps=6, start="none")

    def climbed(samples):
        attack = attacks.expectation(plain, very_noisy, samples)
        return tf.function(lambda x: attack.ascend(bowl, x)[0])(X)

    few, many = climbed(1), climbed(100)
    assert np.mean(bowl(many) - bowl(few)) > 0.05


class Queries(attacks.Attack):
    pass


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: attacks.expectation(Queries(attacks.Linf(0.1))), "follows gradients. Received: one of queries alone"),
        (lambda: attacks.expectation(attacks.pgd(), transformation=3), "Invalid value for `transformation`"),
        (lambda: attacks.expectation(attacks.pgd(), samples=0), "`samples`: expected an integer of at least 1"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()
