"""HopSkipJump against closed forms, by labels alone."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrobust
from tfrobust import attacks
from tfrobust.attacks.threat_model import ball

SHAPE = (4, 4, 2)
PIXELS = 32
QUICK = {"steps": 8, "starts": 8, "samples": 60}


def linear(classes=2, seed=0):
    """A linear classifier, images that are right with it, and their distance from the boundary in both norms."""
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 1, (PIXELS, classes)).astype("float32")
    b = -0.5 * w.sum(axis=0)
    x = rng.uniform(0.4, 0.6, (12, *SHAPE)).astype("float32")
    logits = x.reshape(12, -1) @ w + b
    y = np.argmax(logits, axis=-1).astype("int32")
    gap, line = np.abs(logits[:, 0] - logits[:, 1]), w[:, 0] - w[:, 1]

    def classify(z):
        return {"logits": ops.matmul(ops.reshape(z, (-1, PIXELS)), w) + b}

    return classify, x, y, {"linf": gap / np.abs(line).sum(), "l2": gap / np.linalg.norm(line)}


def one_hot(classify):
    def labels(z):
        logits = classify(z)["logits"]
        return {"logits": ops.one_hot(ops.argmax(logits, axis=-1), logits.shape[-1])}

    return labels


def missed(classify, z, y):
    return np.argmax(np.asarray(classify(z)["logits"]), -1) != y


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_it_comes_near_to_the_nearest_boundary_of_a_linear_classifier(norm):
    classify, x, y, nearest = linear()
    z = attacks.hop_skip_jump(None, norm=norm)(one_hot(classify), x, y)
    assert missed(classify, z, y).all()
    ratio = np.asarray(ball(norm, 1.0).distance(z, x)) / nearest[norm]
    assert ratio.min() > 1 - 1e-3
    assert ratio.max() < 1.1 and np.mean(ratio) < 1.05


@pytest.mark.parametrize("norm", [pytest.param("linf", marks=pytest.mark.slow), "l2"])
def test_labels_are_all_that_it_reads(norm):
    classify, x, y, nearest = linear(classes=4, seed=1)
    attack = attacks.hop_skip_jump(float(np.median(nearest[norm])), norm=norm, **QUICK)
    scale, label_alone = tf.Variable(1.0), tf.Variable(False)  # of the same classifier: one graph serves all

    def shown(v):
        logits = classify(v)["logits"]
        return {"logits": ops.where(label_alone, one_hot(classify)(v)["logits"], scale * logits)}

    z = attack(shown, x, y, seed=2).numpy()
    assert (z != attack(shown, x, y, seed=3).numpy()).any()
    scale.assign(4.0)
    np.testing.assert_array_equal(z, attack(shown, x, y, seed=2))
    label_alone.assign(True)
    np.testing.assert_array_equal(z, attack(shown, x, y, seed=2))


@pytest.mark.parametrize(
    ("norm", "bounds"),
    [
        pytest.param("linf", (0.0, 1.0), marks=pytest.mark.slow),
        pytest.param("linf", (0.0, 255.0), marks=pytest.mark.slow),
        pytest.param("linf", (-1.0, 1.0), marks=pytest.mark.slow),
        pytest.param("l2", (0.0, 1.0), marks=pytest.mark.slow),
        ("l2", (0.0, 255.0)),
        pytest.param("l2", (-1.0, 1.0), marks=pytest.mark.slow),
    ],
)
def test_what_is_in_reach_is_found_within_ball_and_bounds(norm, bounds):
    classify, x, y, nearest = linear()
    low, high = bounds
    width, eps = high - low, float(np.median(nearest[norm]))

    def in_their_units(z):
        return one_hot(classify)((z - low) / width)

    moved = low + width * x
    attack = attacks.hop_skip_jump(width * eps, norm=norm, bounds=bounds)
    z = attack(in_their_units, moved, y).numpy()
    found = missed(in_their_units, z, y)
    assert found[nearest[norm] < 0.9 * eps].all() and not found[nearest[norm] > 1.001 * eps].any()
    np.testing.assert_array_equal(z[~found], moved[~found])
    assert attack.ball.distance(z, moved).numpy().max() <= width * eps * (1 + 1e-5)
    assert z.min() >= low and z.max() <= high


@pytest.mark.parametrize("each", [pytest.param(False, marks=pytest.mark.slow), True], ids=["all", "each"])
def test_a_mask_of_all_or_of_each_image_is_kept(each):
    classify, x, y, _ = linear()
    mask = np.zeros(SHAPE, "float32")
    mask[:2] = 1
    of_each = np.tile(mask, (12, 1, 1, 1))
    of_each[1::2] = 1 - mask
    given = of_each if each else mask
    z = attacks.hop_skip_jump(None, mask=given, **QUICK)(one_hot(classify), x, y).numpy()
    np.testing.assert_array_equal(np.where(given > 0, x, z), x)
    moved = (z != x).any(axis=(1, 2, 3))
    assert moved.sum() >= 4  # of the others no start is of another class
    np.testing.assert_array_equal(missed(classify, z, y), moved)


def test_targets_are_reached_from_images_of_their_class():
    classify, x, y, _ = linear(classes=3, seed=4)
    targets = (y + 1) % 3
    targets = np.where(np.isin(targets, y), targets, y[::-1])
    wanted = targets != y
    z = attacks.hop_skip_jump(None, targeted=True, **QUICK)(one_hot(classify), x, targets)
    assert (~missed(classify, z, targets)).all()
    apart = np.asarray(ball("linf", 1.0).distance(z, x))
    assert (apart[~wanted] == 0).all() and apart[wanted].max() < 0.3


def test_where_noise_is_all_of_one_class_it_starts_from_images():
    """Class 1 is a bright corner in an image that is dark elsewhere: no noise has that."""
    x = np.zeros((6, 8, 8, 1), "float32")
    x[::2, :4] = 0.9

    def classify(z):
        bright = ops.mean(z[:, :4], axis=(1, 2, 3)) - 2 * ops.mean(z[:, 4:], axis=(1, 2, 3))
        return {"logits": ops.one_hot(ops.cast(bright > 0.3, "int32"), 2)}

    y = np.argmax(classify(x)["logits"], -1)
    assert y.tolist() == [1, 0] * 3
    z = attacks.hop_skip_jump(0.6, steps=2, starts=4)(classify, x, y)
    assert missed(classify, z, y).all()


@pytest.mark.parametrize("name", ["hop_skip_jump", "boundary"])
def test_without_a_flat_image_no_empty_batch_is_classified(name):
    """TensorFlow 2.21 with oneDNN fails on an empty batch in a convolution that it has fused with its activation."""
    classify, x, y, _ = linear()

    def refusing(z):
        tf.debugging.assert_greater(tf.shape(z)[0], 0, "an empty batch")
        return classify(z)

    attack = attacks.get(name, eps=0.1, flat_only=True)
    np.testing.assert_array_equal(tf.function(attack)(refusing, x, y), x)


def test_flat_only_leaves_images_with_a_gradient_alone():
    classify, x, y, nearest = linear()
    attack = attacks.hop_skip_jump(3 * float(nearest["linf"].max()), flat_only=True, **QUICK)
    flat = tf.Variable(False)

    def shown(z):
        return {"logits": ops.where(flat, one_hot(classify)(z)["logits"], classify(z)["logits"])}

    np.testing.assert_array_equal(attack(shown, x, y), x)
    flat.assign(True)
    assert missed(classify, attack(shown, x, y), y).all()


def test_a_forward_is_never_of_many_more_points_than_images():
    classify, x, y, _ = linear()
    sizes = []

    def watched(z):
        tf.py_function(lambda n: sizes.append(int(n)), [tf.shape(z)[0]], [])
        return one_hot(classify)(z)

    attacks.hop_skip_jump(None, steps=3, starts=2)(watched, x, y)
    assert max(sizes) <= 256
    count = sum(sizes) / 12
    assert count <= attacks.hop_skip_jump(None, steps=3, starts=2).cost(10)[0] + 3 * 25  # a last forward is a full one


def test_an_image_meets_the_same_in_every_batch(make_numbered_search):
    classify, x, y, nearest = linear(classes=4, seed=3)
    attack = attacks.hop_skip_jump(float(np.median(nearest["linf"])), **QUICK)
    search, few = make_numbered_search(attack, one_hot(classify), x, y), [8, 1, 5]
    everything = search(range(len(x)))
    np.testing.assert_allclose(search(few), everything[few], atol=1e-4)
    assert (everything != x).any()


@pytest.mark.slow
def test_figures_do_not_depend_on_the_batch():
    classify, x, y, nearest = linear(classes=4, seed=3)
    eps = float(np.median(nearest["linf"]))
    labels, attack = one_hot(classify), attacks.hop_skip_jump(eps, **QUICK)
    figures = [
        tfrobust.evaluate(
            labels, (x, y), eps=eps, attacks=[attack], batch_size=size, probes=0, verbose=False
        ).adversaries.z
        for size in (5, 12)
    ]
    np.testing.assert_allclose(*figures, atol=1e-4)


def test_a_classifier_of_one_answer_has_no_boundary():
    x = np.full((2, *SHAPE), 0.5, "float32")

    def constant(z):
        return {"logits": ops.zeros((ops.shape(z)[0], 1)) + ops.convert_to_tensor([[1.0, 0.0]])}

    np.testing.assert_array_equal(attacks.hop_skip_jump(0.1, **QUICK)(constant, x, np.zeros(2, "int32")), x)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"norm": "l1"}, "Unknown norm of hop_skip_jump"),
        ({"steps": 0}, "`steps`"),
        ({"samples": 0}, "`samples`"),
        ({"starts": 0}, "`starts`"),
        ({"restarts": 0}, "`restarts`"),
        ({"eps": -0.1}, "`eps`"),
    ],
)
def test_refusals(arguments, text):
    with pytest.raises(ValueError, match=text):
        attacks.hop_skip_jump(**{"eps": 0.1, **arguments})
