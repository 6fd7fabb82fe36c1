"""The walk along the boundary against closed forms, and on classifiers that are flat around their images."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrobust
from tfrobust import attacks

SHAPE = (4, 4, 2)
PIXELS = 32
SCALE = 3000.0


def linear(classes=2, seed=0):
    """A linear classifier, images that are right with it, and their distance from the boundary in both norms."""
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 1, (PIXELS, classes)).astype("float32")
    b = -0.5 * w.sum(axis=0)
    x = rng.uniform(0.4, 0.6, (60, *SHAPE)).astype("float32")
    top = np.sort(x.reshape(60, -1) @ w + b, axis=-1)
    x = x[np.argsort(top[:, -1] - top[:, -2])[-20:]]  # not so near to the boundary that nothing saturates
    logits = x.reshape(20, -1) @ w + b
    y = np.argmax(logits, axis=-1).astype("int32")
    gap, line = np.abs(logits[:, 0] - logits[:, 1]), w[:, 0] - w[:, 1]

    def classify(z):
        return {"logits": ops.matmul(ops.reshape(z, (-1, PIXELS)), w) + b}

    return classify, x, y, {"linf": gap / np.abs(line).sum(), "l2": gap / np.linalg.norm(line)}


def saturated(classify):
    """One-hot in place of logits: no gradient but in a thin layer around the boundary."""

    def shares(z):
        # Written out: TensorFlow's own softmax gives 0.99999994 in place of 1 on some processors, and then a gradient.
        logits = SCALE * classify(z)["logits"]
        powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
        return {"logits": powers / ops.sum(powers, axis=-1, keepdims=True)}

    return shares


def missed(classify, z, y):
    return np.argmax(np.asarray(classify(z)["logits"]), -1) != y


@pytest.mark.parametrize(
    ("norm", "change"),  # saturated in the other norm: below
    [
        ("linf", lambda classify: classify),
        pytest.param("l2", lambda classify: classify, marks=pytest.mark.slow),
        ("l2", saturated),
    ],
    ids=["linf", "l2", "l2 saturated"],
)
def test_it_finds_an_adversary_where_there_is_one(norm, change):
    classify, x, y, nearest = linear()
    eps = float(np.median(nearest[norm]))
    broken = change(classify)
    z = attacks.boundary(eps, norm=norm)(broken, x, y).numpy()
    found = missed(classify, z, y)
    assert not found[nearest[norm] > eps * 1.0001].any()
    assert found[nearest[norm] < 0.98 * eps].all() and found.sum() >= 8
    np.testing.assert_array_equal(z[~found], x[~found])
    assert attacks.ball(norm, eps).distance(z, x).numpy().max() <= eps + 1e-6
    assert z.min() >= 0 and z.max() <= 1


def test_gradients_do_not_find_them():
    """What makes this attack worth its queries: PGD on the margin and Square stand still on the same classifier."""
    classify, x, y, nearest = linear()
    eps, broken = float(np.median(nearest["linf"])), saturated(classify)
    for attack in (attacks.apgd(eps, loss="margin"), attacks.square(eps, queries=300)):
        assert missed(classify, attack(broken, x, y), y).mean() < 0.15
    assert missed(classify, attacks.boundary(eps)(broken, x, y), y).mean() > 0.4


@pytest.mark.parametrize("remainder", [pytest.param(0, marks=pytest.mark.slow), 1e-4])
def test_flat_only_leaves_images_with_a_gradient_alone(remainder):
    classify, x, y, nearest = linear()
    eps = 2 * float(nearest["linf"].max())
    attack = attacks.boundary(eps, flat_only=True)
    broken = tf.Variable(False)

    def shown(z):
        return {"logits": ops.where(broken, saturated(classify)(z)["logits"], classify(z)["logits"])}

    np.testing.assert_array_equal(attack(shown, x, y), x)
    broken.assign(True)
    assert missed(classify, attack(shown, x, y), y).all()

    # A classifier that saturates where its first value is large: only those images are attacked.
    x[::2, 0, 0, 0], x[1::2, 0, 0, 0] = 0.9, 0.1
    mask = np.ones(SHAPE, "float32")
    mask[0, 0, 0] = 0

    def mixed(z):
        plain = classify(z)["logits"]
        # Where softmax rounds to 0.99999994, as on some processors, a saturated classifier keeps a tiny gradient.
        flat = ops.one_hot(ops.argmax(plain, -1), 2) + remainder * plain
        return {"logits": ops.where(z[:, 0, 0, :1] > 0.5, flat, plain)}

    y = np.argmax(classify(x)["logits"], -1)
    moved = (attacks.boundary(0.1, flat_only=True, mask=mask)(mixed, x, y).numpy() != x).any(axis=(1, 2, 3))
    assert moved[::2].any() and not moved[1::2].any()


@pytest.mark.parametrize("each", [pytest.param(False, marks=pytest.mark.slow), True], ids=["all", "each"])
def test_a_mask_is_kept(each):
    classify, x, y, nearest = linear()
    mask = np.zeros(SHAPE, "float32")
    mask[:2] = 1
    of_each = np.tile(mask, (20, 1, 1, 1))
    of_each[1::2] = 1 - mask
    given = of_each if each else mask
    eps = 3 * float(nearest["linf"].max())
    z = attacks.boundary(eps, mask=given)(saturated(classify), x, y).numpy()
    np.testing.assert_array_equal(np.where(given > 0, x, z), x)
    assert missed(classify, z, y).any()


def test_an_image_meets_the_same_in_every_batch(make_numbered_search):
    classify, x, y, nearest = linear(classes=4, seed=3)
    attack = attacks.boundary(float(np.median(nearest["linf"])))
    search, few = make_numbered_search(attack, saturated(classify), x, y), [8, 1, 5]
    everything = search(range(len(x)))
    np.testing.assert_allclose(search(few), everything[few], atol=1e-6)
    assert (everything != x).any()


@pytest.mark.slow
def test_figures_do_not_depend_on_the_batch():
    classify, x, y, nearest = linear(classes=4, seed=3)
    eps = float(np.median(nearest["linf"]))
    broken, attack = saturated(classify), attacks.boundary(eps)
    figures = [
        tfrobust.evaluate(
            broken, (x, y), eps=eps, attacks=[attack], batch_size=size, probes=0, verbose=False
        ).adversaries.z
        for size in (3, 20)
    ]
    np.testing.assert_allclose(*figures, atol=1e-6)


def test_a_classifier_of_one_answer_has_no_boundary():
    x = np.full((2, *SHAPE), 0.5, "float32")
    constant = lambda z: {"logits": ops.zeros((ops.shape(z)[0], 1)) + ops.convert_to_tensor([[1.0, 0.0]])}  # noqa: E731
    np.testing.assert_array_equal(attacks.boundary(0.1)(constant, x, np.zeros(2, "int32")), x)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"norm": "l1"}, "Unknown norm of boundary"),
        ({"steps": 0}, "`steps`"),
        ({"bisections": 0}, "`bisections`"),
        ({"restarts": 0}, "`restarts`"),
    ],
)
def test_refusals(arguments, text):
    with pytest.raises(ValueError, match=text):
        attacks.boundary(0.1, **arguments)
