"""Balls: projections against closed forms, starts inside, refusals."""

import keras
import numpy as np
import pytest

from tfrobust.attacks import L1, L2, Linf, starts
from tfrobust.attacks.threat_model import NORMS, ball
from tfrobust.utils.random import Noise

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 1, (50, 4, 4, 3)).astype("float32")
FAR = (X + RNG.normal(0, 1, X.shape)).astype("float32")


def test_linf_projection_is_a_clip():
    np.testing.assert_allclose(Linf(0.1).project(FAR, X), np.clip(np.clip(FAR, X - 0.1, X + 0.1), 0, 1), atol=1e-6)


def test_l2_projection_scales_the_difference():
    wide = L2(0.7, bounds=(-99.0, 99.0))
    delta = np.asarray(wide.project(FAR, X)) - X
    norm = np.linalg.norm((FAR - X).reshape(50, -1), axis=1)
    np.testing.assert_allclose(delta, (FAR - X) * np.minimum(1, 0.7 / norm)[:, None, None, None], atol=1e-5)
    inside = X + 0.01
    np.testing.assert_allclose(wide.project(inside, X), inside, atol=1e-6)


def sorted_projection(v, budget):
    """The nearest point of the L1 ball, by sorting (Duchi et al. 2008)."""
    sizes = np.sort(np.abs(v))[::-1]
    if sizes.sum() <= budget:
        return v
    thetas = (np.cumsum(sizes) - budget) / np.arange(1, len(v) + 1)
    theta = thetas[np.flatnonzero(sizes > thetas)[-1]]
    return np.sign(v) * np.maximum(np.abs(v) - theta, 0)


@pytest.mark.parametrize("eps", [1e-4, 0.05, 0.3, 0.9])
def test_l1_projection_is_the_nearest_point(eps):
    wide = L1(eps, bounds=(-99.0, 99.0))
    delta = (FAR - X).reshape(50, -1).astype("float64")
    expected = [sorted_projection(v, eps * 48) for v in delta]
    np.testing.assert_allclose(np.asarray(wide.project(FAR, X) - X).reshape(50, -1), expected, atol=2e-6)


def test_l1_projection_of_equal_and_of_no_changes():
    one = np.zeros((1, 2, 2, 1), "float32")
    wide = L1(0.1, bounds=(-9.0, 9.0))
    np.testing.assert_allclose(wide.project(one + 1, one), one + 0.1, atol=1e-7)
    np.testing.assert_array_equal(wide.project(one, one), one)


@pytest.mark.parametrize("norm", NORMS)
def test_projection_stays_in_ball_and_bounds_and_is_idempotent(norm):
    b = ball(norm, 0.3)
    z = b.project(FAR, X)
    assert np.asarray(b.distance(z, X)).max() <= 0.3 + 1e-6
    assert np.asarray(z).min() >= 0 and np.asarray(z).max() <= 1
    np.testing.assert_allclose(b.project(z, X), z, atol=1e-6)


def test_distances():
    np.testing.assert_allclose(Linf(1).distance(FAR, X), np.abs(FAR - X).reshape(50, -1).max(1), rtol=1e-6)
    np.testing.assert_allclose(L1(1).distance(FAR, X), np.abs(FAR - X).reshape(50, -1).mean(1), rtol=1e-5)
    np.testing.assert_allclose(L2(1).distance(FAR, X), np.linalg.norm((FAR - X).reshape(50, -1), axis=1), rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_uniform_start_fills_the_ball(norm):
    x = np.full((2000, 2, 1, 1), 0.5, "float32")
    b = ball(norm, 0.2)
    delta = np.asarray(starts.uniform(b, x, Noise(3)) - x).reshape(2000, 2)
    assert np.asarray(b.distance(x + delta.reshape(x.shape), x)).max() <= 0.2 + 1e-6
    np.testing.assert_allclose(delta.mean(0), 0, atol=0.01)
    # Uniform in a disc, a square or a diamond: half of the area lies within 1 / sqrt(2) of the radius.
    size = {"linf": np.abs(delta).max(1), "l2": np.linalg.norm(delta, axis=1), "l1": np.abs(delta).mean(1)}[norm]
    assert abs((size < 0.2 / np.sqrt(2)).mean() - 0.5) < 0.05


def test_normal_start_is_small_and_not_zero():
    delta = np.asarray(starts.normal(Linf(0.3), np.full((50, 8, 8, 1), 0.5, "float32"), Noise(0))) - 0.5
    assert abs(delta.std() - 0.001) < 1e-4


def test_no_start_is_the_image_itself():
    np.testing.assert_array_equal(starts.clean(Linf(0.3), X, Noise(0)), X)


MASK = np.zeros((4, 4, 3), "int32")
MASK[1:3, 1:3] = 1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("mask", [MASK, MASK[..., :1], MASK[None], MASK.tolist(), MASK == 1])
def test_start_and_projection_change_nothing_outside_the_mask(norm, mask):
    b = ball(norm, 0.3, mask=mask)
    for z in (b.project(FAR, X), b.start(X, Noise(1))):
        np.testing.assert_array_equal(np.asarray(z)[:, MASK == 0], X[:, MASK == 0])
        assert (np.asarray(z)[:, MASK == 1] != X[:, MASK == 1]).any(axis=-1).all()  # every image moves inside
        assert np.asarray(b.distance(z, X)).max() <= 0.3 + 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_masked_projection_is_that_of_the_allowed_changes_alone(norm):
    wide = (-99.0, 99.0)
    only = np.where(MASK, FAR, X)
    np.testing.assert_allclose(ball(norm, 0.2, wide, MASK).project(FAR, X), ball(norm, 0.2, wide).project(only, X))
    everywhere = ball(norm, 0.2, wide, np.ones((4, 4, 1)))
    np.testing.assert_array_equal(everywhere.project(FAR, X), ball(norm, 0.2, wide).project(FAR, X))
    np.testing.assert_array_equal(everywhere.start(X, Noise(2)), ball(norm, 0.2, wide).start(X, Noise(2)))


def test_mask_of_each_image_of_a_batch():
    masks = (RNG.uniform(size=X.shape) < 0.5) * 1
    z = np.asarray(Linf(0.1, mask=masks).project(FAR, X))
    np.testing.assert_array_equal(z[masks == 0], X[masks == 0])
    assert (z[masks == 1] != X[masks == 1]).any()


@pytest.mark.parametrize("norm", NORMS)
def test_masked_start_fills_the_ball_of_the_allowed_values(norm):
    x = np.full((2000, 2, 2, 1), 0.5, "float32")
    mask = [[[1], [0]], [[0], [1]]]
    delta = np.asarray(ball(norm, 0.1, mask=mask).start(x, Noise(3)) - x).reshape(2000, 4)[:, [0, 3]]
    # As without a mask in two dimensions, but for L1, whose mean is over all four values.
    size = {"linf": np.abs(delta).max(1), "l2": np.linalg.norm(delta, axis=1), "l1": np.abs(delta).sum(1) / 4}[norm]
    assert size.max() <= 0.1 + 1e-6
    np.testing.assert_allclose(delta.mean(0), 0, atol=0.01)
    assert abs((size < 0.1 / np.sqrt(2)).mean() - 0.5) < 0.05


def test_masked_gradients_are_zero_outside_even_where_they_are_not_finite():
    gradient = np.where(MASK, 2.0, np.inf)[None].astype("float32")
    np.testing.assert_array_equal(Linf(0.1, mask=MASK).masked(gradient), np.where(MASK, 2.0, 0.0)[None])


def test_mask_has_to_fit_the_images():
    with pytest.raises(ValueError, match=r"expected \(H, W, C\) of the images, \(4, 4, 3\)\. Received: \(8, 8, 1\)"):
        Linf(0.1, mask=np.ones((8, 8, 1))).project(FAR, X)


def test_schedule_of_eps():
    ramp = keras.optimizers.schedules.PolynomialDecay(0.0, decay_steps=10, end_learning_rate=0.4)
    b = Linf(ramp)
    np.testing.assert_allclose(float(b.at(5).radius), 0.2, rtol=1e-6)
    np.testing.assert_allclose(b.at(0).project(FAR, X), X, atol=0)  # eps 0 is the identity
    with pytest.raises(ValueError, match=r"schedule: expected `ball\.at"):
        _ = b.radius


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Linf(-0.1), "expected a number of at least 0. Received: -0.1"),
        (lambda: L2(-1), "expected a number of at least 0"),
        (lambda: Linf(float("nan")), "expected a number of at least 0"),
        (lambda: Linf(8), "expected at most the pixel range 1, as a fraction"),
        (lambda: L1(8), "expected at most the pixel range 1, as a fraction"),
        (lambda: Linf(0.1, bounds=(1, 0)), "Invalid value for `bounds`"),
        (lambda: Linf(0.1, mask=[[1, 0]]), r"Invalid value for `mask`: .* \(H, W, C\)\. Received: shape \(1, 2\)"),
        (lambda: Linf(0.1, mask=MASK * 0.5), "expected 1 where a pixel may change .* Received: values from 0 to 0.5"),
        (lambda: Linf(0.1, mask=MASK * np.nan), "Received: values from nan to nan"),
        (lambda: Linf(0.1, mask=MASK * 0), "Received: 0 everywhere"),
        (lambda: Linf(0.1, mask="center"), "Invalid value for `mask`.* Received: 'center'"),
        (lambda: ball("l3", 0.1), "Unknown norm: expected one of l1, l2, linf"),
        (lambda: starts.get("unifrom"), "Did you mean 'uniform'"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()
