"""Classifiers whose logits or gradients are NaN or infinite: no door crashes, and every one says the same of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrobust import attacks, interpret, losses
from tfrobust.evaluation import evaluate
from tfrobust.evaluation.tables import corruptions, noise, shifts, transfer_table

EPS = 0.12  # lets about half of the images be fooled
NAN, INF = float("nan"), float("inf")


def quarters(pixels):
    """A Keras tensor of four logits: 10 times the mean of each quarter of 6x6 pixels."""
    kernel = np.zeros((6, 6, 4), "float32")
    for label in range(4):
        row, column = 3 * (label // 2), 3 * (label % 2)
        kernel[row : row + 3, column : column + 3, label] = 10 / 9
    dense = keras.layers.Dense(4)
    logits = dense(keras.layers.Flatten()(pixels))
    dense.set_weights([kernel.reshape(36, 4), np.zeros(4, "float32")])
    return logits


def model(of_pixels=None, of_logits=None):
    """A classifier of quarters, with a function in front of it or behind it."""
    inputs = pixels = keras.Input((6, 6, 1))
    if of_pixels is not None:
        pixels = keras.layers.Lambda(of_pixels)(pixels)
    logits = quarters(pixels)
    if of_logits is not None:
        logits = keras.layers.Lambda(of_logits)(logits)
    return keras.Model(inputs, {"logits": logits})


def ruled_out(z):
    return tf.concat([z, tf.fill(tf.shape(z[:, :1]), -INF)], axis=-1)


BROKEN = {
    "root of a square": lambda: model(of_pixels=lambda x: tf.sqrt(tf.square(x))),  # its gradient at black is NaN
    "root": lambda: model(of_pixels=tf.sqrt),  # infinite at black
    "nothing but NaN": lambda: model(of_logits=lambda z: NAN * z),
    "some NaN": lambda: model(of_logits=lambda z: tf.where(z[:, :1] > 4, NAN, z)),
    "a class ruled out": lambda: model(of_logits=ruled_out),
    "all ruled out": lambda: model(of_logits=lambda z: tf.fill(tf.shape(z), -INF)),
    "infinite": lambda: model(of_logits=lambda z: tf.where(z > 5, INF, z)),
    "temperature 0": lambda: model(of_logits=lambda z: (z - 4) / 0.0),
    "huge": lambda: model(of_logits=lambda z: 1e30 * z),
    "overflowing": lambda: model(of_logits=lambda z: 1e38 * z),
}
ALARMS = {
    "root of a square": "gradient by the pixels is not finite",
    "root": "gradient by the pixels is not finite",
    "nothing but NaN": "20 under clean",
    "some NaN": "under clean",
    "all ruled out": "20 under clean",
    "infinite": "gradient by the pixels is not finite",
    "temperature 0": "gradient by the pixels is not finite",
    "huge": "cross entropy is exactly zero",
    "overflowing": "gradient by the pixels is not finite",
}


@pytest.fixture
def dark(batch):
    """The images of `batch`, right by 0.1 to 0.5, with a black frame that holds every third pixel."""
    x, y = batch
    x = x.copy()
    x[:, ::3] = 0
    return x, y


QUICK = {
    "boundary": {"steps": 5, "restarts": 1},
    "cw_l2": {"eps": 1.0, "steps": 30, "searches": 3, "initial_c": 1.0},
    "deepfool": {"eps": EPS, "norm": "linf", "steps": 10},
    "fab": {"steps": 10},
    "local_search": {"rounds": 3},
    "random_noise": {"draws": 10},
    "spsa": {"steps": 5, "samples": 16},
    "square": {"queries": 50},
    "transfer": {"attack": "fgsm"},
}
NEEDS_FEATURES = ("adv_interpolation", "feature_scatter", "infofeature")


def made(name):
    source = {"sources": model()} if name == "transfer" else {}
    return attacks.get({"name": name, "eps": EPS, **QUICK.get(name, {}), **source})


def left(classifier, z, y):
    return float(np.mean(losses.correct(classifier(z)["logits"], y)))


def pairs():
    """Every attack on every classifier; some of them are in the fast suite."""
    fast = {"root of a square": ("pgd",), "some NaN": ("fab",), "overflowing": ("cw_l2",)}
    for broken in BROKEN:
        for name in attacks.names():
            if hasattr(attacks, name) and name not in NEEDS_FEATURES:  # not what an example registered
                yield pytest.param(name, broken, marks=[] if name in fast.get(broken, ()) else pytest.mark.slow)


@pytest.mark.parametrize(("name", "broken"), list(pairs()))
def test_every_attack_returns_pixels_that_are_numbers(name, broken, dark):
    x, y = dark
    classifier, attack = BROKEN[broken](), made(name)
    z = np.asarray(attack(classifier, x, y))
    assert np.isfinite(z).all() and z.min() >= 0 and z.max() <= 1
    assert np.asarray(attack.ball.distance(z, x)).max() <= attack.ball.radius + 1e-6
    assert left(classifier, z, y) <= left(classifier, x, y)


def quiet(classifier, data, eps=EPS, **options):
    return evaluate(classifier, data, eps=eps, verbose=False, **options)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ALARMS)
def test_a_broken_classifier_rings(broken, dark):
    found = quiet(BROKEN[broken](), dark, attacks=["fgsm"], probes=20)
    assert any(ALARMS[broken] in alarm for alarm in found.alarms), found.alarms


def kept_away(x):
    """The root of a square with the gradient 0 at black, which is that of the square."""
    black = x == 0
    return tf.where(black, 0.0, tf.sqrt(tf.square(tf.where(black, 1.0, x))))


@pytest.mark.parametrize(("norm", "eps"), [("linf", EPS), pytest.param("l2", 0.6, marks=pytest.mark.slow)])
def test_a_gradient_that_is_nan_is_taken_as_zero(norm, eps, dark):
    suite = [{"name": name, "steps": steps} for name, steps in (("mim", 5), ("fab", 5))]
    broken, sound = (
        quiet(classifier, dark, eps, norm=norm, attacks=dict(enumerate(suite)), probes=0)
        for classifier in (BROKEN["root of a square"](), model(of_pixels=kept_away))
    )
    assert 0 < broken.robust_accuracy < 0.8
    assert [result.accuracy for result in broken.attacks] == [result.accuracy for result in sound.attacks]


def test_probes_count_broken_gradients_and_go_on(dark):
    broken, sound = (
        quiet(classifier, dark, attacks=[lambda c, x, y: x], probes=20)
        for classifier in (BROKEN["root of a square"](), model(of_pixels=kept_away))
    )
    assert broken.curves == sound.curves
    (rings,) = [alarm for alarm in broken.alarms if alarm not in sound.alarms]
    assert "not finite for 20 of the first 20 images" in rings and "1e-12" in rings


READS_ALL = {"fab": {}, "deepfool": {}, "boundary": {}, "apgd": {"loss": "dlr"}}


@pytest.mark.parametrize("name", [n if n == "fab" else pytest.param(n, marks=pytest.mark.slow) for n in READS_ALL])
def test_a_class_that_is_ruled_out_changes_nothing(name, batch):
    """Neither an attack that looks at all classes nor one that looks at the likeliest reaches for it."""
    item = {"name": name, "steps": 5, "norm": "linf", **READS_ALL[name]}
    honest, ruled = (
        quiet(classifier, batch, 0.15, attacks=[item], probes=0)
        for classifier in (model(), BROKEN["a class ruled out"]())
    )
    assert 0 < honest.robust_accuracy < 0.8 and honest.alarms == ruled.alarms == ()
    np.testing.assert_array_equal(ruled.robust, honest.robust)
    np.testing.assert_allclose(ruled.adversaries.z, honest.adversaries.z, atol=1e-6)


def test_targets_that_are_ruled_out_come_after_the_others_and_before_the_label():
    logits = np.array([[0.0, 3.0, -INF, 1.0, -INF]], "float32")
    order = [int(attacks.base.ranked_target(logits, [1], rank)[0]) for rank in range(4)]
    assert order[:2] == [3, 0] and sorted(order[2:]) == [2, 4]


@pytest.mark.parametrize("broken", ["nothing but NaN", pytest.param("all ruled out", marks=pytest.mark.slow)])
def test_where_nothing_is_predicted_nothing_is_right(broken, batch, tmp_path):
    """By every door that counts right answers, also where the label is 0, which an argmax of NaN would give."""
    classifier, zeros = BROKEN[broken](), (batch[0], np.zeros(20, "int32"))
    found = quiet(classifier, zeros, attacks=["fgsm"])
    assert (found.clean_accuracy, found.robust_accuracy, found.robust_accuracy_8bit) == (0, 0, 0)
    assert found.verify(classifier).clean_accuracy == 0
    found.save(tmp_path / "report.json")
    found.save_html(tmp_path / "report.html")

    silent = {"verbose": False}
    several = {"one": classifier}
    tables = [
        noise(classifier, zeros, [0.1], draws=2, **silent),
        corruptions(classifier, zeros, ["brightness"], [1], **silent),
        shifts(classifier, zeros, 1, attack=["fgsm"], eps=EPS, **silent),
        transfer_table(several, {"one": classifier, "other": BROKEN[broken]()}, zeros, ["fgsm"], eps=EPS, **silent),
        interpret.attack_strength(classifier, zeros, {"pgd": attacks.pgd(eps=EPS)}, [1, 2]),
        interpret.gradient_map_test(classifier, several, zeros),
    ]
    for table in tables:
        assert set(table.flat().values()) == {0.0}, table
        table.save(tmp_path / "table.json")
    assert tables[-1].settings["judge_accuracy"] == 0
    assert interpret.dra_success(several, zeros, [0.5]).figures == ((None,),)  # nothing was right
    assert interpret.hard_classes(classifier, zeros, attacks.fgsm(eps=EPS)).counts.sum() == 0


def test_a_classifier_that_breaks_under_attack_is_counted_once(batch):
    """Right clean, NaN after it: wrong, and taken for no class."""
    classifier = model(of_logits=lambda z: tf.where(tf.reduce_max(z, axis=-1, keepdims=True) > 5.5, NAN, z))
    x, y = 0.5 * batch[0], batch[1]
    brighter = lambda c, x, y: x + 0.5  # noqa: E731
    counted = interpret.hard_classes(classifier, (x, y), brighter)
    before, after = (np.asarray(losses.predicted(classifier(z)["logits"])) for z in (x, x + 0.5))
    assert (before == y).all() and (after == -1).any()
    assert counted.counts.sum() == (after >= 0).sum()
    both = np.concatenate([x, x + 0.5]), np.concatenate([y, y])  # the images without a prediction count nowhere
    np.testing.assert_allclose(*(interpret.mean_probabilities(classifier, data) for data in (both, (x, y))), rtol=1e-6)
    table = interpret.perturbation_distances(
        classifier, (x, y), {"NaN": lambda c, x, y: x * NAN, "none": lambda c, x, y: x}
    )
    assert table.figures == ((0.0, 0.0), (0.0, 0.0))


def test_curves_and_attacks_judge_pixels_alike(batch):
    """What an evaluation discards, a point outside or one that is not finite, fools nobody in the curves either."""
    from tfrobust.evaluation.scoring import Scorer, score

    x, y = batch
    ball, classifier = attacks.Linf(EPS), model()
    for z in (x * NAN, x + 2 * EPS, np.clip(x - 0.3, 0, 1)):
        scored = Scorer(classifier, ball, x.shape)(x, y, z)
        in_graph = score(classifier, ball, tf.constant(x), tf.constant(y), tf.constant(z, "float32"))
        assert not scored.fooled.any() and not np.asarray(in_graph.fooled).any()


def test_a_report_is_valid_json_whatever_an_attack_was_made_with(batch, tmp_path):
    import json

    class Endless:
        def get_config(self):
            return {"radius": INF, "list": [np.float32(NAN), 1.0]}

        def __call__(self, classify, x, y):
            return x

    found = quiet(model(), batch, attacks=[Endless()], probes=0)
    found.save(tmp_path / "report.json")

    def refuse(constant):
        raise AssertionError(constant)

    saved = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert saved["attacks"][0]["settings"] == {"radius": "inf", "list": ["nan", 1.0]}
