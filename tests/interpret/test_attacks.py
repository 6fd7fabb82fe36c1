"""What attacks show: planted prototypes give the known hard pair; distances, iterations and p by hand; streaming."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust.interpret import (
    agreement,
    attack_strength,
    dra_success,
    embed,
    hard_classes,
    hard_classes_of,
    mean_probabilities,
    perturbation_distances,
    prototype_cosines,
    weight_norms,
)

PROTOTYPES = np.array([[1, 0.7, 0, 0], [0.7, 1, 0, 0], [0, 0, 1, 0.2], [0, 0, 0.3, 1]])


@pytest.fixture(scope="module")
def planted(hand):
    """A network whose classes 0 and 1, and less so 2 and 3, have prototypes near each other, and images of each."""
    y = np.arange(40, dtype="int32") % 4
    x = 0.45 * PROTOTYPES[y] + np.random.default_rng(0).uniform(0, 0.1, (40, 4))
    classifier = hand.linear(10 * PROTOTYPES.T, shape=(2, 2, 1))
    return classifier, (x.reshape(40, 2, 2, 1).astype("float32"), y)


def test_planted_prototypes_give_the_hard_pair(planted):
    classifier, (x, y) = planted
    wrong = np.array([3, 0], "int32")  # two images that were wrong before count nowhere
    data = np.concatenate([x, x[:2]]), np.concatenate([y, wrong])
    found = hard_classes(classifier, data, tfrobust.attacks.pgd(eps=0.15, steps=5), batch_size=16)
    assert found.counts.sum() == 40 and found.counts.dtype.kind == "i"
    assert {pair[:2] for pair in found.pairs(2)} == {(0, 1), (1, 0)}
    assert found.shares[0, 1] == found.shares[1, 0] == 1.0
    assert found.p_value < 1e-3
    units = PROTOTYPES / np.linalg.norm(PROTOTYPES, axis=1, keepdims=True)
    np.testing.assert_allclose(prototype_cosines(classifier), units @ units.T, atol=1e-6)
    np.testing.assert_allclose(weight_norms(classifier), 10 * np.linalg.norm(PROTOTYPES, axis=1), rtol=1e-6)
    assert agreement(found.shares, prototype_cosines(classifier)).correlation > 0.5
    again = hard_classes(classifier, data, tfrobust.attacks.pgd(eps=0.15, steps=5), batch_size=256)
    np.testing.assert_array_equal(again.counts, found.counts)  # the random start is the image's own


def test_planted_probabilities_give_the_hard_pair_where_the_cosines_do_not(hand):
    """A bias makes class 2 likely and changes no prototype: the lemma's weights know it, and the cosines do not."""
    kernel, bias = 8 * np.eye(4), np.array([0.0, 0.0, 3.0, 0.0])
    y = np.repeat(np.arange(4, dtype="int32"), 8)
    x = np.clip(0.2 + 0.6 * np.eye(4)[y] + np.random.default_rng(0).uniform(-0.1, 0.1, (32, 4)), 0, 1)
    x[0], x[8:16] = [0, 1, 0, 0], [0, 0, 0, 1]  # one image of class 0 is wrong, and all of class 1 are
    x = x.reshape(32, 2, 2, 1).astype("float32")
    classifier = hand.linear(kernel, bias, shape=(2, 2, 1))
    sigma = mean_probabilities(classifier, (x, y), batch_size=5)

    logits = x.reshape(32, 4).astype("float64") @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = logits.argmax(axis=1) == y
    for label in (0, 2, 3):
        np.testing.assert_allclose(sigma[label], p[right & (y == label)].mean(axis=0), rtol=1e-5)
    assert right[:8].sum() == 7 and np.isnan(sigma[1]).all()

    found = hard_classes(classifier, (x, y), tfrobust.attacks.pgd(eps=0.3, steps=5))
    assert found.shares[0, 2] == found.shares[3, 2] == 1.0 and found.fooled[1] == 0
    assert agreement(found.shares, sigma).correlation > 0.5
    assert np.isnan(agreement(found.shares, prototype_cosines(classifier)).correlation)  # all are 0


def test_the_deviation_from_an_even_spread_by_hand():
    found = hard_classes_of([[5, 30, 0], [15, 5, 15], [0, 0, 9]])
    assert (found.statistic, found.degrees, found.least_expected) == (30.0, 2, 15.0)
    assert found.p_value == pytest.approx(np.exp(-15))  # chi-square of two degrees
    np.testing.assert_array_equal(found.fooled, [30, 30, 0])
    np.testing.assert_array_equal(found.shares, [[0, 1, 0], [0.5, 0, 0.5], [np.nan] * 3])
    assert found.pairs() == [(0, 1, 1.0), (1, 0, 0.5), (1, 2, 0.5)]
    for counts in ([[3, 4], [2, 5]], np.diag([3, 3, 3])):
        assert hard_classes_of(counts).p_value is None  # one wrong class, or none fooled


def test_agreement_is_a_rank_correlation_tested_by_permuting_classes():
    rng = np.random.default_rng(0)
    cosines = rng.random((7, 7))
    cosines = cosines + cosines.T
    assert agreement(-cosines, cosines) == (-1.0, 1.0)
    same = agreement(cosines**3, cosines)
    assert same.correlation == 1.0 and same.p_value <= 0.005  # one order of 5040, perhaps drawn again
    assert agreement(rng.random((7, 7)), cosines).p_value > 0.05
    holes = cosines**3
    holes[2] = np.nan
    assert agreement(holes, cosines).correlation == 1.0
    assert np.isnan(agreement(np.ones((3, 3)), np.ones((3, 3)))).all()
    with pytest.raises(ValueError, match=r"\(C, C\) of one shape"):
        agreement(cosines, cosines[:3])


def test_prototypes_of_other_heads(make_classifier):
    classifier = make_classifier(head="cosine")
    norms = np.linalg.norm(classifier.layers[-1].kernel, axis=0)
    np.testing.assert_allclose(weight_norms(classifier), norms, rtol=1e-6)
    sigmoid = tfrobust.models.get("digits", classes=2, head=tfrobust.layers.ClassActivationMap(units=1))
    assert weight_norms(sigmoid)[0] == 0.0 and weight_norms(sigmoid)[1] > 0
    np.testing.assert_allclose(prototype_cosines(sigmoid), [[0, 0], [0, 1]], atol=1e-6)
    inputs = keras.Input((2, 2, 1))
    without = keras.Model(inputs, {"logits": keras.layers.Rescaling(2.0)(keras.layers.Flatten()(inputs))})
    with pytest.raises(ValueError, match="Class prototypes are the columns"):
        weight_norms(without)


def test_distances_between_adversaries_by_hand(hand, pixels):
    classifier = hand.one_pixel()
    opposite = {"up": lambda c, x, y: x + 0.1, "down": lambda c, x, y: x - 0.1, "FGSM": tfrobust.attacks.fgsm(eps=0.1)}
    table = perturbation_distances(classifier, pixels, opposite, batch_size=5)
    assert table.rows == table.columns == ("up", "down", "FGSM")
    assert table["up", "down"] == table["down", "up"] == pytest.approx(0.2 * 4, rel=1e-5)
    assert [table[name, name] for name in opposite] == [0.0, 0.0, 0.0]
    y = pixels[1]  # FGSM moves the one pixel towards the other class: up where the label is 1
    to_up = np.where(y == 1, np.sqrt(15 * 0.1**2), np.sqrt(15 * 0.1**2 + 0.2**2))
    assert table["up", "FGSM"] == pytest.approx(to_up.mean(), rel=1e-4)


def test_each_iteration_moves_the_pixel_by_one_step(hand):
    x = np.full((4, 4, 4, 1), 0.5, "float32")
    x[:, hand.PIXEL[0], hand.PIXEL[1], 0] = 0.5 + 0.02 * (np.arange(4) + 0.5)  # falls at iteration 1, 2, 3, 4
    pgd = tfrobust.attacks.pgd(eps=0.075, step_size=0.02, steps=9, start="none", restarts=3)
    attacks = {"PGD": pgd, "by name": {"name": "mim", "eps": 0.035, "step_size": 0.02}}
    table = attack_strength(hand.one_pixel(), (x, np.zeros(4)), attacks, (1, 2, 3, 4, 30), batch_size=3)
    assert table.columns == ("0", "1", "2", "3", "4", "30")
    assert table.figures == ((1.0, 0.75, 0.5, 0.25, 0.0, 0.0), (1.0, 0.75, 0.5, 0.5, 0.5, 0.5))


def test_dra_fools_more_with_more_of_the_values(hand):
    # Weights of nearly 1: a step moves the logit by size * 16 p, five of eps / 5 by 16 eps p. The logits lie evenly in
    # (0, 1.2 * 16 eps).
    kernel = np.zeros((16, 2))
    kernel[:, 0] = 1 + 1e-4 * np.arange(16)
    logits = 0.192 * (np.arange(40) + 0.5) / 40
    x = np.tile(0.5 + logits.reshape(40, 1, 1, 1) / kernel[:, 0].sum(), (1, 4, 4, 1)).astype("float32")
    nets = {"flat": hand.linear(kernel, [-kernel[:, 0].sum() / 2, 0])}
    table = dra_success(nets, (x, np.zeros(40)), [1 / 16, 1 / 4, 1.0], eps=0.01, steps=5, batch_size=16)
    np.testing.assert_allclose(table.figures, [[2 / 40, 8 / 40, 33 / 40]])
    assert table.columns == ("0.0625", "0.25", "1") and table.images == 40
    assert dra_success(nets, (x, np.ones(40)), [1.0]).figures == ((None,),)  # nothing was right


def test_features_in_two_dimensions_keep_neighbours(hand):
    rng = np.random.default_rng(0)
    y = np.arange(30, dtype="int32") % 2
    x = np.where(y[:, None, None, None] == 0, 0.2, 0.8) + rng.uniform(-0.05, 0.05, (30, 4, 4, 1))
    data = tf.data.Dataset.from_tensor_slices((x.astype("float32"), y)).batch(8)
    classifier = hand.linear(np.stack([-np.ones(16), np.ones(16)], axis=1), [8, -8])
    found = embed(classifier, data, tfrobust.attacks.fgsm(eps=0.5), images=20)
    assert found.points.shape == (40, 2) and found.attacked.tolist() == [False] * 20 + [True] * 20
    np.testing.assert_array_equal(found.labels, np.tile(y[:20], 2))
    np.testing.assert_array_equal(found.predicted, np.concatenate([y[:20], 1 - y[:20]]))  # all fooled
    apart = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1) + 1e9 * np.eye(40)
    side = found.predicted  # attacked by 0.5, an image lies with the other class
    assert (side[apart.argmin(axis=1)] == side).mean() > 0.9
    np.testing.assert_array_equal(embed(classifier, data, tfrobust.attacks.fgsm(eps=0.5), images=20)[0], found.points)
    assert embed(classifier, data, images=5).points.shape == (5, 2)


def test_more_images_than_memory_allows_are_streamed(hand, pixels):
    events = []

    def batches():
        for _ in range(6):
            events.append("read")
            yield pixels

    def attack(classify, x, y):
        events.append("attack")
        return x

    spec = (tf.TensorSpec((None, 4, 4, 1)), tf.TensorSpec((None,), tf.int32))
    data = tf.data.Dataset.from_generator(batches, output_signature=spec)
    assert hard_classes(hand.one_pixel(), data, attack).counts.sum() == 72
    ahead = [events[:i].count("read") - events[:i].count("attack") for i in range(len(events) + 1)]
    assert max(ahead) <= 2  # tf.data reads one batch ahead


def test_what_is_no_attack_is_a_sentence(hand, pixels):
    net = hand.one_pixel()
    for attack in (3, tfrobust.attacks.pgd(targeted=True)):
        with pytest.raises(ValueError, match="expected an untargeted one"):
            hard_classes(net, pixels, attack)
    with pytest.raises(ValueError, match="needs attacks that ascend a loss"):
        attack_strength(net, pixels, {"noise": "random_noise"})
    with pytest.raises(ValueError, match="expected a mapping label -> attack"):
        perturbation_distances(net, pixels, ["pgd"])
    with pytest.raises(ValueError, match=r"Invalid result of the attack 'function': expected shape \(12, 4, 4, 1\)"):
        hard_classes(net, pixels, lambda c, x, y: x[:3])
    with pytest.raises(ValueError, match="`images`: expected an integer of at least 2"):
        embed(net, pixels, images=1)
    with pytest.raises(ValueError, match="class activation map needs"):
        hard_classes(net, pixels, tfrobust.attacks.infofeature())


def test_every_run_of_an_attack_counts(hand, pixels):
    def fooled(attack):
        return hard_classes(hand.one_pixel(), pixels, attack).fooled.sum()

    once, often = (fooled(tfrobust.attacks.random_noise(eps=0.3, draws=draws)) for draws in (1, 20))
    assert 0 < once < often
    pgd = tfrobust.attacks.pgd(eps=0.3, steps=2, loss=tfrobust.attacks.view_losses.adversarial_cross_entropy)
    assert fooled(tfrobust.attacks.Cascade([tfrobust.attacks.random_noise(eps=0.3, draws=1), pgd])) == fooled(pgd) > 0
