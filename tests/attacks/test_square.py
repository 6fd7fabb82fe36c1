"""Square Attack: its schedule, its proposals, and where it ends on classifiers with a known answer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrobust
from tfrobust import attacks, losses
from tfrobust.attacks import L1, L2, Linf
from tfrobust.attacks.square import Square, share
from tfrobust.attacks.squares import Squares, Windows, entries, halved, pyramids, table, undivided
from tfrobust.utils.random import Noise

RNG = np.random.default_rng(3)
SHAPE = (6, 5, 2)
X = RNG.uniform(0, 1, (40, *SHAPE)).astype("float32")
W = RNG.normal(0, 1, (60, 2)).astype("float32")


def linear(z):
    """Two classes, with the logits 0 and w.(z - 1/2)."""
    own = ops.matmul(ops.reshape(z - 0.5, (-1, 60)), W[:, :1])
    return {"logits": ops.concatenate([ops.zeros_like(own), own], axis=-1)}


def labels(classify, x):
    return np.argmax(classify(x)["logits"], axis=-1)


def margins(classify, x, y):
    return np.asarray(losses.margin(classify(x)["logits"], y))


def trace(attack, classify, x, y, seed=0):
    """Returns every point that an attack asks for, as queries x images."""
    asked = []

    def watched(z):
        tf.py_function(lambda z: asked.append(z.numpy()), [z], [])
        return classify(z)

    tf.function(lambda x, y: attack.search(watched, x, y, seed), autograph=False)(x, y)
    return asked


# --- the schedule


HALVED = {1: 0, 10: 0, 11: 1, 50: 1, 51: 2, 200: 2, 201: 3, 500: 3, 501: 4, 1000: 4, 1001: 5, 2000: 5, 2001: 6}
HALVED |= {4000: 6, 4001: 7, 6000: 7, 6001: 8, 8000: 8, 8001: 9, 10**6: 9}


@pytest.mark.parametrize(("query", "halvings"), HALVED.items())
def test_share_of_the_image(query, halvings):
    assert share(0.8, query) == 0.8 / 2**halvings


def test_sides_of_squares():
    assert [Squares.side(p, 32, 32) for p in (0.8, 0.4, 0.05, 0.0125, 1e-5)] == [29, 20, 7, 4, 1]
    assert Squares.side(1.0, 4, 25) == 4  # no wider than the image
    assert [Windows.side(p, 32, 32) for p in (1.0, 0.8, 0.4, 0.05, 1e-5)] == [31, 29, 21, 7, 3]
    assert [Windows.side(0.8, n, n) for n in (2, 3, 4, 5, 8)] == [1, 3, 3, 5, 7]


@pytest.mark.parametrize("length", [5, 6])
def test_places_are_uniform_and_reach_both_ends(length):
    sides = [3, 1]
    drawn = np.linspace(-1, 1, 1200, endpoint=False).astype("float32")
    taken = ops.take(table(np.ones, length, sides), entries(np.stack([drawn, drawn], 1), length, sides), axis=0)
    for rows, side in zip(np.moveaxis(np.asarray(taken), 1, 0), sides, strict=True):
        assert (rows.sum(axis=1) == side).all()
        firsts = np.bincount(rows.argmax(axis=1), minlength=length)
        np.testing.assert_allclose(firsts[: length - side + 1], 1200 / (length - side + 1), atol=1.5)
    last = np.float32(1) - np.float32(2**-24)  # rounds up to the end
    assert np.asarray(entries(np.array([[last, last]]), length, sides)).max() == length + (length - 2) - 1


# --- proposals


def test_linf_starts_with_vertical_stripes_and_changes_squares():
    ball = Linf(0.05)
    x = (0.3 + 0.4 * X).astype("float32")
    asked = trace(Square(ball, 60), lambda z: {"logits": linear(z)["logits"] * 0 + [1.0, 0.0]}, x, np.zeros(40, int))
    assert len(asked) == 60
    start = (asked[0] - x) / 0.05
    np.testing.assert_allclose(np.abs(start), 1, atol=1e-4)
    np.testing.assert_allclose(start, np.broadcast_to(start[:, :1], start.shape), atol=1e-4)
    assert 0.4 < (start[:, 0] > 0).mean() < 0.6
    touched = np.zeros(SHAPE[:2], bool)
    for query, z in enumerate(asked[1:], start=1):  # nothing is ever better: each is a change of the start
        side = Squares.side(share(0.8, query), *SHAPE[:2])
        whose = np.abs(z[:, None] - x).max(axis=(2, 3, 4)).argmin(axis=1)  # who would not change is not asked for
        for one, kept in zip(z, asked[0][whose], strict=True):
            changed = np.argwhere(np.any(one != kept, axis=-1))
            assert (np.ptp(changed, axis=0) < side).all() if len(changed) else whose[0] == 0
            if side == 2:
                touched[tuple(changed.T)] = True
    assert touched.all()  # the last row and column too


def test_a_square_has_one_sign_per_channel():
    ball, x = Linf(0.05), np.full((30, *SHAPE), 0.5, "float32")
    proposal = Squares(ball, ops.convert_to_tensor(x), [0.3])
    drawn = RNG.uniform(-1, 1, (30, 1, proposal.numbers)).astype("float32")
    planned = [part[:, 0] for part in proposal.plan(ops.convert_to_tensor(drawn))]
    z = np.asarray(proposal(ops.reshape(x, (30, -1)), planned, proposal.around))
    change = ((z - x) / 0.05).round(3)
    for image in change:
        rows, columns = (np.flatnonzero(image.any(axis=axes)) for axes in ((1, 2), (0, 2)))
        assert len(rows) == len(columns) == 3  # sqrt(0.3 * 30)
        inside = image[rows[0] : rows[0] + 3, columns[0] : columns[0] + 3]
        assert (np.abs(inside) == 1).all()
        assert (inside == inside[0, 0]).all()
    assert len({tuple(image[np.abs(image).any(-1)][0]) for image in change}) == 4  # all pairs of signs


def eta_by_the_formula(side):
    """Equation 2 of the paper for both halves, pixel by pixel."""
    eta = np.zeros((side, side))
    n = side // 2
    for begin, rows, sign in ((0, n, 1), (n, side - n, -1)):
        for r in range(rows):
            for s in range(side):
                level = n - max(abs(r - rows // 2), abs(s - side // 2))
                eta[begin + r, s] = sign * sum(1 / (n + 1 - k) ** 2 for k in range(level + 1))
    return eta


@pytest.mark.parametrize("side", [1, 3, 5, 7, 21])
def test_pyramids(side):
    eta = np.asarray(pyramids(halved(side)[:, None], undivided(side)[None, :]))
    np.testing.assert_allclose(eta, eta_by_the_formula(side), rtol=1e-6)


def l2_step_in_numpy(x, z, eps, rows, columns, side, eta, rho):
    """Algorithm 3 for one image; rows and columns: those of W1, then of W2."""
    nu = z - x
    unused = max(eps**2 - (nu**2).sum(), 0)
    first, second = (np.zeros(nu.shape[:2], bool) for _ in range(2))
    first[rows[0] : rows[0] + side, columns[0] : columns[0] + side] = True
    second[rows[1] : rows[1] + side, columns[1] : columns[1] + side] = True
    result = nu.copy()
    for channel, sign in enumerate(rho):
        own = np.where(first, nu[..., channel], 0)
        placed = np.zeros(nu.shape[:2])
        placed[first] = eta.ravel() / np.linalg.norm(eta)
        temporary = sign * placed + own / np.linalg.norm(own)
        available = np.sqrt((nu[..., channel][first | second] ** 2).sum() + unused / nu.shape[-1])
        result[..., channel][second] = 0
        result[..., channel][first] = (temporary / np.linalg.norm(temporary) * available)[first]
    return x + result


def test_l2_windows_equal_the_algorithm_in_numpy():
    eps, images = 0.3, 12
    x = RNG.uniform(0.4, 0.6, (images, 7, 8, 2)).astype("float32")
    z = L2(eps).project(x + RNG.normal(0, 0.05, x.shape).astype("float32"), x).numpy()
    z[::2] = x[::2] + 0.8 * (z[::2] - x[::2])  # energy to spare
    proposal = Windows(L2(eps), ops.convert_to_tensor(x), [0.2])  # windows of 3 x 3
    drawn = RNG.uniform(-1, 1, (images, 1, proposal.numbers)).astype("float32")
    planned = [part[:, 0] for part in proposal.plan(ops.convert_to_tensor(drawn))]
    got = np.asarray(proposal(ops.reshape(z, (images, -1)), planned, proposal.around))
    for i, numbers in enumerate(drawn[:, 0]):
        place = [int((0.5 + 0.5 * u) * (n - 2)) for u, n in zip(numbers[:4], (7, 8, 7, 8), strict=True)]
        eta = eta_by_the_formula(3) if numbers[4] < 0 else eta_by_the_formula(3).T
        rho = np.where(numbers[5:] < 0, -1, 1)
        expected = l2_step_in_numpy(x[i].astype(float), z[i], eps, place[::2], place[1::2], 3, eta, rho)
        np.testing.assert_allclose(got[i], expected, atol=2e-6)
    np.testing.assert_allclose(L2(eps).distance(got, x), eps, rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (8, 8), (11, 16), (3, 4)])
def test_l2_start_is_a_grid_of_tiles_of_full_radius(height, width):
    x = np.full((4, height, width, 3), 0.5, "float32")
    z = np.asarray(Windows(L2(0.25), ops.convert_to_tensor(x), [0.5]).start(Noise(0)))
    np.testing.assert_allclose(L2(0.25).distance(z, x), 0.25, rtol=1e-5)
    side = max(min(height, width) // 5, 1)
    tiles = (height // side) * (width // side)
    assert (np.abs(z - x) > 1e-7).any(-1).sum() == 4 * tiles * side**2  # no pixel of a tile is at 0


# --- the search


@pytest.mark.parametrize("targeted", [False, True])
def test_finds_an_adversary_of_a_linear_classifier_exactly_where_there_is_one(targeted):
    eps = 0.04
    y = labels(linear, X)
    toward = np.where(y == 0, 1.0, -1.0)[:, None] * W[:, 0]  # raises the margin
    flat = X.reshape(40, -1)
    best = np.where(toward > 0, np.minimum(flat + eps, 1), np.maximum(flat - eps, 0))
    reachable = margins(linear, best.reshape(X.shape).astype("float32"), y)
    assert np.abs(reachable).min() > 1e-3 and 5 < (reachable > 0).sum() < 35  # the test can fail either way
    attack = attacks.square(eps, 3000, targeted=targeted)
    z = attack(linear, X, 1 - y if targeted else y)
    np.testing.assert_array_equal(labels(linear, z) != y, reachable > 0)
    misses = reachable < 0
    np.testing.assert_allclose(margins(linear, z, y)[misses], reachable[misses], atol=1e-3)  # its optimum


@pytest.mark.parametrize(("ball", "targeted"), [(Linf(0.01), True), (L2(0.1), False)])
def test_only_what_lowers_the_loss_is_kept(ball, targeted):
    surest = np.argmax(np.abs(linear(X)["logits"][:, 1]))
    x = X[surest : surest + 1]
    y = 1 - labels(linear, x) if targeted else labels(linear, x)
    attack = Square(ball, 80, targeted=targeted)
    asked = trace(attack, linear, x, y, seed=5)
    loss = [margins(linear, z, y)[0] * (1 if targeted else -1) for z in asked]
    accepted, best = 0, 0
    for query in range(1, 80):
        if isinstance(ball, Linf):  # a proposal is the best before it but for one square
            changed = np.argwhere(np.any(asked[query] != asked[best], axis=-1)[0])
            assert len(changed) == 0 or (np.ptp(changed, axis=0) < Squares.side(share(0.8, query), 6, 5)).all()
        if loss[query] < loss[best]:
            accepted, best = accepted + 1, query
    assert 3 < accepted < 70
    z = tf.function(lambda x, y: attack.search(linear, x, y, 5), autograph=False)(x, y)
    np.testing.assert_allclose(z, asked[best], atol=1e-6)


@pytest.mark.parametrize("bounds", [pytest.param((0.0, 1.0), marks=pytest.mark.slow), (-1.0, 3.0)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_stays_in_ball_bounds_and_mask(norm, bounds):
    low, high = bounds
    x = np.concatenate([X[:10], np.zeros((1, *SHAPE)), np.ones((1, *SHAPE))]).astype("float32") * (high - low) + low
    mask = np.zeros((12, *SHAPE), "float32")
    for i, row in enumerate(mask):  # one for each image
        row[i % 3 : i % 3 + 3, 1:4] = 1
    y = labels(linear, x)
    attack = attacks.square(0.3, 150, norm=norm, bounds=bounds, mask=mask)
    z = np.asarray(attack(linear, x, y))
    assert z.min() >= low and z.max() <= high
    assert np.asarray(attack.ball.distance(z, x)).max() <= 0.3 * (1 + 1e-5)
    np.testing.assert_array_equal(z[mask == 0], x[mask == 0])
    assert (margins(linear, z, y) > margins(linear, x, y) + 1e-3).all()


def test_l2_uses_all_of_the_radius():
    x = (0.4 + 0.2 * X).astype("float32")
    z = attacks.square(0.2, 200, norm="l2")(linear, x, labels(linear, x))
    np.testing.assert_allclose(L2(0.2).distance(z, x), 0.2, rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_image_meets_the_same_in_every_batch(norm, make_numbered_search):
    run = make_numbered_search(attacks.square(0.06, 120, norm=norm), linear, X, labels(linear, X))
    everything = run(list(range(40)))
    np.testing.assert_array_equal(run(list(range(40)), seed=(1, 2)), everything)
    np.testing.assert_allclose(run([31, 4, 17]), everything[[31, 4, 17]], atol=1e-6)
    assert (run([31, 4, 17], seed=(1, 3)) != everything[[31, 4, 17]]).any()


def test_the_first_fooling_query_is_kept_and_ends_the_search():
    y = labels(linear, X)
    asked = trace(Square(Linf(0.3), 500), linear, X, y)
    assert len(asked) < 500
    sizes = [len(z) for z in asked]
    assert sizes[0] == 40 and sizes[-1] <= 2
    z = np.asarray(Square(Linf(0.3), 500).search(linear, ops.convert_to_tensor(X), ops.convert_to_tensor(y)))
    fooled_at_once = labels(linear, asked[0]) != y
    assert fooled_at_once.any()
    np.testing.assert_array_equal(z[fooled_at_once], asked[0][fooled_at_once])
    assert (labels(linear, z) != y).all()


def test_one_query_is_the_start():
    assert len(trace(Square(Linf(0.01), 1), linear, X, labels(linear, X))) == 1


def test_where_nothing_is_predicted_the_pixels_are_still_numbers():
    def broken(z):
        logits = linear(z)["logits"]
        return {"logits": ops.where(ops.arange(ops.shape(z)[0])[:, None] % 2 == 0, float("nan"), logits)}

    z = np.asarray(attacks.square(0.05, 20)(broken, X, labels(linear, X)))
    assert np.isfinite(z).all()


def test_no_gradients_and_cost():
    attack = attacks.square(0.1, restarts=3)
    assert (attack.kind, attack.gradients, attack.runs(10), attack.cost(10)) == ("black box", None, 3, (5000, 0))
    with pytest.raises(ValueError, match="follows gradients"):
        attacks.expectation(attack)
    assert attacks.get(attack.get_config()).get_config() == attack.get_config()


def test_as_part_of_an_evaluation():
    y = labels(linear, X)
    given = {"eps": 0.1, "attacks": [attacks.square(0.1, 300)], "seed": 4, "probes": 0, "verbose": False}
    logits = keras.Model(inputs := keras.Input(SHAPE), keras.layers.Lambda(linear)(inputs))
    small, large = (tfrobust.evaluate(logits, (X, y), batch_size=n, **given) for n in (7, 40))
    np.testing.assert_array_equal(small.robust, large.robust)
    assert 0 < large.robust_accuracy < 1


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"queries": 0}, "`queries`: expected an integer of at least 1. Received: 0"),
        ({"p_init": 0.0}, "`p_init`: expected a share"),
        ({"p_init": 1.2}, "`p_init`: expected a share"),
        ({"restarts": 0}, "`restarts`"),
        ({"norm": "l1"}, "norm of square.*'l1'"),
        ({"norm": "l3"}, "'l3'"),
        ({"eps": -1.0}, "`eps`"),
    ],
)
def test_refusals(wrong, match):
    with pytest.raises(ValueError, match=match):
        attacks.square(**{"eps": 0.1, **wrong})


def test_refuses_a_ball_it_does_not_know():
    with pytest.raises(ValueError, match="norm of square"):
        Square(L1(0.1), 10)
