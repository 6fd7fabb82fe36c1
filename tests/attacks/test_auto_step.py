"""Auto-PGD's step rule by hand and against a loop in NumPy, without any gradient taken: under every backend."""

import numpy as np
import pytest
from keras import ops

from tfrobust.attacks import L2, Linf, Normalized, Sign
from tfrobust.attacks.apgd import AutoStep, control_points

RNG = np.random.default_rng(8)
X = RNG.uniform(0.0, 1.0, (6, 3, 3, 2)).astype("float32")
TOP = RNG.uniform(0.0, 1.0, X.shape)
BEND = np.linspace(0.5, 4.0, X[0].size).reshape(X[0].shape)


def bowl(z):
    """A concave loss that bends more in some directions, and its gradient."""
    return coarse(-(BEND * (z - TOP) ** 2).sum((1, 2, 3)), -2 * BEND * (z - TOP))


def wave(z):
    """A loss with many tops, and its gradient."""
    return coarse(np.sin(11 * z + 5 * TOP).sum((1, 2, 3)), 11 * np.cos(11 * z + 5 * TOP))


def coarse(value, gradient):
    """Both to few digits: at a top it is then not float32's rounding that decides on signs."""
    return np.round(value, 3), np.round(gradient, 2)


def test_control_points():
    assert control_points(100) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert control_points(50) == [11, 21, 30, 38, 45]  # after 11 steps, then one less each time; the sixth were 51
    assert control_points(10) == list(range(2, 11))
    assert control_points(1) == [1]
    with pytest.raises(ValueError, match="`steps`: expected an integer of at least 1"):
        control_points(0)


def numpy_apgd(loss, x, eps, l2, first):
    """Algorithm 1 on one image in 100 steps: every iterate, and for each control point whether it was halved."""
    points = [22, 41, 57, 70, 80, 87, 93, 99]

    def project(z):
        delta = z - x
        delta = delta * min(1, eps / max(np.linalg.norm(delta), 1e-12)) if l2 else np.clip(delta, -eps, eps)
        return np.clip(x + delta, 0, 1)

    def stepped(z, g, size):
        return project(z + size * (g / (np.linalg.norm(g) + 1e-12) if l2 else np.sign(g)))

    path, values, gradients, halvings = [x], [], [], []
    z, before, size = x, None, first * eps
    for k in range(100):
        value, g = loss(path[k])
        values.append(value)
        gradients.append(g)
        if k in points:
            start = points[points.index(k) - 1] if k > 22 else 0
            rises = sum(values[i + 1] > values[i] for i in range(start, k))
            same = max(values[: start + 1]) == max(values)
            halvings.append(rises <= 0.75 * (k - start) or (k > 22 and not halvings[-1] and same))
            if halvings[-1]:
                best = int(np.argmax(values))
                size, z, g = size / 2, path[best], gradients[best]
        new = stepped(z, g, size)
        if before is not None:
            new = project(z + 0.75 * (new - z) + 0.25 * (z - before))
        before, z = z, new
        path.append(z)
    return path, halvings


@pytest.mark.parametrize(
    ("ball", "rule", "loss", "first"),  # every pair; the small first step rises for long before it is halved
    [
        (Linf(0.1), Sign(1.0), bowl, 0.03),
        pytest.param(Linf(0.1), Sign(1.0), wave, 2.0, marks=pytest.mark.slow),
        pytest.param(L2(0.4), Normalized(1.0), bowl, 2.0, marks=pytest.mark.slow),
        (L2(0.4), Normalized(1.0), wave, 0.03),
    ],
)
def test_the_iterates_are_those_of_a_numpy_loop(ball, rule, loss, first):
    step = AutoStep(rule, 100, first=first)
    z, state, path = X, step.init(ops.convert_to_tensor(X)), [X]
    for _ in range(100):
        value, gradient = loss(z.astype("float64"))
        z, state = step(z, gradient.astype("float32"), value.astype("float32"), ball, state)
        z = ops.convert_to_numpy(ball.project(z, X))
        path.append(z)
    halved = set()
    for row in range(len(X)):

        def one(v, row=row):
            value, gradient = loss(np.repeat(v[None], len(X), 0))
            return value[row], gradient[row]

        expected, halvings = numpy_apgd(one, X[row].astype("float64"), ball.radius, isinstance(ball, L2), first)
        np.testing.assert_allclose([z[row] for z in path], expected, atol=2e-4)
        np.testing.assert_allclose(state.size[row], first * 0.5 ** sum(halvings))
        halved.update(map(bool, halvings))
    assert halved == {True, False} or first == 2.0  # both ways were taken


def after(values, steps=100):
    """The state after calls with these values, one of each image in a column."""
    step, ball = AutoStep(Sign(1.0), steps), Linf(0.1)
    rows = np.full((len(values[0]), 2, 2, 1), 0.5, "float32")
    state = step.init(ops.convert_to_tensor(rows))
    for k, value in enumerate(values):
        z = rows + 0.001 * k  # so that one sees where it goes on from
        moved, state = step(z, rows, np.asarray(value, "float32"), ball, state)
    return ops.convert_to_numpy(moved)[:, 0, 0, 0], state


def rising(rises, steps=22, first=0.0):
    """Values of a search whose first steps lower them and whose last ones, so many, raise them."""
    return [first - min(k, steps - rises) + 10 * max(0, k - steps + rises) for k in range(steps + 1)]


def test_it_halves_where_at_most_three_quarters_of_the_steps_raised_the_value():
    for first in (0.0, 1000.0, -1000.0):  # the start itself is no rise
        values = list(zip(*(rising(count, first=first) for count in (22, 17, 16, 0)), strict=True))
        np.testing.assert_allclose(after(values)[1].size, [2, 2, 1, 1])  # 16.5 of the 22
    np.testing.assert_allclose(after(values[:22])[1].size, 2.0)  # not before the control point
    values = list(zip(*(rising(count, 11) for count in (11, 9, 8, 0)), strict=True))
    np.testing.assert_allclose(after(values, steps=50)[1].size, [2, 2, 1, 1])  # 8.25 of the 11


def test_three_quarters_are_not_enough():
    up = [float(k) for k in range(42)]  # to the second control point; the third has an interval of 16
    columns = [up + rising(count, 16, first=41.0)[1:] for count in (13, 12)]
    np.testing.assert_allclose(after(list(zip(*columns, strict=True)))[1].size, [2, 1])


def test_it_halves_where_the_best_value_stays_unless_it_has_just_halved():
    steady, low = rising(22), [-100.0 + k for k in range(19)]  # 18 of the next 19 steps raise it, far below the best
    better = [*low[:-1], 1000.0]
    falling = rising(0)
    columns = [steady + low, steady + better, falling + low, falling + better]
    values = list(zip(*columns, strict=True))
    np.testing.assert_allclose(after(values[:23])[1].size, [2, 2, 1, 1])
    np.testing.assert_allclose(after(values)[1].size, [1, 2, 1, 1])
    again = [column + [-200.0 + k for k in range(16)] for column in columns]  # the third point: 16 more steps
    np.testing.assert_allclose(after(list(zip(*again, strict=True)))[1].size, [1, 1, 0.5, 0.5])


def test_it_goes_on_from_the_best_point_and_its_gradient():
    values = [[float(k), 9.0 if k == 7 else -float(k)] for k in range(23)]
    moved, state = after(values)
    last = 0.5 + 0.001 * np.array([22, 7])  # the first image goes on, the second went back to its eighth point
    np.testing.assert_allclose(state.last[:, 0, 0, 0], last, atol=1e-6)
    target = np.array([0.6, 0.6])  # a step of 0.2 or 0.1 upwards ends at the surface
    np.testing.assert_allclose(moved, last + 0.75 * (target - last) + 0.25 * (last - 0.521), atol=1e-6)
    assert np.isfinite(moved).all()


def test_the_gradient_of_the_best_point_is_kept_with_it():
    step, ball = AutoStep(Sign(1.0), 10), Linf(0.1)  # control points from 2 on
    x = np.full((1, 2, 2, 1), 0.5, "float32")
    state = step.init(ops.convert_to_tensor(x))
    for sign, value in ((1.0, 3.0), (-1.0, 2.0), (-1.0, 1.0)):
        moved, state = step(x, sign * np.ones_like(x), np.array([value], "float32"), ball, state)
    np.testing.assert_allclose(moved, x + 0.75 * 0.1, atol=1e-6)  # up, as the gradient at the first point


def test_where_no_value_is_a_number_the_start_is_the_best():
    moved, state = after([[np.nan, np.nan]] * 30)
    assert np.isfinite(moved).all()
    np.testing.assert_array_equal(state.best, 0.5)
    np.testing.assert_allclose(state.size, 1.0)
