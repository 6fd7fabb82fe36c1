"""Auto-PGD and AutoAttack: the whole loop against NumPy, what each loss reaches for, and when a search ends."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfrobust import attacks, losses
from tfrobust.attacks import L2, GradientAttack, Linf, Normalized, Sign
from tfrobust.attacks.apgd import LOSSES, AutoStep
from tfrobust.attacks.autoattack import VERSIONS, substitutes
from tfrobust.utils.random import ImageNoise, Noise

RNG = np.random.default_rng(3)
X = RNG.uniform(0.2, 0.8, (12, 3, 3, 1)).astype("float32")
W = RNG.normal(0, 1, (9, 5)).astype("float32")


def linear(z):
    """Logits of five classes."""
    return {"logits": ops.matmul(ops.reshape(z, (-1, 9)), W)}


LOGITS = np.asarray(linear(X)["logits"])
Y = LOGITS.argmax(axis=-1).astype("int32")


def right(classify, z, y):
    return np.asarray(losses.correct(classify(z)["logits"], y)) > 0


def numpy_linear_apgd(x, w, eps, l2, steps):
    """Up to the first control point, for a loss whose gradient is w everywhere: every step has size 2 eps."""

    def project(z):
        delta = z - x
        length = np.sqrt((delta**2).sum((1, 2, 3), keepdims=True))
        delta = delta * np.minimum(1, eps / np.maximum(length, 1e-12)) if l2 else np.clip(delta, -eps, eps)
        return np.clip(x + delta, 0, 1)

    direction = w / np.linalg.norm(w) if l2 else np.sign(w)
    before, z = x, project(x + 2 * eps * direction)
    for _ in range(steps - 1):
        moved = project(z + 2 * eps * direction)
        before, z = z, project(z + 0.75 * (moved - z) + 0.25 * (z - before))
    return z


@pytest.mark.parametrize(("ball", "rule"), [(Linf(0.3), Sign(1.0)), (L2(0.7), Normalized(1.0))])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_the_loop_takes_the_steps_of_a_numpy_loop(ball, rule, steps):
    w = W[:, 0].reshape(3, 3, 1)
    search = GradientAttack(ball, AutoStep(rule, 100), steps, start="none")
    z, _ = search.ascend(lambda z: ops.sum(w * z, axis=(1, 2, 3)), X)
    np.testing.assert_allclose(z, numpy_linear_apgd(X, w, ball.radius, isinstance(ball, L2), steps), atol=1e-5)


@pytest.mark.parametrize(("norm", "order"), [("linf", np.inf), ("l2", 2)])
def test_it_starts_on_the_surface(norm, order):
    attack = attacks.apgd(eps=0.1, norm=norm)
    delta = np.asarray(attack.start(attack.ball, tf.constant(X), Noise(2)) - X).reshape(len(X), 9)
    np.testing.assert_allclose(np.linalg.norm(delta, order, axis=1), 0.1, rtol=1e-4)
    assert len(np.unique(np.abs(delta).round(5))) > 90  # not a corner
    mask = np.zeros((3, 3, 1))
    mask[0] = 1
    attack = attacks.apgd(eps=0.1, norm=norm, mask=mask)
    delta = np.asarray(attack.start(attack.ball, tf.constant(X), Noise(2)) - X).reshape(len(X), 9)
    np.testing.assert_allclose(np.linalg.norm(delta[:, :3], order, axis=1), 0.1, rtol=1e-4)
    np.testing.assert_array_equal(delta[:, 3:], 0)


def exactly_robust(eps, dual):
    """Which images no perturbation in the ball fools: the margin to each class is above eps * dual norm."""
    margins = LOGITS[np.arange(12), Y][:, None] - LOGITS
    slack = margins - eps * np.linalg.norm(W[:, Y].T[:, :, None] - W[None], ord=dual, axis=1)
    slack[np.arange(12), Y] = np.inf
    assert np.abs(slack).min() > 1e-3
    return (slack > 0).all(axis=-1)


@pytest.mark.parametrize(("norm", "eps", "dual"), [("linf", 0.1, 1), ("l2", 0.25, 2)])
@pytest.mark.parametrize("loss", ["dlr", "dlr_targeted", "margin"])  # cross entropy may climb to the wrong class
def test_of_a_linear_classifier_it_finds_all_there_are(loss, norm, eps, dual):
    robust = exactly_robust(eps, dual)
    assert 0 < robust.sum() < 12
    z = attacks.apgd(eps=eps, steps=30, loss=loss, norm=norm)(linear, X, Y)
    np.testing.assert_array_equal(right(linear, z, Y), robust)


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
def test_targeted_reaches_the_class(loss):
    target = (Y + 1) % 5
    z = attacks.apgd(eps=0.5, steps=20, loss=loss, targeted=True)(linear, X, target)
    assert right(linear, z, target).all()
    assert not right(linear, X, target).any()


def counting(classify):
    calls = []

    def counted(z):
        calls.append(len(z))
        return classify(z)

    return counted, calls


def test_a_search_ends_when_all_are_fooled_and_costs_what_it_says():
    attack = attacks.apgd(eps=0.01, steps=15)
    assert attack.cost(classes=5) == (16, 15)
    classify, calls = counting(linear)
    attack.search(classify, tf.constant(X), tf.constant(Y))  # eager: the loop's body runs each time
    assert len(calls) == 16
    classify, calls = counting(linear)
    wrong = (Y + 1) % 5
    z = attack.search(classify, tf.constant(X), tf.constant(wrong))
    assert len(calls) == 2  # the start, and what comes after the loop
    np.testing.assert_array_equal(z, attack.start(attack.ball, tf.constant(X), Noise(0)))  # the start counts


def test_it_reaches_for_classes_by_their_rank():
    attack = attacks.apgd(eps=0.05, steps=1, loss="dlr_targeted", targets=3, restarts=2)
    assert attack.runs(classes=5) == 6
    assert attacks.apgd(loss="dlr_targeted").runs(classes=5) == 4  # of nine
    assert attacks.apgd(loss="dlr_targeted").runs(classes=100) == 9
    assert attacks.apgd(loss="ce", restarts=2).runs(classes=5) == 2
    ranks = np.argsort(-LOGITS, axis=-1)  # the first is the label
    for run in range(6):
        seen = []

        def spy(views, seen=seen):
            seen.append(np.asarray(views.target))
            return attack.loss(views)

        attack._with(loss=spy).search(linear, tf.constant(X), tf.constant(Y), run=run)
        np.testing.assert_array_equal(seen[0], ranks[:, 1 + run % 3])


@pytest.mark.parametrize("options", [{}, {"loss": "dlr_targeted", "norm": "l2", "eps": 0.4}])
def test_an_image_meets_the_same_search_in_every_batch(options, make_classifier, batch):
    x, y = batch
    classifier = make_classifier()
    attack = attacks.apgd(**{"eps": 0.1, "steps": 12, **options})

    def search(rows):
        noise = ImageNoise(tf.constant([5, 0]), tf.range(20)[rows])
        return attack.search(classifier, tf.constant(x[rows]), tf.constant(y[rows]), noise, 0).numpy()

    whole = search(slice(None))
    parts = np.concatenate([search(slice(0, 7)), search(slice(7, 8)), search(slice(8, 20))])
    np.testing.assert_allclose(parts, whole, atol=1e-4)
    np.testing.assert_array_equal(right(classifier, parts, y), right(classifier, whole, y))


@pytest.fixture
def trained(make_classifier, batch):
    """A classifier that has learnt the batch, and the batch."""
    x, y = batch
    classifier = make_classifier(features=False)
    logits = keras.Model(classifier.input, classifier.output["logits"])
    logits.compile(keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logits.fit(np.tile(x, (40, 1, 1, 1)), np.tile(y, 40), batch_size=20, verbose=0)
    return classifier, x, y


def test_it_finds_at_least_as_many_as_pgd(trained):
    classifier, x, y = trained
    for options in ({"eps": 0.13, "norm": "linf"}, {"eps": 0.6, "norm": "l2"}):
        pgd = attacks.pgd(**options, steps=20, keep="best", start="uniform", loss=LOSSES["ce"].loss)
        apgd = attacks.apgd(**options, steps=20)
        left = [right(classifier, attack(classifier, x, y), y).sum() for attack in (apgd, pgd)]
        assert 2 <= left[0] <= left[1] < right(classifier, x, y).sum() - 2


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: attacks.apgd(loss="dlr_targetted"), "Unknown loss of apgd.*Did you mean 'dlr_targeted'"),
        (lambda: attacks.apgd(norm="l1"), "Unknown norm of apgd: expected one of l2, linf. Received: 'l1'"),
        (lambda: attacks.apgd(steps=0), "`steps`: expected an integer of at least 1"),
        (lambda: attacks.apgd(loss="dlr_targeted", targets=0), "`targets`: expected an integer of at least 1"),
        (
            lambda: attacks.apgd(loss="dlr_targeted", targeted=True),
            r"\(targeted=True\): expected one of ce, dlr, margin\.",
        ),
        (lambda: attacks.apgd(loss="dlr", targeted=True).check_classes(3), "at least 4 classes"),
        (lambda: attacks.apgd(loss="dlr").check_classes(2), "at least 3 classes.*a classifier of 2 classes"),
        (lambda: attacks.apgd(loss="dlr_targeted").check_classes(3), "at least 4 classes"),
        (lambda: attacks.autoattack(version="standart"), "Unknown version of autoattack.*'standard'"),
        (lambda: attacks.autoattack(classes=1), "`classes`: expected an integer of at least 2. Received: 1"),
        (lambda: substitutes(5, "random"), "Unknown version"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_the_versions_of_autoattack():
    standard = ("apgd_ce", "apgd_t", "fab_t", "square")
    plus = ("apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t")
    runs = {"standard": [1, 9, 9, 1], "plus": [5, 5, 5, 1, 9, 9], "rand": [1, 1]}
    for version, names in {"standard": standard, "plus": plus, "rand": ("apgd_ce", "apgd_dlr")}.items():
        suite = attacks.autoattack(eps=0.1, norm="l2", version=version, bounds=(-1.0, 1.0))
        assert suite.names == names
        assert [member.runs(classes=10) for member in suite.members] == runs[version]
        assert [member.name for member in suite.members] == [name.split("_")[0] for name in names]
        for member in suite.members:
            assert isinstance(member.ball, L2) and member.ball.eps == 0.1 and member.ball.bounds == (-1.0, 1.0)
    for member in attacks.autoattack(version="rand").members:
        assert member.gradients.samples == 20 and member.cost(10) == (101 * 20, 100 * 20)


def test_with_few_classes_other_losses_take_their_place_and_it_says_so():
    assert substitutes(classes=4) == substitutes(classes=10, version="plus") == ()
    assert [s.split(",")[0] for s in substitutes(3)] == ["apgd_dlr in place of apgd_t"]
    assert [s.split(",")[0] for s in substitutes(2, "plus")] == [
        "apgd_margin in place of apgd_dlr",
        "apgd_margin in place of apgd_t",
    ]
    three, two = (attacks.autoattack(version="plus", classes=classes) for classes in (3, 2))
    assert three.names == ("apgd_ce", "apgd_dlr", "fab", "square", "fab_t")
    assert two.names == ("apgd_ce", "apgd_margin", "fab", "square", "fab_t")
    assert two.members[1].runs(classes=2) == 5  # the restarts of what it stands for
    assert [m.gradients.samples for m in attacks.autoattack(version="rand", classes=2).members] == [20, 20]
    for version in VERSIONS:
        for classes in (2, 3, 4):
            for member in attacks.autoattack(version=version, classes=classes).members:
                member.check_classes(classes)


@pytest.mark.parametrize("classes", [pytest.param(2, marks=pytest.mark.slow), 5])
def test_autoattack_finds_all_there_are(classes):
    def classify(z):
        return {"logits": linear(z)["logits"][:, :classes]}

    y = LOGITS[:, :classes].argmax(axis=-1)
    margins = LOGITS[np.arange(12), y][:, None] - LOGITS[:, :classes]
    slack = margins - 0.1 * np.abs(W[:, y].T[:, :, None] - W[None, :, :classes]).sum(1)
    slack[np.arange(12), y] = np.inf
    z = attacks.autoattack(eps=0.1, classes=classes)(classify, X, y)
    np.testing.assert_array_equal(right(classify, z, y), (slack > 0).all(axis=-1))
    assert np.abs(z - X).max() <= 0.1 + 1e-6
