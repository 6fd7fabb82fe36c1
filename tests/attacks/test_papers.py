"""The attacks of the papers: what they ascend, how they start, and that they do to a network what the papers say."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrobust
from tfrobust import attacks, losses
from tfrobust._tensorflow import Noise
from tfrobust.attacks import Linf
from tfrobust.attacks.infofeature import cam_distance
from tfrobust.objectives.terms import adversarial_cross_entropy


@pytest.fixture(scope="module")
def trained():
    """A plainly trained network of digits, and 96 test images."""
    keras.utils.set_random_seed(1)
    classifier = tfrobust.models.get("digits", features=64)
    trainer = tfrobust.AdversarialTrainer(classifier, "standard")
    trainer.compile(keras.optimizers.Adam(2e-3))
    trainer.fit(tfrobust.data.load("digits", "train", batch_size=64), epochs=6, verbose=0)
    x, y = next(iter(tfrobust.data.load("digits", "test", batch_size=96)))
    return classifier, x.numpy(), y.numpy()


def success(classifier, adversary, x, y):
    right = losses.correct(classifier(x)["logits"], y)
    still = losses.correct(classifier(adversary(classifier, x, y))["logits"], y)
    return 1 - float(ops.sum(right * still) / ops.sum(right))


def test_dra_succeeds_more_often_the_more_values_it_may_change(trained):
    """Thesis, figure 4.4: success rises up to p = 1/6 and saturates at about 1/3."""
    rates = {
        p: success(trained[0], attacks.dra(eps=0.04, p=p, loss=adversarial_cross_entropy), *trained[1:])
        for p in (1 / 24, 1 / 12, 1 / 6, 1 / 3, 1.0)
    }
    assert rates[1 / 24] + 0.05 < rates[1 / 12] < rates[1 / 6] - 0.05
    assert abs(rates[1 / 3] - rates[1 / 6]) < 0.06 and abs(rates[1.0] - rates[1 / 3]) < 0.06


def test_dra_spends_a_mean_budget_better_than_pgd(trained):
    """At the same mean absolute change: PGD changes every value by eps, DRA few of them by more."""
    pgd = success(trained[0], attacks.pgd(eps=0.05, steps=20, loss=adversarial_cross_entropy), *trained[1:])
    dra = success(trained[0], attacks.dra(eps=0.05, steps=20, p=1 / 3, loss=adversarial_cross_entropy), *trained[1:])
    assert dra > pgd + 0.1


def test_dra_starts_at_the_image_and_leaves_most_values_alone(trained):
    classifier, x, y = trained
    one = attacks.dra(eps=0.02, steps=1, p=1 / 4, loss=adversarial_cross_entropy)(classifier, x, y).numpy()
    changed = (one != x).reshape(len(x), -1).mean(-1)
    assert changed.max() <= 1 / 4 + 1e-6 and changed.mean() > 0.1


@pytest.mark.parametrize("distance", ["l2", "l1", "cosine"])
@pytest.mark.parametrize("classes", ["all", "true"])
def test_infofeature_moves_the_maps_further_than_cross_entropy_alone(trained, distance, classes):
    classifier, x, y = trained
    options = {"eps": 0.05, "step_size": None, "steps": 10}

    def moved(adversary):
        z = adversary(classifier, x, y)
        views = tfrobust.Views(y=y, clean=classifier(x), adv=classifier(z))
        return float(ops.mean(cam_distance(distance, classes)(views)))

    plain = moved(attacks.pgd(**options, loss=adversarial_cross_entropy))
    strong = moved(attacks.get("infofeature", weight=10.0, distance=distance, classes=classes, **options))
    assert strong > 1.02 * plain


def test_infofeature_without_weight_is_pgd(trained):
    options = {"eps": 0.1, "step_size": 0.02, "steps": 5, "start": "uniform"}
    z = attacks.get("infofeature", weight=0.0, **options)(*trained, seed=4)
    np.testing.assert_array_equal(z, attacks.pgd(**options, loss=adversarial_cross_entropy)(*trained, seed=4))


def test_adversarial_interpolation_brings_features_nearer_to_the_partners(trained):
    classifier, x, y = trained
    z = attacks.get("adv_interpolation", eps=0.1)(classifier, x, y)
    partner = classifier(x)["features"][::-1]
    before = losses.cosine_distance(classifier(x)["features"], partner)
    after = losses.cosine_distance(classifier(z)["features"], partner)
    assert float(ops.mean(after)) < 0.8 * float(ops.mean(before))


def test_feature_scattering_knows_no_labels(trained):
    classifier, x, y = trained
    adversary = attacks.get("feature_scatter", eps=0.1)
    np.testing.assert_array_equal(adversary(classifier, x, y), adversary(classifier, x, (y + 1) % 10))
    noise = Linf(0.1).start(tf.constant(x), Noise(0))
    assert success(classifier, adversary, x, y) > success(classifier, lambda *_: noise, x, y) + 0.05


@pytest.mark.parametrize("name", ["feature_scatter", "adv_interpolation"])
def test_one_step_of_size_eps_from_a_uniform_start(trained, name):
    classifier, x, y = trained
    adversary = attacks.get(name, eps=0.1)
    z = adversary(classifier, x, y, seed=6).numpy()
    start = np.asarray(Linf(0.1).start(tf.constant(x), Noise(6)))
    moved = np.clip(x, z - 0.1, z + 0.1) == x  # inside the ball, to rounding
    assert moved.mean() > 0.99
    # A full step ends at the edge of the ball or, from a start beyond the image, at least as far as that was.
    edge = np.minimum(np.abs(z - x), np.minimum(z, 1 - z) + 1e9 * ((z > 0) & (z < 1)))
    assert (
        (np.abs(z - start) <= 0.1 + 1e-6).all() and (np.abs(z - start) > 0.05).mean() > 0.3 and edge.max() <= 0.1 + 1e-6
    )


def test_optimal_transport_knows_permutations():
    """The distance of a batch to itself in another order is nearly nothing, and its plan is that order."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(16, 8)).astype("float32")
    there = losses.optimal_transport(a, a[rng.permutation(16)])
    assert float(ops.sum(there)) < 1e-3
    assert float(ops.sum(losses.optimal_transport(a, -a))) > 0.1
    # The cost is a distance of directions.
    b = rng.normal(size=(16, 8)).astype("float32")
    np.testing.assert_allclose(losses.optimal_transport(3 * a, 0.5 * b), losses.optimal_transport(a, b), atol=1e-5)


def test_any_objective_takes_an_adversary_of_its_own_loss(make_classifier, batch):
    """InfoFeature serves TRADES: its loss takes the inner loss' place."""
    x, y = batch
    trainer = tfrobust.AdversarialTrainer(
        make_classifier(), "trades", attacks.get("infofeature", eps=0.1, step_size=0.05, steps=2)
    )
    trainer.compile(keras.optimizers.SGD(0.1))
    history = trainer.fit(x, y, verbose=0).history
    assert {"kl_divergence", "clean_cross_entropy", "robust_accuracy"} <= set(history)


def test_trades_against_dra_starts_where_its_gradient_is_not_zero(make_classifier, batch):
    x, y = batch
    classifier = make_classifier()
    trainer = tfrobust.AdversarialTrainer(classifier, "trades", attacks.dra(eps=0.05))
    search = trainer._adversary.search(classifier, tf.constant(x), tf.constant(y), Noise(0))[0]
    trades = tfrobust.objectives.trades()
    views = tfrobust.Views(y=y, clean=classifier(x), adv=classifier(search))
    assert trainer._adversary.attack.start is tfrobust.attacks.starts.normal
    small = tfrobust.Views(y=y, clean=classifier(x), adv=classifier(x + 0.001))
    assert float(ops.mean(trades.inner(views))) > 100 * float(ops.mean(trades.inner(small)))
