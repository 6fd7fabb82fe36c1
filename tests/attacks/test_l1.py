"""The ball of the mean absolute change: projection, step and FGSM against programmes of SciPy."""

import numpy as np
import pytest
from keras import ops
from scipy.optimize import linprog, minimize

from tfrobust import attacks, evaluation
from tfrobust.attacks import L1
from tfrobust.attacks.steps import Greedy
from tfrobust.evaluation import alarms
from tfrobust.utils.random import Noise

RNG = np.random.default_rng(8)
X = RNG.uniform(0, 1, (20, 2, 3, 2)).astype("float32")
X[RNG.random(X.shape) < 0.2] = 0.0
X[RNG.random(X.shape) < 0.2] = 1.0
G = RNG.normal(0, 1, X.shape).astype("float32")
N = 12


def linear(z):
    return ops.sum(G * z, axis=(1, 2, 3))


def greatest_rise(x, g, budget, bounds=(0.0, 1.0)):
    """max g.d with |d|_1 <= budget and x + d within the bounds, d = up - down: SciPy's linear programme."""
    up, down = bounds[1] - x, x - bounds[0]
    box = [(0.0, float(room)) for room in (*up, *down)]
    found = linprog(np.concatenate([-g, g]), A_ub=np.ones((1, 2 * len(x))), b_ub=[budget], bounds=box)
    return -found.fun


@pytest.mark.parametrize("eps", [0.01, 0.05, 0.2, 0.9])
def test_fgsm_is_the_optimum_of_a_linear_loss(eps):
    z = np.asarray(attacks.fgsm(eps, norm="l1").ascend(linear, X)[0])
    assert np.abs(z - X).mean((1, 2, 3)).max() <= eps + 1e-6 and z.min() >= 0 and z.max() <= 1
    for x, g, found in zip(X, G, z, strict=True):
        rise = greatest_rise(x.ravel(), g.ravel(), eps * N)
        np.testing.assert_allclose((g * (found - x)).sum(), rise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_within_other_bounds_a_mask_and_towards_targets(targeted):
    mask = (RNG.random(X.shape[1:]) < 0.5) * 1
    mask[0, 0, 0] = 1
    wide = 2 * X - 1
    attack = attacks.fgsm(0.1, norm="l1", bounds=(-1, 1), mask=mask, targeted=targeted)
    z = np.asarray(attack.ascend(linear, wide)[0])
    np.testing.assert_array_equal(z[:, mask == 0], wide[:, mask == 0])
    for x, g, found in zip(wide, G * (-1 if targeted else 1) * mask, z, strict=True):
        rise = greatest_rise(x.ravel(), g.ravel(), 0.1 * N, (-1.0, 1.0))
        np.testing.assert_allclose((g * (found - x)).sum(), rise, rtol=1e-4, atol=1e-5)


def test_steps_move_few_values_no_farther_than_their_bounds_and_fall_from_the_radius():
    step, sizes = Greedy(0.02), []
    state = step.init(X)
    for _ in range(20):
        z, state = step(X, G, None, L1(0.1), state)
        moved = np.asarray(z) - X
        assert ((moved != 0).sum((1, 2, 3)) < 8).all() and (moved * G >= 0).all()
        assert (z >= -1e-6).numpy().all() and (z <= 1 + 1e-6).numpy().all()
        sizes.append(np.abs(moved).mean((1, 2, 3)).max())
    np.testing.assert_allclose(sizes, 0.1 * np.maximum(0.2 ** (np.arange(20) * 0.2 / 2.5), 0.2), rtol=1e-4)


def nearest_in_both(d, x, budget):
    """The point of ball and box nearest to x + d, d = sizes times signs, by SciPy."""
    room = np.where(d > 0, 1 - x, x)
    sizes = np.abs(d)
    low, high = 0.0, sizes.max()
    for _ in range(200):
        theta = (low + high) / 2
        fits = np.minimum(np.maximum(sizes - theta, 0), room).sum() <= budget
        low, high = (low, theta) if fits else (theta, high)
    first = np.minimum(np.maximum(sizes - high, 0), room)
    # An independent look: no feasible point is nearer.
    found = minimize(
        lambda s: 0.5 * np.square(s - sizes).sum(), first, jac=lambda s: s - sizes, method="SLSQP",
        bounds=[(0.0, r) for r in room],
        constraints={"type": "ineq", "fun": lambda s: budget - s.sum(), "jac": lambda s: -np.ones_like(s)},
    )  # fmt: skip
    return np.sign(d) * found.x


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3])
def test_projection_is_the_nearest_point_of_ball_and_box(eps):
    z = X + RNG.normal(0, 0.7, X.shape).astype("float32")
    found = np.asarray(L1(eps).project(z, X)) - X
    for d, x, its in zip((z - X).astype("float64"), X, found, strict=True):
        expected = nearest_in_both(d.ravel(), x.ravel().astype("float64"), eps * N)
        np.testing.assert_allclose(its.ravel(), expected, atol=2e-4)


def test_the_radius_is_used_up_where_the_box_cuts():
    z = L1(0.1).project(X + 5 * G, X)
    np.testing.assert_allclose(L1(0.1).distance(z, X), 0.1, rtol=1e-4)


def test_pgd_finds_what_needs_two_values():
    """A logit that answers to two values alone: a third of all, as before, never got there."""
    weights = np.full((64,), 0.01, "float32")
    weights[[5, 40]] = 4.0

    def classify(z):
        score = ops.sum(ops.reshape(z, (-1, 64)) * weights, axis=-1) - 4.0
        return {"logits": ops.stack([-score, score], axis=-1)}

    x = np.full((3, 8, 8, 1), 0.2, "float32")
    y = np.zeros(3, "int32")
    needed = (4.0 - float(x[0].ravel() @ weights)) / 4.0 / 64  # the mean change of these two
    report = evaluation.evaluate(classify, (x, y), eps=1.05 * needed, norm="l1", probes=0, verbose=False)
    assert report.clean_accuracy == 1 and report.robust_accuracy == 0


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow), "l1"])
def test_every_evaluation_in_l1_says_what_is_missing(norm, make_classifier, batch):
    report = evaluation.evaluate(make_classifier(), batch, eps=0.01, norm=norm, probes=0, verbose=False)
    assert any("L1 ball" in sentence for sentence in report.alarms) == (norm == "l1")
    assert "l1" in report.checks and "l1" in alarms.CHECKS


def test_the_start_lies_in_the_ball():
    z = L1(0.1).start(X, Noise(0))
    assert np.asarray(L1(0.1).distance(z, X)).max() <= 0.1 + 1e-6
