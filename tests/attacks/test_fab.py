"""The projections against linear programmes and bisection in NumPy; FAB against closed forms, and its promises."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from scipy import optimize

import tfrobust
from tfrobust import attacks
from tfrobust.attacks import L2, Linf
from tfrobust.attacks.hyperplanes import onto
from tfrobust.utils.random import ImageNoise

SHAPE = (3, 4, 2)


def plane(rows=30, bounds=(0.0, 1.0)):
    """Points in the box (some on its edges), normals with some zeros, rises from none to out of reach."""
    rng = np.random.default_rng(3)
    x = rng.uniform(*bounds, (rows, *SHAPE)).astype("float32")
    x[rng.random(x.shape) < 0.2] = bounds[0]
    x[rng.random(x.shape) < 0.2] = bounds[1]
    w = rng.normal(0, 1, x.shape).astype("float32")
    w[rng.random(x.shape) < 0.2] = 0.0
    return x, w, (rng.normal(0, 5, rows) * (bounds[1] - bounds[0])).astype("float32")


def reachable(x, w, bounds):
    """The least and the greatest w.d within the bounds."""
    ends = w * (bounds[0] - x), w * (bounds[1] - x)
    return np.minimum(*ends).sum((1, 2, 3)), np.maximum(*ends).sum((1, 2, 3))


def by_programme(x, w, rise, bounds):
    """min t with w.d = rise, |d_i| <= t, x + d within the bounds: SciPy's linear programme."""
    n = x.size
    x, w = x.ravel().astype("float64"), w.ravel().astype("float64")
    within = np.block([[np.eye(n), -np.ones((n, 1))], [-np.eye(n), -np.ones((n, 1))]])
    box = [(bounds[0] - v, bounds[1] - v) for v in x] + [(0, None)]
    goal = np.append(np.zeros(n), 1.0)
    return optimize.linprog(goal, within, np.zeros(2 * n), np.append(w, 0.0)[None], [float(rise)], box).fun


def by_bisection(x, w, rise, bounds):
    """The Euclidean projection: d = clip(t * w, box), t by SciPy's root finder."""
    x, w = x.astype("float64"), w.astype("float64")

    def way(t):
        return np.clip(t * w, bounds[0] - x, bounds[1] - x)

    return way(optimize.brentq(lambda t: (w * way(t)).sum() - rise, -1e6, 1e6, xtol=1e-12, maxiter=1000))


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 3.0)])
@pytest.mark.parametrize("ball", [Linf, L2])
def test_way_is_the_smallest_onto_the_plane(ball, bounds):
    x, w, rise = plane(bounds=bounds)
    d = np.asarray(onto(*map(ops.convert_to_tensor, (x, w, rise)), ball(0.1, bounds)))
    least, most = reachable(x, w, bounds)
    within = (rise > least) & (rise < most)
    assert 10 < within.sum() < len(rise)  # both kinds occur
    assert (x + d >= bounds[0] - 1e-6).all() and (x + d <= bounds[1] + 1e-6).all()
    assert not d[w == 0].any()
    np.testing.assert_allclose((w * d).sum((1, 2, 3)), np.clip(rise, least, most), rtol=1e-5, atol=1e-5)
    for i in np.flatnonzero(within):
        if ball is Linf:
            np.testing.assert_allclose(np.abs(d[i]).max(), by_programme(x[i], w[i], rise[i], bounds), atol=1e-5)
        else:
            np.testing.assert_allclose(d[i], by_bisection(x[i], w[i], rise[i], bounds), atol=1e-5)


@pytest.mark.parametrize("ball", [Linf, L2])
def test_way_where_there_is_none_to_go(ball):
    x = np.full((3, *SHAPE), 0.5, "float32")
    w = np.zeros_like(x)
    w[0] = 1.0
    rise = np.array([0.0, 1.0, -1.0], "float32")  # on the plane already; no normal
    np.testing.assert_array_equal(onto(x, w, rise, ball(0.1)), np.zeros_like(x))


@pytest.mark.parametrize("ball", [Linf, L2])
def test_way_of_a_large_image_is_exact(ball):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (2, 64, 64, 3)).astype("float32")
    w = (rng.normal(0, 1, x.shape) * 10.0 ** rng.uniform(-6, 0, x.shape)).astype("float32")  # six decades
    rise = (0.7 * reachable(x, w, (0, 1))[1]).astype("float32")
    d = np.asarray(onto(*map(ops.convert_to_tensor, (x, w, rise)), ball(0.1)), "float64")
    np.testing.assert_allclose((w * d).sum((1, 2, 3)), rise, rtol=1e-5)


def linear(classes=5, pixels=24, scale=1.0, seed=0):
    """A linear classifier, images in the middle of the range that are right with it, and its parameters."""
    rng = np.random.default_rng(seed)
    w = (scale * rng.normal(0, 1, (pixels, classes))).astype("float32")
    b = -0.5 * w.sum(axis=0) + scale * rng.normal(0, 0.3, classes).astype("float32")  # all boundaries pass nearby
    x = rng.uniform(0.4, 0.6, (12, *SHAPE)).astype("float32")
    y = np.argmax(x.reshape(12, -1) @ w + b, axis=-1).astype("int32")

    def classify(z):
        return {"logits": ops.matmul(ops.reshape(z, (-1, pixels)), w) + b}

    return classify, x, y, w.astype("float64"), b.astype("float64")


def nearest_boundary(x, y, w, b, norm):
    """min over wrong classes of gap / ||w_y - w_k||, in the dual norm."""
    logits = x.reshape(len(x), -1).astype("float64") @ w + b
    gaps = np.take_along_axis(logits, y[:, None], 1) - logits
    lengths = np.linalg.norm(w[:, y].T[:, :, None] - w[None], 1 if norm == "linf" else 2, axis=1)
    gaps[np.arange(len(y)), y] = np.inf
    return (gaps / np.maximum(lengths, 1e-30)).min(axis=1)


def sizes(z, x, norm):
    return np.linalg.norm((np.asarray(z) - x).reshape(len(x), -1), np.inf if norm == "linf" else 2, axis=1)


def predicted(classify, z):
    return np.argmax(np.asarray(classify(ops.convert_to_tensor(z))["logits"]), axis=-1)


def runs(attack, classify, x, y):
    """The results of all runs, by one graph."""
    search = tf.function(lambda x, y, run: attack.search(classify, x, y, 0, run), autograph=False)
    return [search(x, y, tf.constant(run)).numpy() for run in range(attack.runs(5))]


@pytest.mark.parametrize(
    ("targets", "scale"), [(0, 1.0), (9, 1.0), (0, 1e-6), pytest.param(0, 1e6, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_reaches_the_nearest_boundary_of_a_linear_classifier(norm, targets, scale):
    classify, x, y, w, b = linear(scale=scale)
    least = nearest_boundary(x, y, w, b, norm)
    z = x
    for run, found in enumerate(runs(attacks.fab(None, steps=30, norm=norm, targets=targets), classify, x, y)):
        assert (predicted(classify, found) != y).all()
        nearer = (sizes(found, x, norm) < sizes(z, x, norm)) | (run == 0)
        z = np.where(nearer[:, None, None, None], found, z)
    assert (sizes(z, x, norm) >= least * 0.999).all()
    np.testing.assert_allclose(sizes(z, x, norm), least, rtol=0.02)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_respects_the_pixel_range_as_well_as_a_programme_does(norm):
    classify, x, y, w, _ = linear(classes=2, seed=5)
    x = np.where(np.random.default_rng(1).random(x.shape) < 0.4, 0.0, x).astype("float32")
    y = predicted(classify, x)
    normal = (w[:, 1] - w[:, 0]).reshape(SHAPE)
    gap = np.asarray(classify(x)["logits"]) @ [1.0, -1.0]  # = -(normal.x + b1 - b0)
    z = np.asarray(attacks.fab(None, steps=40, norm=norm)(classify, x, y))
    assert z.min() >= 0 and z.max() <= 1 and (predicted(classify, z) != y).all()
    for i in range(len(x)):
        box = (0.0, 1.0)
        if norm == "linf":
            least = by_programme(x[i], normal, gap[i], box)
        else:
            least = np.linalg.norm(by_bisection(x[i], normal, gap[i], box))
        np.testing.assert_allclose(sizes(z, x, norm)[i], least, rtol=0.02)


def test_target_is_the_ranked_class_and_no_other_is_read():
    classify, x, y, w, _ = linear()
    logits = np.asarray(classify(x)["logits"])
    order = np.argsort(-logits, axis=-1)
    attack = attacks.fab(None, steps=20, norm="l2", targets=2, restarts=1)
    assert attack.runs(5) == 2 and attacks.fab(targets=9, restarts=3).runs(3) == 6 and attacks.fab().runs(5) == 1
    for run, z in enumerate(runs(attack, classify, x, y)):
        target = order[:, run + 1]
        normal = (w[:, target] - w[:, y]).T
        along = ((z - x).reshape(len(x), -1) * normal).sum(1) / np.linalg.norm(normal, axis=1)
        np.testing.assert_allclose(along, sizes(z, x, "l2"), rtol=1e-3)  # straight to the target's hyperplane


def test_adversaries_outside_the_ball_do_not_count():
    classify, x, y, w, b = linear()
    least = nearest_boundary(x, y, w, b, "linf")
    eps = float(np.median(least)) * 1.01
    z = np.asarray(attacks.fab(eps, steps=40)(classify, x, y))
    fooled = predicted(classify, z) != y
    np.testing.assert_array_equal(fooled, least < eps)
    assert 0 < fooled.sum() < len(y)
    assert sizes(z, x, "linf").max() <= eps
    np.testing.assert_array_equal(z[~fooled], x[~fooled])


def test_image_that_is_wrong_already_is_returned():
    classify, x, y, _, _ = linear()
    wrong = (y + 1) % 5
    np.testing.assert_array_equal(attacks.fab(None, steps=3)(classify, x, wrong), x)


def counted(classify):
    """The classifier, and how many times it was run."""
    calls = []

    def counting(z):
        tf.py_function(lambda: calls.append(1), [], [])
        return classify(z)

    return counting, calls


def test_ends_when_every_image_has_an_adversary():
    classify, x, y, _, _ = linear()
    counting, calls = counted(classify)
    attack = attacks.fab(0.3, steps=50)
    run = tf.function(lambda x, y: attack.search(counting, x, y), autograph=False)
    assert (predicted(classify, run(x, y)) != y).all()
    forwards, backwards = attack.cost(5)
    assert len(calls) < 15 < forwards == 101 and backwards == 200
    calls.clear()
    endless = attacks.fab(None, steps=50)
    tf.function(lambda x, y: endless.search(counting, x, y), autograph=False)(x, y)
    assert len(calls) == forwards  # the forward of all classes' gradients is shared


@pytest.fixture(scope="module")
def trained():
    """A small net of 4 classes that gets most of its 200 images right, and them."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 200).astype("int32")
    x = rng.uniform(0.1, 0.7, (200, 6, 6, 1)).astype("float32")
    for image, label in zip(x, y, strict=True):
        row, column = 3 * (label // 2), 3 * (label % 2)
        image[row : row + 3, column : column + 3] += 0.3
    inputs = keras.Input((6, 6, 1))
    h = keras.layers.Conv2D(8, 3, activation="relu", padding="same")(inputs)
    h = keras.layers.Dense(16, activation="relu")(keras.layers.Flatten()(h))
    logits = keras.layers.Dense(4)(h)
    net = keras.Model(inputs, logits)
    net.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.optimizer.learning_rate = 0.01
    net.fit(x, y, epochs=15, batch_size=32, verbose=0)
    classifier = keras.Model(inputs, {"logits": net.output})
    right = predicted(classifier, x) == y
    assert right.mean() > 0.9
    return classifier, x[right][:64], y[right][:64]


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_smaller_than_deepfool_on_a_trained_net(trained, norm):
    classifier, x, y = trained
    z = attacks.fab(None, steps=20, norm=norm)(classifier, x, y)
    assert (predicted(classifier, z) != y).all()
    other = attacks.deepfool(norm=norm)(classifier, x, y)
    assert (predicted(classifier, other) != y).all()
    ratio = sizes(z, x, norm) / sizes(other, x, norm)
    assert (ratio < 1.001).mean() > 0.95 and ratio.mean() < 0.98


def test_finds_what_a_long_pgd_finds(trained):
    classifier, x, y = trained
    pgd = attacks.cw_linf(0.08, steps=50, restarts=3)(classifier, x, y)
    fooled = (predicted(classifier, pgd) != y).mean()
    for targets in (0, 9):
        z = attacks.fab(0.08, steps=30, targets=targets)(classifier, x, y)
        assert 0.1 < fooled < 0.9 and (predicted(classifier, z) != y).mean() >= fooled - 0.02


@pytest.mark.parametrize("norm", [pytest.param("linf", marks=pytest.mark.slow), "l2"])
def test_mask_freezes_pixels(trained, norm):
    classifier, x, y = trained
    mask = np.zeros((6, 6, 1))
    mask[:, :4] = 1
    z = np.asarray(
        attacks.fab(2.0 if norm == "l2" else 0.6, steps=15, norm=norm, mask=mask, restarts=2)(classifier, x, y)
    )
    np.testing.assert_array_equal(z[:, :, 4:], x[:, :, 4:])
    assert (predicted(classifier, z) != y).mean() > 0.8


def test_noise_by_image_makes_figures_independent_of_the_batch(trained):
    classifier, x, y = trained
    attack = attacks.fab(0.3, steps=10, restarts=2)
    seed = ops.convert_to_tensor([3, 1], "int32")
    search = tf.function(
        lambda x, y, n: attack.search(classifier, x, y, ImageNoise(seed, n), 1), autograph=False, reduce_retracing=True
    )
    numbers = np.arange(16, dtype="int32")
    whole = np.asarray(search(x[:16], y[:16], numbers))
    parts = [np.asarray(search(x[i : i + 4], y[i : i + 4], numbers[i : i + 4])) for i in range(0, 16, 4)]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-5)
    again = np.asarray(search(x[:16], y[:16], numbers + 16))
    assert np.abs(again - whole).max() > 1e-4  # the start is random


def test_restarts_begin_halfway_to_the_edge():
    _, x, _, _, _ = linear()
    clean = np.zeros((len(x), 5), "float32")
    noise = tfrobust.attacks.Noise(0)
    for norm, mask in (("linf", None), ("l2", None), ("l2", np.arange(24).reshape(SHAPE) % 2)):
        attack = attacks.fab(0.3, norm=norm, restarts=2, targets=2, mask=mask)
        for run in range(4):
            start = attack._start(ops.convert_to_tensor(clean), ops.convert_to_tensor(x), run, noise)
            np.testing.assert_allclose(sizes(start, x, norm), 0.0 if run < 2 else 0.15, rtol=1e-5)


def biggest(graph, seen=None):
    """The greatest number of values of one tensor in a graph and in all functions it calls."""
    seen = set() if seen is None else seen
    most = max((t.shape.num_elements() or 0) for op in graph.get_operations() for t in op.outputs)
    for name in {f.name.decode() if isinstance(f.name, bytes) else f.name for f in graph._functions.values()} - seen:
        seen.add(name)
        inner = getattr(graph._get_function(name), "graph", None)
        most = max(most, biggest(inner, seen) if inner is not None else 0)
    return most


@pytest.mark.parametrize("attack", [attacks.fab(0.1, steps=2), attacks.deepfool(steps=2, candidates=100)])
def test_hundred_classes_hold_no_jacobian(attack):
    inputs = keras.Input((16, 16, 3))
    h = keras.layers.Conv2D(2, 3, activation="relu")(inputs)
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(100)(keras.layers.Flatten()(h))})
    x = np.random.default_rng(0).uniform(0.2, 0.8, (4, 16, 16, 3)).astype("float32")
    y = predicted(classifier, x).astype("int32")
    graph = tf.function(lambda x, y: attack.search(classifier, x, y), autograph=False).get_concrete_function(
        tf.TensorSpec(x.shape), tf.TensorSpec(y.shape, "int32")
    )
    weights = classifier.layers[-1].kernel.shape
    assert biggest(graph.graph) <= max(math.prod(weights), 2 * x.size) < 100 * x.size
    z = np.asarray(graph(tf.constant(x), tf.constant(y)))
    assert np.isfinite(z).all()


def test_two_classes():
    classify, x, y, w, b = linear(classes=2)
    for targets in (0, 9):
        attack = attacks.fab(None, steps=20, norm="l2", targets=targets)
        assert attack.runs(2) == 1
        np.testing.assert_allclose(
            sizes(attack(classify, x, y), x, "l2"), nearest_boundary(x, y, w, b, "l2"), rtol=0.02
        )


def test_random_classifier_under_expectation():
    classify, x, y, w, b = linear()

    def noisy(z, seed):
        return z + 0.004 * tf.random.stateless_normal(tf.shape(z), seed)

    attack = attacks.expectation(attacks.fab(None, steps=20, norm="l2"), noisy, samples=4)
    assert attack.cost(5) == (4 + 20 * (4 * 5 + 4), 20 * 16)
    ratio = sizes(attack(classify, x, y), x, "l2") / nearest_boundary(x, y, w, b, "l2")
    assert 0.8 < np.median(ratio) < 1.2  # the nearest that some mean of draws called wrong


def test_classifier_without_gradient_changes_nothing():
    def flat(z):
        return {
            "logits": ops.one_hot(ops.cast(ops.round(10 * z[:, 0, 0, 0]), "int32") * 0, 3)
            + 0.0 * ops.round(z[:, :1, 0, 0])
        }

    x = np.full((2, *SHAPE), 0.3, "float32")
    np.testing.assert_array_equal(attacks.fab(0.1, steps=3)(flat, x, np.zeros(2, "int32")), x)


def test_config_makes_the_same_attack():
    attack = attacks.fab(0.1, steps=7, norm="l2", targets=3)
    again = attacks.get(json.loads(json.dumps(attack.get_config())))
    assert (again.steps, again.targets, type(again.ball), again.ball.eps) == (7, 3, L2, 0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eps": -1}, "Invalid value for `eps`: expected a number of at least 0"),
        ({"eps": math.inf}, "Invalid value for `eps`"),
        ({"norm": "l1"}, "Unknown norm of fab: expected one of l2, linf"),
        ({"steps": 0}, "Invalid value for `steps`: expected an integer of at least 1"),
        ({"targets": -1}, "Invalid value for `targets`"),
        ({"targets": True}, "Invalid value for `targets`"),
        ({"restarts": 0}, "Invalid value for `restarts`"),
        ({"eps": None, "restarts": 2}, "expected a radius, for restarts begin at half of it"),
        ({"alpha_max": 1.5}, r"Invalid value for `alpha_max`: expected a number in \[0, 1\]"),
        ({"eta": 0.9}, "Invalid value for `eta`: expected a number of at least 1"),
        ({"beta": 0.0}, r"Invalid value for `beta`: expected a number in \(0, 1\]"),
        ({"bounds": (1.0, 0.0)}, "Invalid value for `bounds`"),
        ({"mask": [1.0]}, "Invalid value for `mask`"),
    ],
)
def test_broken_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        attacks.fab(**arguments)
