"""The evaluation against closed forms: of a linear classifier the exact robust accuracy is known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import attacks, losses
from tfrobust.evaluation import Report, evaluate, suites

EPS = 0.05
SHAPE = (3, 3, 1)


def linear(weights, bias):
    """A Keras classifier with logits = x W + b, W `(9, C)`."""
    inputs = keras.Input(SHAPE)
    dense = keras.layers.Dense(len(bias))
    classifier = keras.Model(inputs, {"logits": dense(keras.layers.Flatten()(inputs))})
    dense.set_weights([weights.astype("float32"), np.asarray(bias, "float32")])
    return classifier


def problem(classes, seed=0, images=70):
    """A linear classifier, and images whose worst logit margins in the ball lie on both sides of zero."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(9, classes))
    bias = -0.5 * weights.sum(axis=0)  # the classes meet in the middle of the pixel range
    x = rng.uniform(0.2, 0.8, (images, *SHAPE)).astype("float32")
    logits = x.reshape(images, 9) @ weights + bias
    y = logits.argmax(axis=-1)
    y[::7] = (y[::7] + 1) % classes  # some are wrong from the start
    return linear(weights, bias), weights, logits, x, y


def exact(weights, logits, y, eps, dual):
    """Which images no perturbation in the ball fools: margin to every j > eps * dual norm of w_y - w_j."""
    margins = logits[np.arange(len(y)), y][:, None] - logits
    norms = np.linalg.norm(weights[:, y][:, :, None] - weights[:, None, :], ord=dual, axis=0)
    slack = margins - eps * norms
    slack[np.arange(len(y)), y] = np.inf
    assert (np.abs(slack) > 1e-4).all()  # none so near the edge that rounding decides
    return (slack > 0).all(axis=-1)


def class_over_label(j):
    def loss(views):
        logits = views.adv["logits"]
        return logits[:, j] - tf.gather(logits, views.y, batch_dims=1)

    return loss


def constant(delta):
    def attack(classify, x, y):
        return x + delta

    return attack


def quiet(classifier, data, **options):
    return evaluate(classifier, data, **{"eps": EPS, "verbose": False, **options})


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("norm", "eps", "dual"), [("linf", EPS, 1), ("l2", 0.1, 2)])
def test_robust_accuracy_of_a_linear_classifier_is_exact(classes, norm, eps, dual):
    classifier, weights, logits, x, y = problem(classes)
    robust = exact(weights, logits, y, eps, dual)
    assert 0.2 < robust.mean() < 0.8
    # Towards each class the loss is linear, so that PGD is exact; the worst case over them all is the closed form.
    towards = [attacks.pgd(eps, step_size=eps, steps=20, norm=norm, loss=class_over_label(j)) for j in range(classes)]
    report = quiet(classifier, (x, y), eps=eps, norm=norm, batch_size=32, attacks=towards)
    np.testing.assert_array_equal(report.robust, robust)
    assert report.robust_accuracy == pytest.approx(robust.mean())
    assert report.clean_accuracy == pytest.approx((logits.argmax(axis=-1) == y).mean())
    assert all(attack.accuracy >= report.robust_accuracy for attack in report.attacks)
    # The margin of three classes is a maximum of two linear functions, in which a search may climb the lower one; and
    # small steps in the L2 ball come near its farthest point.
    quick = quiet(classifier, (x, y), eps=eps, norm=norm).robust
    assert (quick >= robust).all()
    assert (quick != robust).mean() < 0.03


def test_tiny_eps_leaves_clean_accuracy():
    classifier, _, _, x, y = problem(3)
    report = quiet(classifier, (x, y), eps=1e-9)
    assert report.robust_accuracy == report.clean_accuracy < 1


def test_an_image_is_robust_if_every_attack_fails():
    def classify(z):  # right (class 0) in the middle alone: brightness fools half of the images, darkness the others
        mean = tf.reduce_mean(z, axis=(1, 2, 3))
        return {"logits": tf.stack([tf.zeros_like(mean), tf.abs(mean - 0.5) - 0.1], axis=-1)}

    x = np.full((10, *SHAPE), 0.5, "float32") + np.linspace(-0.06, 0.06, 10, dtype="float32").reshape(-1, 1, 1, 1)
    report = quiet(classify, (x, np.zeros(10, int)), attacks=[constant(EPS), constant(-EPS)])
    means = x.mean(axis=(1, 2, 3))
    up, down = means + EPS < 0.6, means - EPS > 0.4
    assert [attack.accuracy for attack in report.attacks] == [up.mean(), down.mean()]
    np.testing.assert_array_equal(report.robust, up & down)
    assert report.robust_accuracy < min(up.mean(), down.mean())


def test_restarts_count_by_success_not_by_loss():
    """The image falls to the restart that fools it, though another one reaches a greater loss without fooling it."""

    def classify(z):
        first = z[:, 0, 0, 0]
        return {"logits": tf.stack([0 * first, tf.sign(first - 0.5) - 0.5], axis=-1), "tempting": -first}

    search = attacks.pgd(eps=EPS, steps=1, step_size=1e-9, restarts=8)
    adversary = search.maximizing(lambda views: views.adv["tempting"])
    x = np.full((40, *SHAPE), 0.4999, "float32")
    report = quiet(classify, (x, np.zeros(40, int)), attacks=[adversary])
    assert report.clean_accuracy == 1
    assert report.robust_accuracy < 0.1  # 2 ** -8 expected; by the loss it would be about 1


def test_items_of_a_list_are_names_configs_attacks_adversaries_and_callables():
    classifier, weights, logits, x, y = problem(2)
    items = [
        "pgd",
        {"name": "pgd", "steps": 3},
        attacks.fgsm(eps=EPS),
        attacks.cw_linf(eps=EPS, steps=5),
        attacks.pgd(eps=EPS / 2, steps=2, loss=lambda views: losses.margin(views.adv["logits"], views.y)),
        constant(0.0),
    ]
    report = quiet(classifier, (x, y), attacks=items)
    assert [a.name for a in report.attacks] == ["pgd", "pgd#2", "fgsm", "cw_linf", "pgd#3", "attack"]
    assert report.attacks[0].settings["eps"] == EPS
    assert report.attacks[0].settings["loss"] == "adversarial_cross_entropy"
    assert report.attacks[1].settings["steps"] == 3
    assert report.attacks[5].accuracy == report.clean_accuracy
    robust = exact(weights, logits, y, EPS, 1)
    assert report.attacks[2].accuracy == robust.mean()  # one step suffices on a linear loss
    assert report.attacks[4].accuracy > robust.mean()


def test_names_take_the_evaluations_ball():
    classifier, weights, logits, x, y = problem(2)
    report = quiet(classifier, (x * 255, y), eps=EPS * 255, bounds=(0, 255), attacks=["fgsm"])
    del weights, logits
    assert report.bounds == (0.0, 255.0)
    assert report.attacks[0].settings["bounds"] == [0.0, 255.0]
    assert quiet(classifier, (x, y), eps=0.1, norm="l2", attacks=["pgd"]).attacks[0].settings["norm"] == "l2"


def test_a_seed_repeats_and_the_batch_size_changes_nothing():
    classifier, _, _, x, y = problem(3, images=41)
    weak = {"attacks": [attacks.pgd(eps=EPS, steps=1, step_size=EPS / 3, restarts=2)]}
    reports = [
        quiet(classifier, (x, y), seed=seed, batch_size=size, **weak) for seed, size in [(0, 41), (0, 41), (0, 7)]
    ]
    np.testing.assert_array_equal(reports[0].robust, reports[1].robust)
    np.testing.assert_array_equal(reports[0].robust, reports[2].robust)
    others = [quiet(classifier, (x, y), seed=seed, **weak).robust for seed in (1, 2, 3)]
    assert any((other != reports[0].robust).any() for other in others)


def test_noise_differs_between_restarts_attacks_and_images():
    seen = []

    def start(ball, x, noise):
        drawn = noise.uniform(x)
        tf.py_function(lambda d: seen.append(d.numpy()), [drawn], [])
        return x

    def always_right(z):
        return {"logits": tf.one_hot(tf.zeros_like(z[:, 0, 0, 0], tf.int32), 2)}

    _, _, _, x, _ = problem(2, images=5)
    noisy = [attacks.pgd(eps=EPS, steps=1, step_size=1e-9, start=start, restarts=2) for _ in range(2)]
    quiet(always_right, (x, [0] * 5), attacks=noisy, batch_size=3)
    assert len(seen) == 8  # 2 attacks, 2 restarts, 2 batches
    rows = np.concatenate(seen).reshape(20, -1)
    assert len(np.unique(rows, axis=0)) == 20


def test_no_retrace_whatever_the_batches():
    calls = []

    def counted(z):
        calls.append(1)
        first = tf.reduce_sum(z * np.linspace(-1, 1, 9, dtype="float32").reshape(SHAPE), axis=(1, 2, 3))
        return {"logits": tf.stack([first, -first], axis=-1)}

    _, _, _, x, y = problem(2, images=50)
    asked = 1 + 5  # eager calls: what it gives, and the passes of the check for randomness
    quiet(counted, (x, y), batch_size=50)
    once = len(calls) - asked
    calls.clear()
    report = quiet(counted, (x, y), batch_size=6)
    assert 0 < report.robust_accuracy < report.clean_accuracy < 1  # batches of every size came by
    assert len(calls) - asked == once <= 12


def test_data_is_read_once_and_labels_may_have_any_form():
    classifier, _, _, x, y = problem(3)
    reads = []

    def generate():
        reads.append(1)
        yield from zip(x, np.eye(3)[y], strict=True)

    spec = (tf.TensorSpec(SHAPE, tf.float32), tf.TensorSpec((3,), tf.float64))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=spec).batch(16)
    expected = quiet(classifier, (x, y), attacks=["fgsm"])
    assert quiet(classifier, dataset, attacks=["fgsm"]).robust_accuracy == expected.robust_accuracy
    assert len(reads) == 1
    column = quiet(classifier, (x, y[:, None].astype("uint8")), attacks=["fgsm"])
    assert column.robust_accuracy == expected.robust_accuracy


def test_a_foreign_attack_gets_the_classifier_as_given_outside_a_graph():
    classifier, _, _, x, y = problem(2)
    seen = {}

    class Foreign:
        name = "foreign"

        def get_config(self):
            return {"strength": np.float32(2), "norm": np.inf}

        def __call__(self, classify, x, y):
            seen.update(eager=tf.executing_eagerly(), classify=classify, y=y.numpy())
            return x.numpy().astype("float64")

    report = quiet(classifier, (x, y), attacks=[Foreign()])
    assert seen["eager"] and seen["classify"] is classifier
    assert report.attacks[0].name == "foreign"
    assert report.attacks[0].settings["strength"] == 2.0
    assert report.attacks[0].accuracy == report.clean_accuracy


def test_nothing_right_means_nothing_to_attack():
    classifier, _, logits, x, _ = problem(2)
    report = quiet(classifier, (x, logits.argmin(axis=-1)))
    assert (report.clean_accuracy, report.robust_accuracy) == (0, 0)
    assert [attack.accuracy for attack in report.attacks] == [0, 0]


def test_verbose_prints_a_line_for_each_attack(capsys):
    classifier, _, _, x, y = problem(2, images=8)
    evaluate(classifier, (x, y), eps=EPS, attacks=["fgsm", "pgd"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["clean", "fgsm", "pgd"]
    quiet(classifier, (x, y), attacks=["fgsm"])
    assert capsys.readouterr().out == ""


def test_the_quick_suite():
    for norm in ("linf", "l2"):
        on_cross_entropy, on_margin = suites.quick(EPS, norm, (0.0, 1.0))
        assert (on_cross_entropy.attack.steps, on_cross_entropy.attack.restarts) == (50, 3)
        assert on_margin.attack.steps == 50
        assert on_margin.ball.eps == EPS
        assert type(on_margin.ball) is type(on_cross_entropy.ball) is attacks.balls.NORMS[norm]
    assert suites.names() == sorted(suites.names()) and "quick" in suites.names()


def test_a_new_suite_is_one_function():
    @suites.register
    def only_fgsm(eps, norm, bounds):
        return [attacks.fgsm(eps, norm=norm, bounds=bounds), constant(0.0)]

    try:
        classifier, _, _, x, y = problem(2, images=8)
        report = quiet(classifier, (x, y), attacks="only_fgsm")
        assert isinstance(report, Report)
        assert [attack.name for attack in report.attacks] == ["fgsm", "attack"]
    finally:
        del suites.SUITES._factories["only_fgsm"]


def test_attacks_may_have_labels_of_the_users_own(make_classifier, batch):
    labelled = {"PGD-2": {"name": "pgd", "steps": 2}, "PGD-5": {"name": "pgd", "steps": 5}, "margin": "cw_linf"}
    report = evaluate(make_classifier(), batch, eps=0.1, attacks=labelled, verbose=False)
    listed = evaluate(make_classifier(), batch, eps=0.1, attacks=list(labelled.values()), verbose=False)
    assert [result.name for result in report.attacks] == list(labelled)
    assert [result.accuracy for result in report.attacks] == [result.accuracy for result in listed.attacks]


@pytest.mark.parametrize("attacks", ["quick", ["dra"]])
def test_an_evaluation_in_the_ball_of_mean_absolute_changes(make_classifier, batch, attacks):
    report = evaluate(make_classifier(), batch, eps=0.1, norm="l1", attacks=attacks, verbose=False)
    assert report.norm == "l1" and report.robust_accuracy < report.clean_accuracy
