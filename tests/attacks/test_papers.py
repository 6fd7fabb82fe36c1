"""The attacks of the papers: what they ascend, how they start, and that they do to a network what the papers say."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import tfrobust
from tfrobust import attacks, losses
from tfrobust.attacks import Linf
from tfrobust.attacks.view_losses import cam_distance
from tfrobust.objectives.terms import adversarial_cross_entropy
from tfrobust.utils.random import Noise


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


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 20])
def test_dra_succeeds_more_often_the_more_values_it_may_change(trained, steps):
    """Thesis, figure 4.4: success rises with p, by less and less."""
    rates = [
        success(trained[0], attacks.dra(0.04, steps=steps, p=p, loss=adversarial_cross_entropy), *trained[1:])
        for p in (1 / 24, 1 / 12, 1 / 6, 1 / 3, 1.0)
    ]
    assert rates == sorted(rates) and rates[0] + 0.1 < rates[2] < rates[4] - 0.1


@pytest.mark.slow
def test_dra_is_about_twice_as_strong_as_pgd_at_the_same_eps(trained):
    """Thesis, figure 4.4: DRA at 1/255 with p = 1/3 does what PGD does at 2.55/255."""
    rates = {
        factor: success(trained[0], attacks.pgd(factor * 0.04, steps=20, loss=adversarial_cross_entropy), *trained[1:])
        for factor in (1.4, 2.6)
    }
    dra = success(trained[0], attacks.dra(0.04, steps=5, loss=adversarial_cross_entropy), *trained[1:])
    assert rates[1.4] < dra < rates[2.6]


def test_dra_takes_its_share_of_the_budget():
    """Where the gradient is constant all steps together move the share p of the values by their part of eps * N."""
    gradient = np.arange(1.0, 17.0, dtype="float32").reshape(1, 4, 4, 1)

    def classify(z):
        evidence = -tf.reduce_sum(gradient * z, (1, 2, 3))
        return {"logits": tf.stack([evidence, tf.zeros_like(evidence)], -1)}

    x, y = np.full((1, 4, 4, 1), 0.5, "float32"), np.array([0])
    for p, moved in ((1.0, gradient), (1 / 4, np.where(gradient > 12, gradient, 0.0))):
        z = attacks.dra(0.05, steps=5, p=p)(classify, x, y)
        np.testing.assert_allclose(z - x, 0.05 * 16 * moved / gradient.sum(), atol=1e-6)


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


MAPS = {"eps": 0.05, "step_size": None, "steps": 10}


@pytest.fixture(scope="module")
def misled(trained):
    """Where cross entropy alone leads."""
    return attacks.pgd(**MAPS, loss=adversarial_cross_entropy)(*trained)


@pytest.mark.parametrize(
    ("distance", "classes"),
    [
        ("l2", "all"),
        pytest.param("l2", "true", marks=pytest.mark.slow),
        pytest.param("l1", "true", marks=pytest.mark.slow),
        pytest.param("cosine", "all", marks=pytest.mark.slow),
    ],
)
def test_infofeature_moves_the_maps_further_than_cross_entropy_alone(trained, misled, distance, classes):
    classifier, x, y = trained

    def moved(z):
        views = tfrobust.Views(y=y, clean=classifier(x), adv=classifier(z))
        return float(ops.mean(cam_distance(distance, classes)(views)))

    strong = attacks.get("infofeature", weight=10.0, distance=distance, classes=classes, **MAPS)
    assert moved(strong(*trained)) > 1.02 * moved(misled)


def test_infofeature_without_weight_is_pgd(trained):
    options = {"eps": 0.1, "step_size": 0.02, "steps": 5, "start": "uniform"}
    z = attacks.get("infofeature", weight=0.0, **options)(*trained, seed=4)
    np.testing.assert_array_equal(z, attacks.pgd(**options, loss=adversarial_cross_entropy)(*trained, seed=4))


def test_infofeature_without_cross_entropy_knows_no_labels(trained):
    """InfoFeature, equation 3 with lambda_1 = 0: its search reads the maps of all classes and nothing else."""
    classifier, x, y = trained
    maps = attacks.get("infofeature", cross_entropy_weight=0.0, **MAPS)
    np.testing.assert_array_equal(maps(classifier, x, y), maps(classifier, x, (y + 1) % 10))


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
    """Seen from the start: a sign step of eps, back into the ball and the range, exactly."""
    classifier, x, y = trained
    adversary = attacks.get(name, eps=0.1)
    z = adversary(classifier, x, y, seed=6).numpy()
    start = np.asarray(Linf(0.1).start(tf.constant(x), Noise(6)))
    ends = [np.clip(np.clip(start + s * 0.1, x - 0.1, x + 0.1), 0, 1) for s in (-1, 0, 1)]
    assert np.min([np.abs(z - end) for end in ends], axis=0).max() < 1e-6
    assert (np.abs(z - ends[1]) > 1e-6).mean() > 0.3


def test_the_default_step_of_infofeature_follows_eps():
    for eps in (8 / 255, 0.3):
        step = attacks.get("infofeature", eps=eps).step
        np.testing.assert_allclose(step.size.fraction * eps, eps / 4)
    np.testing.assert_allclose(step.size.fraction * 8 / 255, 2 / 255)  # the paper's


def test_half_precision_does_not_blind_an_attack(trained):
    """Unscaled, most of a confident network's gradients round to zero in float16."""
    classifier, x, y = trained
    keras.config.set_dtype_policy("mixed_float16")
    half = tfrobust.models.get("digits", features=64)
    half.set_weights(classifier.get_weights())
    pgd = attacks.pgd(eps=0.08, steps=10, loss=adversarial_cross_entropy)
    assert abs(success(half, pgd, x, y) - success(classifier, pgd, x, y)) < 0.05


def test_an_adversary_says_what_the_classifier_lacks(make_classifier, batch):
    with pytest.raises(ValueError, match=r"reads `clean\['cam'\]`.*global average pooling and a dense layer"):
        attacks.get("infofeature", eps=0.1)(make_classifier(features=False), *batch)


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
    search = trainer._adversary.search(classifier, tf.constant(x), tf.constant(y), Noise(0))
    trades = tfrobust.objectives.trades()
    views = tfrobust.Views(y=y, clean=classifier(x), adv=classifier(search))
    assert trainer._adversary.start is tfrobust.attacks.starts.normal
    small = tfrobust.Views(y=y, clean=classifier(x), adv=classifier(x + 0.001))
    assert float(ops.mean(trades.inner(views))) > 100 * float(ops.mean(trades.inner(small)))
