"""Noise, SPSA and local search: estimates against exact gradients, and what queries find without gradients."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfrobust import attacks, losses
from tfrobust.attacks import GradientAttack, Linf, Sign
from tfrobust.attacks.gradients import Estimated, Exact
from tfrobust.utils.random import ImageNoise, Noise, SharedNoise

RNG = np.random.default_rng(5)
SHAPE = (4, 3, 2)
X = RNG.uniform(0.1, 0.9, (30, *SHAPE)).astype("float32")
W = RNG.normal(0, 1, (24, 3)).astype("float32")


def linear(z):
    return {"logits": ops.matmul(ops.reshape(z - 0.5, (-1, 24)), W)}


def stepped(z):
    """The same behind a step function: its gradient is zero everywhere."""
    return linear(ops.round(z * 100) / 100)


def labels(classify, x):
    return np.argmax(classify(x)["logits"], axis=-1)


def margins(classify, x, y):
    return np.asarray(losses.margin(classify(x)["logits"], y))


MAKERS = {
    "random_noise": lambda **kw: attacks.random_noise(**{"eps": 0.1, "draws": 60, **kw}),
    "spsa": lambda **kw: attacks.spsa(**{"eps": 0.1, "steps": 12, "samples": 8, **kw}),
    "local_search": lambda **kw: attacks.local_search(**{"eps": 0.1, "rounds": 12, **kw}),
}
queries = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


# --- the estimate


def slope(z):
    return ops.sum(ops.reshape(z, (-1, 24)) * W[:, 0], axis=-1)


def bowl(z):
    return -3 * ops.sum(ops.square(ops.reshape(z - 0.3, (-1, 24))) * np.abs(W[:, 1]), axis=-1), ops.ones_like(
        z[:, 0, 0, 0]
    )


@pytest.mark.parametrize("loss", [slope, bowl])
def test_an_estimate_is_the_gradient_on_average(loss):
    z = ops.convert_to_tensor(X[:3])
    value, observed, exact = Exact()(loss, z, Noise(0))
    got_value, got_observed, got = tf.function(lambda: Estimated(3000, radius=0.05)(loss, z, Noise(1)))()
    np.testing.assert_allclose(got_value, value)
    assert (got_observed is None) == (observed is None)
    # One direction's error in one value is a sum of the 23 other slopes under random signs.
    deviation = np.sqrt(np.sum(np.square(exact), axis=(1, 2, 3), keepdims=True) / 3000)
    assert (np.abs(got - exact) < 4.5 * deviation).all()
    assert np.abs(got - exact).max() > 1e-4  # an estimate, not the gradient


@pytest.mark.parametrize("loss", [lambda z: 3 * z[:, 0, 0, 0], lambda z: z[:, 0, 0, 0] ** 2])
def test_an_estimate_of_one_value_is_exact(loss):
    z = ops.convert_to_tensor(X[:, :1, :1, :1])
    np.testing.assert_allclose(Estimated(1, 0.1)(loss, z, Noise(3))[2], Exact()(loss, z, Noise(3))[2], rtol=1e-4)


def test_directions_are_new_at_every_draw_and_shared_by_the_images():
    z = ops.convert_to_tensor(X)
    first, again, other = (Estimated(2)(slope, z, Noise(7).fold(k))[2].numpy() for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1
    numbered = ImageNoise(Noise(7).fold(0).seed, tf.constant([3, 9]))
    np.testing.assert_allclose(Estimated(2)(slope, z[:2], numbered)[2], first[:2], rtol=1e-3)


def test_gradients_of_many_outputs():
    weights = np.array([[1.0, 0.0, -1.0]] * 2, "float32")

    @tf.function
    def estimated(z):
        values, pull = Estimated(800, 0.1).linear(lambda z: linear(z)["logits"], z, Noise(0))
        return values, linear(z)["logits"], pull(weights)

    values, expected, pulled = estimated(X[:2])
    np.testing.assert_allclose(values, expected)
    np.testing.assert_allclose(np.reshape(pulled, (2, 24))[0], W[:, 0] - W[:, 2], atol=1.2)
    assert Estimated(10).linear_cost(3) == (1 + 3 * 21, 0)


def test_steps_along_estimates_climb_a_linear_loss():
    attack = GradientAttack(Linf(0.05), Sign(0.01), 60, start="none", gradients=Estimated(16))
    z = tf.function(lambda x: attack.ascend(slope, x)[0])(X[:4])
    gained, most = slope(z) - slope(X[:4]), 0.05 * np.abs(W[:, 0]).sum()
    assert np.min(gained) > 0.85 * most


def test_an_estimate_at_a_border_of_the_pixel_range_asks_within_it_and_is_the_gradient_on_average():
    z = ops.convert_to_tensor(np.round(X[:3]))
    asked = []

    def noted(points):
        asked.append(points)
        return slope(points)

    got = np.mean([Estimated(1, 0.1, bounds=(0, 1))(noted, z, Noise(k))[2] for k in range(800)], axis=0)
    np.testing.assert_allclose(np.reshape(got, (3, 24)), np.broadcast_to(W[:, 0], (3, 24)), atol=1.0)
    assert np.min(asked) == 0 and np.max(asked) == 1


def test_shared_noise():
    noise = SharedNoise(Noise(4).seed)
    drawn = noise.fold(2).uniform(ops.convert_to_tensor(X))
    assert tuple(drawn.shape) == (1, *SHAPE)
    np.testing.assert_array_equal(drawn, Noise(4).fold(2).uniform(ops.convert_to_tensor(X[:1])))


# --- the attacks


@pytest.mark.parametrize("name", ["spsa", "local_search"])
def test_queries_find_what_a_step_function_hides(name):
    y = labels(stepped, X)
    eps, flat = 0.05, X.reshape(30, -1)
    toward = W.T[None] - W.T[y][:, None]  # (30, 3, 24)
    best = np.clip(flat[:, None] + eps * np.sign(toward), 0, 1)
    reachable = np.max(np.where(np.arange(3) == y[:, None], -np.inf, ((best - 0.5) * toward).sum(-1)), axis=-1)
    assert 8 < (reachable > 0.3).sum() < 25  # the rounding to 0.01 moves a margin by less
    assert (labels(stepped, attacks.cw_linf(eps, start="none")(stepped, X, y)) == y).all()
    settings = {"spsa": {"steps": 30, "samples": 24, "radius": 0.02}, "local_search": {"rounds": 150}}[name]
    z = attacks.get(name, eps=eps, **settings)(stepped, X, y)
    fooled = labels(stepped, z) != y
    assert fooled[reachable > 0.3].all()
    assert not fooled[reachable < -0.3].any()


@queries
def test_images_of_black_and_white_under_a_guard(make):
    """Exported classifiers give logits of NaN, or refuse, where a pixel is outside its range: no query may be there."""

    def guarded(z):
        inside = ops.all((z >= 0) & (z <= 1), axis=(1, 2, 3))
        return {"logits": ops.where(inside[:, None], linear(z)["logits"], np.nan)}

    x = np.round(X)
    y = labels(linear, x)
    z, expected = (make()(classify, x, y) for classify in (guarded, linear))
    np.testing.assert_array_equal(labels(linear, z), labels(linear, expected))
    assert (labels(linear, z) != y).any()


@queries
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_stays_in_ball_bounds_and_mask(make, norm):
    x = (4 * X - 1).astype("float32")  # in [-1, 3]
    x[0], x[1] = -1, 3
    mask = np.ones(SHAPE, "float32")
    mask[1:3, 1] = 0
    y = labels(linear, x)
    attack = make(eps=0.4, norm=norm, bounds=(-1.0, 3.0), mask=mask)
    z = np.asarray(attack(linear, x, y))
    assert z.min() >= -1 and z.max() <= 3
    assert np.asarray(attack.ball.distance(z, x)).max() <= 0.4 * (1 + 1e-5)
    np.testing.assert_array_equal(z[:, mask == 0], x[:, mask == 0])
    gained = margins(linear, z, y) - margins(linear, x, y)
    assert gained.min() > -0.05 and gained.mean() > 0.1


@queries
def test_targeted(make):
    y = np.argsort(linear(X)["logits"], axis=-1)[:, 1]  # the second likeliest
    z = make(eps=0.2, targeted=True)(linear, X, y)
    assert (labels(linear, X) != y).all()
    assert (labels(linear, z) == y).mean() > 0.4
    assert margins(linear, z, y).mean() < margins(linear, X, y).mean()


@queries
def test_an_image_meets_the_same_in_every_batch_and_a_seed_repeats(make, make_numbered_search):
    search = make_numbered_search(make(eps=0.05), linear, X, labels(linear, X))

    def run(numbers, seed):
        return search(numbers, (seed, 0))

    everything, few = run(list(range(30)), 1), [28, 3, 11]
    np.testing.assert_array_equal(run(list(range(30)), 1), everything)
    np.testing.assert_allclose(run(few, 1), everything[few], atol=1e-6)
    assert (run(few, 2) != everything[few]).any()


@queries
def test_ends_when_all_are_fooled(make):
    asked = []

    def watched(z):
        asked.append(len(z))
        return linear(z)

    y = (labels(linear, X) + 1) % 3  # all fooled from the start
    z = make().search(watched, ops.convert_to_tensor(X), ops.convert_to_tensor(y))
    assert len(asked) < 40
    assert (labels(linear, z) != y).all()


def test_kinds_and_costs():
    noise, spsa, local = (make(draws=7) if name == "random_noise" else make() for name, make in MAKERS.items())
    assert (noise.kind, spsa.kind, local.kind) == ("noise", "black box", "black box")
    assert noise.cost(10) == (7, 0)
    assert spsa.cost(10) == (12 * 17 + 1, 0)
    assert local.cost(10) == (12 * 129, 0)
    assert attacks.spsa(restarts=3).runs(10) == attacks.local_search(restarts=3).runs(10) == 3
    for attack in (noise, spsa, local):
        assert attacks.get(attack.get_config()).get_config() == attack.get_config()
        with pytest.raises(ValueError, match="expected one that follows"):
            attacks.expectation(attack)


def test_noise_keeps_the_first_draw_that_fools():
    thresholds = np.linspace(-1.05, 1.05, 43).astype("float32")[:, None, None, None]  # of eps
    x = np.full((43, 1, 1, 1), 0.5, "float32")

    def beyond(z):
        over = ops.reshape(z - x - 0.1 * thresholds, (-1, 1))
        return {"logits": ops.concatenate([ops.zeros_like(over), over], axis=-1)}

    z = np.asarray(attacks.random_noise(0.1, draws=300)(beyond, x, np.zeros(43, int)))
    fooled = np.asarray(beyond(z)["logits"])[:, 1] > 0
    np.testing.assert_array_equal(fooled, thresholds.ravel() < 0.99)  # the greatest of 300 draws is near the edge
    assert z[0] < x[0] + 0.099  # the first draw, not the greatest
    np.testing.assert_allclose(z[-1], z[~fooled].max())  # of those in vain the greatest margin


def test_local_search_goes_on_around_the_pixels_that_it_moved():
    x = np.full((1, 9, 9, 1), 0.5, "float32")
    weights = RNG.uniform(0.5, 1, (9, 9)).astype("float32")
    asked = []

    def watched(z):
        asked.append(np.asarray(z)[0, :, :, 0] - 0.5)
        total = ops.reshape(ops.sum(z[..., 0] * weights, axis=(1, 2)), (-1, 1))
        return {"logits": ops.concatenate([total, 0.0 * total - 100.0], axis=-1)}  # never fooled

    attack = attacks.local_search(0.1, 2, candidates=81, pixels=2, neighborhood=1)
    attack.search(watched, ops.convert_to_tensor(x), ops.convert_to_tensor([0]), 3)

    def changed(z, reference):
        return {tuple(place) for place in np.argwhere(z != reference).tolist()}

    tries, end = asked[1:10], asked[10]  # a tenth of 81 pixels, then the two best of them together
    assert all(len(changed(z, 0)) == 1 for z in tries)
    least = sorted(tries, key=lambda z: (z * weights).sum())[:2]  # the label's logit falls
    assert (least[0] * weights).sum() < 0
    moved = changed(end, 0)
    assert moved == changed(least[0], 0) | changed(least[1], 0) and len(moved) == 2
    around = {(r + i, c + j) for r, c in moved for i in (-1, 0, 1) for j in (-1, 0, 1)} & set(np.ndindex(9, 9))
    assert len(asked) == 11 + len(around) + 1
    tried = [changed(z, end) for z in asked[11:-1]]
    assert max(map(len, tried)) == 1  # one that lies at that edge already does not move
    assert len(set().union(*tried)) > 1 and set().union(*tried) <= around


@pytest.mark.parametrize(
    ("name", "wrong", "match"),
    [
        ("random_noise", {"draws": 0}, "`draws`: expected an integer of at least 1. Received: 0"),
        ("random_noise", {"norm": "l7"}, "norm.*'l7'"),
        ("spsa", {"samples": 0}, "`samples`"),
        ("spsa", {"radius": 0.0}, "`radius`: expected a positive number of pixel units"),
        ("spsa", {"loss": "dlrr"}, "loss of spsa.*'dlrr'"),
        ("spsa", {"steps": 0}, "`steps`"),
        ("local_search", {"rounds": 0}, "`rounds`"),
        ("local_search", {"candidates": 0.5}, "`candidates`"),
        ("local_search", {"norm": "l1"}, "norm of local_search.*'l1'"),
        ("spsa", {"norm": "l1"}, "norm of spsa.*'l1'"),
    ],
)
def test_refusals(name, wrong, match):
    with pytest.raises(ValueError, match=match):
        attacks.get(name, eps=0.1, **wrong)
