"""The evaluation against closed forms: of a linear classifier the exact robust accuracy is known."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import attacks, losses
from tfrobust.attacks import Attack
from tfrobust.evaluation import Report, evaluate, suites
from tfrobust.evaluation.attack_list import list_attacks
from tfrobust.evaluation.attack_runs import Progress

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
    return evaluate(classifier, data, **{"eps": EPS, "verbose": False, "probes": 0, **options})


class Pixel(Attack):
    """Adds `by` to the pixels whose number in the image is the run's; it notes the batches that it is given."""

    def __init__(self, by=EPS, runs=1, ball=None, **options):
        super().__init__(ball or attacks.Linf(EPS), **options)
        self.by = by
        self._count = runs
        self.seen = []

    def runs(self, classes):
        return self._count

    def cost(self, classes):
        return (1, 0)

    def search(self, classify, x, y, seed=0, run=0):
        def note(numbers, run):
            self.seen.append((int(run), numbers.numpy().tolist()))

        tf.py_function(note, [seed._numbers, run], [])
        return x + self.by * tf.reshape(tf.one_hot(run, 9), (1, *SHAPE))


def by_pixel(z):
    """Wrong where any of the first three pixels is above 0.9."""
    high = tf.reduce_max(tf.reshape(z, (-1, 9))[:, :3], axis=-1)
    return {"logits": tf.stack([0.9 - high, high - 0.9], axis=-1)}


def pixels(images=23):
    """Images of which every second falls to the first pixel, every third to the second, every fifth to the third."""
    x = np.full((images, 9), 0.5, "float32")
    for pixel, every in enumerate((2, 3, 5)):
        x[::every, pixel] = 0.88
    return x.reshape(images, *SHAPE), np.zeros(images, int)


@pytest.mark.parametrize(
    ("classes", "norm", "eps", "dual"),
    [pytest.param(2, "linf", EPS, 1, marks=pytest.mark.slow), (3, "linf", EPS, 1), (3, "l2", 0.1, 2)],
)
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
    columns = quiet(classify, (x, np.zeros(10, int)), attacks={"up": constant(EPS), "down": constant(-EPS)})
    cascade = quiet(classify, (x, np.zeros(10, int)), attacks=[constant(EPS), constant(-EPS)])
    means = x.mean(axis=(1, 2, 3))
    up, down = means + EPS < 0.6, means - EPS > 0.4
    assert [attack.accuracy for attack in columns.attacks] == [up.mean(), down.mean()]
    assert [attack.accuracy for attack in cascade.attacks] == [up.mean(), (up & down).mean()]
    for report in (columns, cascade):
        np.testing.assert_array_equal(report.robust, up & down)
        assert report.robust_accuracy == (up & down).mean() < min(up.mean(), down.mean())


def test_only_survivors_go_on_in_as_few_batches_as_can_be_across_the_data():
    x, y = pixels()
    pixel, again = Pixel(runs=3), Pixel()
    report = quiet(by_pixel, (x, y), attacks=[pixel, again], batch_size=4)
    left = [n for n in range(23) if n % 2]
    after = [n for n in left if n % 3]
    robust = [n for n in after if n % 5]
    expected = [[list(range(23)), left, after], [robust]]
    for attack, runs in zip((pixel, again), expected, strict=True):
        assert sorted(attack.seen) == [
            (run, part.tolist())
            for run, alive in enumerate(runs)
            for part in np.array_split(alive, -(-len(alive) // 4))
        ]
    first, second = report.attacks
    assert (first.attacked, first.fooled, first.runs) == (23, 23 - len(robust), 3)
    assert (second.attacked, second.fooled, second.runs) == (len(robust), 0, 1)
    assert report.robust_accuracy == first.accuracy == second.accuracy == len(robust) / 23


def test_columns_start_from_all_that_is_right_and_share_the_worst_case():
    x, y = pixels()
    y[1] = 1  # wrong from the start
    attack = Pixel(runs=3)
    cascade = attacks.Cascade([Pixel(), Pixel(runs=2)], ["one", "two"])
    report = quiet(by_pixel, (x, y), attacks={"A": attack, "B": cascade, "none": constant(0.0)})
    a, b, none = report.attacks
    assert (a.attacked, b.attacked, none.attacked) == (22, 22, 22)
    assert (a.accuracy, none.accuracy) == (report.robust_accuracy, report.clean_accuracy)
    one, two = b.parts
    assert [part.name for part in (b, one, two)] == ["B", "one", "two"]
    assert (one.attacked, one.fooled, two.attacked) == (22, 12, 10)
    assert two.accuracy == b.accuracy == sum(n % 2 != 0 and n % 3 != 0 for n in range(23) if n != 1) / 23
    assert (b.fooled, b.runs) == (one.fooled + two.fooled, 3)
    assert [part.name for part in report.flat] == ["A", "one", "two", "none"]


def test_the_worst_adversary_of_each_image_is_kept():
    x, y = pixels()
    y[1] = 1
    weak, strong = Pixel(by=EPS / 5), Pixel(runs=2)  # 0.01 is too little to fool
    report = quiet(by_pixel, (x, y), attacks=[weak, strong, constant(0.0)])
    kept = report.adversaries
    numbers = np.arange(23)
    fooled = ((numbers % 2 == 0) | (numbers % 3 == 0)) & (numbers != 1)
    np.testing.assert_array_equal(kept.fooled_by, np.where(numbers == 1, -2, np.where(fooled, 1, -1)))
    np.testing.assert_array_equal(kept.clean_predicted, np.zeros(23))
    np.testing.assert_array_equal(kept.predicted, fooled)
    flat = (kept.z - kept.x).reshape(23, 9)
    np.testing.assert_allclose(flat[::2, 0], EPS, atol=1e-6)  # fell to the first pixel
    np.testing.assert_allclose(flat[3::6, 1], EPS, atol=1e-6)  # to the second
    assert (flat[1] == 0).all()
    # Robust images keep what came nearest: of image 7 (all grey) the first pixel moved farthest.
    np.testing.assert_allclose(flat[7], [EPS, *[0] * 8], atol=1e-6)
    np.testing.assert_array_equal(kept.confusion(2), [[22 - fooled.sum(), fooled.sum()], [1, 0]])
    assert kept.robust.tolist() == report.robust.tolist()


def test_what_lies_outside_is_discarded_and_alarmed_about():
    x, y = pixels()

    def every_third_goes_too_far(classify, x, y):
        return x + EPS * (1 + (np.arange(len(x)) % 3 == 0)).reshape(-1, 1, 1, 1)

    report = quiet(by_pixel, (x, y), attacks=[every_third_goes_too_far])
    numbers = np.arange(23)
    fooled = ((numbers % 2 == 0) | (numbers % 5 == 0)) & (numbers % 3 != 0)
    np.testing.assert_array_equal(report.robust, ~fooled)
    assert np.abs(report.adversaries.z - x).max() < EPS + 1e-6
    assert any("8 of every_third_goes_too_far" in alarm for alarm in report.alarms)


def test_pixels_out_of_range_are_discarded():
    x, y = np.full((2, *SHAPE), 0.98, "float32"), np.ones(2, int)
    report = quiet(lambda z: {"logits": by_pixel(z)["logits"]}, (x, y), attacks=[constant(EPS), constant(-EPS)])
    assert any("2 of attack" in alarm for alarm in report.alarms)
    assert (report.attacks[0].fooled, report.adversaries.z.max() <= 1) == (0, True)


def test_a_mask_goes_to_the_attacks_and_is_checked():
    classifier, _, _, x, y = problem(3, images=30)
    mask = np.zeros((3, 3, 1))
    mask[0] = 1
    report = quiet(classifier, (x, y), eps=0.3, attacks=["pgd", "fgsm", "cw_linf"], mask=mask)
    changed = np.abs(report.adversaries.z - x).max(axis=(0, 3))
    assert (changed[0] > 0).all() and (changed[1:] == 0).all()
    assert report.notes == ("A mask lets 3 of 9 values change.",)
    assert not any("outside" in alarm for alarm in report.alarms) and report.verify(classifier).ok
    free = quiet(classifier, (x, y), eps=0.3, attacks=["pgd"])
    assert free.robust_accuracy < report.robust_accuracy < report.clean_accuracy
    outside = quiet(classifier, (x, y), eps=0.3, attacks=[constant(0.1)], mask=mask)
    right = round(30 * outside.clean_accuracy)
    assert outside.robust_accuracy == outside.clean_accuracy
    assert any(f"{right} of attack" in alarm for alarm in outside.alarms)
    assert quiet(classifier, (x, y), eps=0.3, mask=mask).robust_accuracy < 1  # the suite takes it


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
    assert report.attacks[5].accuracy == report.robust_accuracy
    robust = exact(weights, logits, y, EPS, 1)
    assert report.attacks[2].accuracy == robust.mean()  # one step suffices on a linear loss
    assert report.attacks[4].accuracy == robust.mean()
    assert report.attacks[5].attacked == round(robust.mean() * len(y))


@pytest.mark.parametrize("given", ["fgsm", "fgsm, cw_linf", attacks.fgsm(eps=EPS)])
def test_attacks_are_given_by_name_or_alone(given):
    classifier, _, _, x, y = problem(2)
    report = quiet(classifier, (x, y), attacks=given)
    assert [a.name for a in report.attacks] == (given.split(", ") if isinstance(given, str) else ["fgsm"])


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


@pytest.mark.parametrize("terminal", [True, False])
def test_verbose_prints_a_line_for_each_attack_and_a_bar_on_a_terminal(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    classifier, _, _, x, y = problem(2, images=8)
    cascade = attacks.Cascade([attacks.cw_linf(eps=EPS, steps=2)], ["part"])
    evaluate(classifier, (x, y), eps=EPS, attacks={"fgsm": "fgsm", "pgd": "pgd", "both": cascade})
    shown = capsys.readouterr()
    assert [line.split(":")[0] for line in shown.out.splitlines()] == ["clean", "fgsm", "pgd", "both/part", "both"]
    assert ("pass" in shown.err) == terminal
    quiet(classifier, (x, y), attacks=["fgsm"])
    assert capsys.readouterr() == ("", "")


def test_progress_counts_work_that_falls_away_as_done(monkeypatch):
    x, y = pixels()
    told = []
    monkeypatch.setattr(Progress, "left", lambda self, work, what: told.append(work))
    monkeypatch.setattr(Progress, "done", lambda self, work: told.append(-work))
    quiet(by_pixel, (x, y), attacks=[Pixel(runs=3), Pixel()], batch_size=23)
    left = [23 * 4, 11 * 3, 7 * 2, 6]  # images times the runs to come, at the start of each run
    assert told == [23 * 4, -23, 11 * 3, -11, 7 * 2, -7, 6, -6] and left == told[::2]
    told.clear()
    quiet(by_pixel, (x, y), attacks={"a": Pixel(runs=2), "b": Pixel()}, batch_size=16)
    # Two batches in the first run: 6 of the first are fooled, which saves their second run; column b starts anew.
    assert told == [23 * 3, -12, 11 + 17 + 23, -11, 11 + 23, -11, 23, -12, 11, -11]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("standard", "paper", "black_box")]


@pytest.mark.parametrize("suite", ["quick", *SLOW])
@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_a_radius_of_zero_leaves_the_clean_accuracy(suite, norm, tmp_path):
    classifier, _, _, x, y = problem(4)
    report = quiet(classifier, (x[:9], y[:9]), eps=0, norm=norm, attacks=suite, probes=8)
    assert 0 < report.clean_accuracy == report.robust_accuracy == report.robust_accuracy_8bit
    assert {result.accuracy for result in report.flat} == {report.clean_accuracy}
    report.save_html(tmp_path / "page.html")


def test_a_classifier_that_is_right_on_no_image_is_told_of(tmp_path):
    classifier, _, logits, x, _ = problem(4)
    report = quiet(classifier, (x, (logits.argmax(-1) + 1) % 4), attacks="quick", probes=8)
    assert report.clean_accuracy == report.robust_accuracy == report.robust_accuracy_8bit == 0.0
    assert any("right on none of the 70 images" in note for note in report.notes)
    report.save_html(tmp_path / "page.html")


def test_the_quick_suite():
    for norm in ("linf", "l2"):
        on_cross_entropy, on_margin = suites.quick(EPS, norm, (0.0, 1.0))
        assert (on_cross_entropy.steps, on_cross_entropy.restarts) == (50, 3)
        assert on_margin.steps == 50
        assert on_margin.ball.eps == EPS
        assert type(on_margin.ball) is type(on_cross_entropy.ball) is attacks.threat_model.NORMS[norm]
    assert suites.names() == sorted(suites.names()) == ["black_box", "paper", "quick", "shipped", "standard"]


def test_the_standard_suite_is_autoattack():
    classifier, weights, logits, x, y = problem(4)
    report = quiet(classifier, (x, y), attacks="standard")
    assert [result.name for result in report.attacks] == [
        "apgd_ce",
        "apgd_t",
        "fab_t",
        "square",
        "boundary",
        "hop_skip_jump",
    ]
    np.testing.assert_array_equal(report.robust, exact(weights, logits, y, EPS, 1))
    assert report.notes == ()
    assert report.attacks[3].kind == "black box"
    alive = [result.attacked for result in report.attacks]
    assert alive[0] == round(70 * report.clean_accuracy) and alive == sorted(alive, reverse=True)


def test_with_few_classes_a_suite_takes_what_is_defined_and_says_so():
    suite, named = (list_attacks(given, attacks.Linf(EPS), classes=2) for given in ("standard", ["autoattack"]))
    assert [entry.name for entry in suite.entries] == [
        "apgd_ce",
        "apgd_margin",
        "fab_t",
        "square",
        "boundary",
        "hop_skip_jump",
    ]
    assert len(suite.notes) == 1 and "apgd_margin in place of apgd_t" in suite.notes[0]
    assert [member.name for member in named.entries[0].members] == [entry.name for entry in suite.entries][:-2]
    assert named.notes == suite.notes
    columns = list_attacks({"AA": attacks.autoattack(EPS, classes=2)}, attacks.Linf(EPS), classes=2)
    assert columns.notes == (f"AA: {suite.notes[0]}",)

    @suites.register
    def demanding(eps, classes):
        return {"A": Pixel(least_classes=3), "B": Pixel()}

    try:
        x, y = pixels()
        report = quiet(by_pixel, (x, y), attacks="demanding")
        assert [result.name for result in report.attacks] == ["B"]
        assert report.notes == ("A is left out: it is defined for at least 3 classes, not for 2.",)
        assert f"note: {report.notes[0]}" in str(report)
    finally:
        del suites.SUITES._factories["demanding"]


def test_notes_say_what_bounds_do_to_eps_and_to_the_pixels():
    x, y = pixels()
    narrow = quiet(by_pixel, (x, y), attacks=["fgsm"], bounds=(0.0, 255.0))
    assert any("of a range of 255" in note for note in narrow.notes)
    assert any("are the bounds right?" in note for note in narrow.notes)
    assert quiet(by_pixel, (x, y), attacks=["fgsm"]).notes == ()


def test_the_paper_suite_has_the_columns_of_the_papers():
    made = suites.paper(eps=8 / 255)
    counts = [f"PGD-{n}" for n in (7, 20, 100, 200)], [f"CW-{n}" for n in (20, 30, 100)]
    assert list(made) == ["FGSM", *counts[0], "MIM-20", *counts[1], "FAB", "AutoAttack"]
    assert isinstance(made["AutoAttack"], attacks.Cascade)
    for label, attack in made.items():
        if "-" in label:
            search = getattr(attack, "attack", attack)
            assert search.steps == int(label.split("-")[1]) and search.keep == "last"
    search = made["PGD-7"]
    x = tf.fill((1, *SHAPE), 0.5)
    moved = search.step(x, tf.ones_like(x), tf.zeros(1), search.ball, search.step.init(x))[0]
    np.testing.assert_allclose(moved - x, 2 / 255, atol=1e-7)


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
    report = quiet(make_classifier(), batch, eps=0.1, attacks=labelled)
    listed = quiet(make_classifier(), batch, eps=0.1, attacks=list(labelled.values()))
    assert [result.name for result in report.attacks] == list(labelled)
    assert report.robust_accuracy == min(result.accuracy for result in listed.attacks)


@pytest.mark.parametrize("attacks", ["quick", ["dra"]])
def test_an_evaluation_in_the_ball_of_mean_absolute_changes(make_classifier, batch, attacks):
    report = quiet(make_classifier(), batch, eps=0.1, norm="l1", attacks=attacks)
    assert report.norm == "l1" and report.robust_accuracy < report.clean_accuracy
