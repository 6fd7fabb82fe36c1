"""Step rules by closed forms, without any gradient taken: they pass under every backend."""

import numpy as np
import pytest
from keras import ops

from tfrobust.attacks import L1, Gradient, Linf, Momentum, Normalized, RelativeStepSize, Sign, TopKGradient

RNG = np.random.default_rng(2)
Z = RNG.uniform(0, 1, (3, 2, 3, 2)).astype("float32")
G = RNG.normal(0, 1, Z.shape).astype("float32")
SUM = np.abs(G).sum((1, 2, 3), keepdims=True)
LENGTH = np.sqrt((G**2).sum((1, 2, 3), keepdims=True))


def move(step, gradient=G, ball=None, state=None):
    state = step.init(Z) if state is None else state
    z, state = step(Z, gradient, np.zeros(3, "float32"), ball or Linf(0.1), state)
    return ops.convert_to_numpy(z) - Z, state


def kept(gradient, count):
    """The `count` largest sizes of each image."""
    sizes = np.abs(gradient).reshape(len(gradient), -1)
    least = np.sort(sizes)[:, -count]
    return (sizes >= least[:, None]).reshape(gradient.shape)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Sign(0.02), 0.02 * np.sign(G)),
        (Sign(RelativeStepSize(0.5)), 0.05 * np.sign(G)),
        (Gradient(0.3), 0.3 * G),
        (Normalized(0.2), 0.2 * G / LENGTH),
        (Momentum(Sign(0.02)), 0.02 * np.sign(G)),
        (TopKGradient(0.01), 0.01 * 12 * G / SUM),
        (TopKGradient(0.01, share=0.25), 0.01 * 12 * G / SUM * kept(G, 3)),
        (TopKGradient(0.01, share=0.01), 0.01 * 12 * G / SUM * kept(G, 1)),
    ],
)
def test_one_step(step, expected):
    np.testing.assert_allclose(move(step)[0], expected, atol=1e-6)


def test_the_whole_gradient_moves_by_size_in_mean_and_a_mask_by_less():
    assert np.allclose(np.abs(move(TopKGradient(0.03))[0]).mean((1, 2, 3)), 0.03, atol=1e-6)
    means = [np.abs(move(TopKGradient(0.03, share=p))[0]).mean() for p in (1 / 6, 1 / 3, 2 / 3, 1.0)]
    assert means == sorted(means) and means[0] < means[-1]


def test_a_fixed_mask_is_that_of_the_first_step():
    later = np.random.default_rng(5).normal(0, 1, Z.shape).astype("float32")
    total = np.abs(later).sum((1, 2, 3), keepdims=True)
    fixed, anew = TopKGradient(0.01, share=0.5, fixed_mask=True), TopKGradient(0.01, share=0.5)
    _, state = move(fixed)
    np.testing.assert_allclose(move(fixed, later, state=state)[0], 0.12 * later / total * kept(G, 6), atol=1e-6)
    np.testing.assert_allclose(move(anew, later)[0], 0.12 * later / total * kept(later, 6), atol=1e-6)
    assert (kept(G, 6) != kept(later, 6)).any()


@pytest.mark.parametrize("make", [Sign, Normalized, Gradient, TopKGradient, lambda s: Momentum(Sign(s))])
def test_a_zero_gradient_moves_nothing(make):
    np.testing.assert_array_equal(move(make(0.1), np.zeros_like(G))[0], 0)


@pytest.mark.parametrize("make", [Sign, Normalized, TopKGradient])
def test_the_length_of_a_step_does_not_depend_on_that_of_the_gradient(make):
    np.testing.assert_allclose(move(make(0.1), 1e-28 * G)[0], move(make(0.1))[0], atol=1e-5)


def test_momentum_adds_up():
    step = Momentum(Gradient(1.0), decay=0.5)
    _, state = move(step)
    np.testing.assert_allclose(move(step, state=state)[0], 1.5 * G / SUM, atol=1e-6)


def test_sizes_follow_a_schedule_of_eps():
    half = L1(lambda epoch: 0.1 * epoch).at(2.0)
    np.testing.assert_allclose(move(TopKGradient(RelativeStepSize(0.5)), ball=half)[0], 0.1 * 12 * G / SUM, atol=1e-6)


@pytest.mark.parametrize(
    "make", [Sign, Normalized, TopKGradient, lambda s: Momentum(Sign(s)), lambda s: Momentum(Normalized(s))]
)
@pytest.mark.parametrize("wild", [1e37, 3e38, np.inf])
def test_a_wild_gradient_makes_a_step_and_no_nan(make, wild):
    gradient = G.copy()
    gradient[0, 0, 0, 0] = wild
    moved = move(make(0.1), gradient)[0]
    assert np.isfinite(moved).all() and moved[0, 0, 0, 0] > 0.01
    np.testing.assert_allclose(moved[1:], move(make(0.1))[0][1:], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-33, 1e36])
def test_momentum_does_not_depend_on_the_length_of_the_gradient(scale):
    step = Momentum(Gradient(1.0))
    np.testing.assert_allclose(move(step, np.float32(scale) * G)[0], G / SUM, rtol=1e-4, atol=1e-6)


def test_a_mask_leaves_values_without_gradient_alone():
    sparse = np.zeros_like(G)
    sparse[:, 0, 0, 0] = 1.0
    fixed = TopKGradient(0.01, share=0.5, fixed_mask=True)
    _, state = move(fixed, sparse)
    assert (move(fixed, state=state)[0] != 0).sum() == 3  # one value of each image, as at the first step
