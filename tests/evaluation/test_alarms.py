"""Each alarm rings on a case built for it and is silent beside it; the probes against closed forms."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from tfrobust import attacks
from tfrobust.attacks.square import square
from tfrobust.attacks.view_losses import margin
from tfrobust.evaluation import Result, evaluate, probes
from tfrobust.evaluation.alarms import CHECKS, Findings, alarms, names_of_checks
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.probes import Probes, Searches, probe

HONEST = Probes(
    images=100,
    by_eps=((0.0, 0.9), (0.05, 0.7), (0.1, 0.5), (0.5, 0.0)),
    by_steps=((0, 0.9), (1, 0.6), (10, 0.5)),
    huge=(0.5, 0.0),
    noise=0.8,
    white_box=0.48,
    margin=0.5,
    cross_entropy=0.5,
    zero_ce=0,
    zero_dlr=0,
    doubled=(0.5, 0.5),
)
LOGITS = np.array([[3.0, 0.0, -1.0], [0.0, 2.0, 0.5]], "float32")


def steady(x):
    return {"logits": np.float32(LOGITS)}


def findings(probed=None, **changes):
    """Findings of an honest evaluation, but for the changes."""
    usual = {
        "classify": steady,
        "x": np.zeros((2, 1, 1, 1), "float32"),
        "y": np.array([0, 1]),
        "logits": LOGITS,
        "not_numbers": {},
        "results": results(("white box", 0.6), ("white box", 0.5), ("black box", 0.5)),
        "probes": HONEST._replace(**probed or {}),
        "eps": 0.1,
    }
    return Findings(**{**usual, **changes})


def results(*rows):
    """Results of (kind, accuracy), and of (kind, accuracy, settings, accuracy by run)."""
    rows = [(*row, {}, ()) if len(row) == 2 else row for row in rows]
    return tuple(
        Result(f"{kind} {place}", settings, accuracy, 0.0, kind=kind, by_run=by_run, runs=len(by_run) or 1)
        for place, (kind, accuracy, settings, by_run) in enumerate(rows)
    )


def apgd(loss, accuracy, by_run=()):
    return "white box", accuracy, {"name": "apgd", "loss": loss}, by_run


class Changing:
    """Logits that move a little at every pass."""

    def __init__(self, step):
        self.step = step
        self.passes = 0

    def __call__(self, x):
        self.passes += 1
        return {"logits": LOGITS + np.float32(self.step * self.passes) * np.array([0, 1, 0], "float32")}


W, B, N, T = "white box", "black box", "noise", "transfer"
CASES = {
    "nan": [({"not_numbers": {"clean": 1, "pgd": 2}}, "1 under clean, 2 under pgd"), ({"not_numbers": {}}, None)],
    "probabilities": [
        ({"logits": np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])}, "look like probabilities"),
        ({"logits": np.array([[0.2, 0.3, 0.5], [1.0, 0.1, 0.0]])}, None),
        ({"logits": np.array([[0.2, 0.9, -0.1], [1.0, 0.0, 0.0]])}, None),
    ],
    "random": [
        ({"classify": Changing(0.5)}, "The classifier is random"),
        ({"classify": Changing(1e-3)}, r"random: 5 passes .*right: \[2\] of 2"),
        ({"classify": Changing(1e-7)}, None),
    ],
    "flat_logits": [
        ({"logits": np.array([[1.0, -1.0, 0.3], [0.1, 0.2, 0.3]])}, "spread over more than 2,"),
        ({"logits": np.array([[1.1, -1.0, 0.3], [0.1, 0.2, 0.3]])}, None),
        ({"logits": np.array([[0.1, 0.2], [0.3, 0.1]])}, None),  # of two classes there is but one wrong one
    ],
    "outside": [({"outside": {"pgd": 3}}, "3 of pgd"), ({"outside": {}}, None)],
    "black_box": [
        ({"results": results((W, 0.6), (W, 0.5), (B, 0.497))}, "black box 2, .* leaves 49.70% where .* leave 50.00%"),
        ({"results": results((W, 0.6), (W, 0.5), (B, 0.498))}, None),
        ({"results": results((B, 0.6), (W, 0.5))}, None),  # it ran before
        ({"results": results((B, 0.6), (B, 0.5))}, None),  # nothing to compare with
        ({"results": results((W, 0.6), (B, 0.5), (W, 0.4)), "columns": True}, None),
        ({"results": results((W, 0.6), (B, 0.3), (W, 0.4)), "columns": True}, "leaves 30.00% where .* leave 40.00%"),
        ({"results": ()}, None),
        ({"results": results((W, 0.5)), "probed": {"queried": (100, 3)}}, "short Square, .* fools 3 of 100 images"),
        ({"results": results((W, 0.5)), "probed": {"queried": (100, 2)}}, None),  # by chance
        ({"results": results((W, 0.5)), "probed": {"queried": (1000, 10)}}, None),
        ({"results": results((W, 0.5)), "probed": {"queried": (1000, 11)}}, "fools 11 of 1000 images"),
    ],
    "weaker_attackers": [
        ({"results": results((W, 0.6), (T, 0.5))}, "transfer 1 leaves 50.00%"),
        ({"results": results((W, 0.6), (N, 0.5))}, "noise 1 leaves 50.00%"),
        ({"results": results((T, 0.6), (W, 0.5), (N, 0.499))}, None),
        ({"results": results((W, 0.6), (B, 0.5), (T, 0.5))}, None),  # not it, but what came between
        ({"probed": {"noise": 0.46}}, "Random noise leaves 46.00% .* 48.00%"),
        ({"probed": {"noise": 0.47}}, None),
    ],
    "losses_apart": [
        ({"results": results(apgd("cross_entropy", 0.6), apgd("dlr", 0.54))}, "white box 0 leaves 60.00%, .* 1 54.00%"),
        ({"results": results(apgd("cross_entropy", 0.6), apgd("dlr", 0.55))}, None),
        ({"results": results(apgd("ce", 0.7), (W, 0.6), apgd("dlr_targeted", 0.56))}, None),  # what fell between
        ({"results": results(apgd("ce", 0.5), apgd("dlr", 0.7)), "columns": True}, "figure of white box 1 is no"),
        ({"results": results(apgd("ce", 0.7), apgd("ce", 0.5))}, None),
        # Nine targeted runs against one on cross entropy: the first of them counts.
        ({"results": results(apgd("ce", 0.6), apgd("dlr_targeted", 0.5, by_run=(0.59, *8 * (0.5,))))}, None),
        ({"results": results(apgd("ce", 0.6), apgd("dlr_targeted", 0.5, by_run=(0.54, *8 * (0.5,))))}, "1 54.00%"),
        ({"results": results(apgd("ce", 0.6), apgd("dlr", 0.5)), "images": 20}, None),  # two images of twenty: luck
        ({"results": results(apgd("ce", 0.65), apgd("dlr", 0.5)), "images": 20}, "leaves 65.00%"),
        ({"probed": {"cross_entropy": 0.9}}, "PGD-20 on cross entropy leaves 90.00%, on the margin 50.00%"),
        ({"probed": {"cross_entropy": 0.44}}, "the figure of on the margin is no"),
        ({"probed": {"cross_entropy": 0.55}}, None),
        # Both were weak, and what the evaluation leaves, 50 %, rests on neither.
        ({"probed": {"cross_entropy": 0.57, "margin": 0.65}}, None),
        ({"probed": {"cross_entropy": 0.54, "margin": 0.65}}, "on the margin 65.00%"),
    ],
    "zero_gradient": [
        ({"probed": {"zero_dlr": 1}}, "DLR is exactly zero for 1 of the first 100"),
        ({"probed": {"zero_ce": 2, "zero_dlr": None}}, "cross entropy is exactly zero for 2 of the first 100"),
        ({"probed": {"zero_dlr": None}}, None),
    ],
    "broken_gradient": [
        ({"probed": {"broken": 3}}, "not finite for 3 of the first 100 images"),
        ({"probed": {"broken": 0}}, None),
    ],
    "l1": [({"norm": "l1"}, "strongest attacks of the L1 ball .* are not in this library yet"), ({"norm": "l2"}, None)],
    "labels_only": [
        ({"probed": {"labels_only": 3}}, "around 3 of the first 100 images its logits do not change"),
        ({"probed": {"labels_only": 0, "zero_ce": 9}}, None),
    ],
    "more_effort": [
        ({"probed": {"doubled": (0.5, 0.48)}}, "from 50.00% to about 48.00%"),
        ({"probed": {"doubled": (0.5, 0.49)}}, None),
        ({"probed": {"doubled": None}}, None),
        ({"probed": {"doubled": (0.5, 0.4)}, "images": 20}, None),  # two images of twenty
        ({"probed": {"doubled": (0.5, 0.35)}, "images": 20}, "from 50.00% to about 35.00%"),
    ],
    "huge_eps": [
        ({"probed": {"huge": (0.5, 0.02)}}, "At eps=0.5, .* 2.00% are still right"),
        ({"probed": {"huge": (0.5, 0.01)}}, None),
        ({"probed": {"huge": None}}, None),
    ],
    "not_monotone": [
        ({"probed": {"by_eps": ((0.0, 0.9), (0.1, 0.2), (0.2, 0.24))}}, "20.00% at eps=0.1 but 24.00% at eps=0.2"),
        ({"probed": {"by_eps": ((0.0, 0.9), (0.1, 0.2), (0.2, 0.22), (0.3, 0.24))}}, "eps=0.1 but 24.00% at eps=0.3"),
        ({"probed": {"by_eps": ((0.0, 0.9), (0.1, 0.2), (0.2, 0.23))}}, None),
        ({"probed": {"by_steps": ((1, 0.5), (10, 0.7))}}, "50.00% at steps=1 but 70.00% at steps=10"),
        ({"probed": {"images": 20, "by_steps": ((1, 0.5), (10, 0.6))}}, None),  # two images of twenty: luck
    ],
}


def test_every_check_has_cases_of_both_kinds():
    assert list(CASES) != [] and set(CASES) == set(CHECKS)
    for name, cases in CASES.items():
        assert {words is None for _, words in cases} == {True, False}, name


@pytest.mark.parametrize(("name", "changes", "words"), [(n, *case) for n, cases in CASES.items() for case in cases])
def test_alarms(name, changes, words):
    found = CHECKS[name](findings(**changes))
    if words is None:
        assert found is None
    else:
        assert re.search(words, found), found
        assert found.count(".") >= 2 and "  " not in found  # what was found, what it means and what to do


def test_an_honest_evaluation_rings_nothing():
    assert alarms(findings()) == ()
    assert alarms(findings(probes=None)) == ()
    assert alarms(Findings(steady, np.zeros((2, 1, 1, 1)), np.array([0, 1]), LOGITS, {})) == ()


def test_probabilities_are_named_as_such_alone():
    assert len(alarms(findings(logits=np.array([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])))) == 1


def test_checks_that_need_probes_are_not_said_to_be_made():
    assert names_of_checks(findings()) == tuple(CHECKS)
    assert set(CHECKS) - set(names_of_checks(findings(probes=None))) == {
        "zero_gradient",
        "broken_gradient",
        "labels_only",
        "more_effort",
        "huge_eps",
        "not_monotone",
    }


def test_the_document_lists_all_checks():
    document = pathlib.Path(__file__).parents[2] / "docs" / "evaluation.md"
    _, table = document.read_text(encoding="utf-8").split("| alarm | raised when | then |")
    assert sorted(re.findall(r"^\| `(\w+)` \|", table.split("\n\n")[0], re.MULTILINE)) == sorted(CHECKS)


@pytest.mark.parametrize("rows", [[(W, 0.5)], [(W, 0.5), (N, 0.5), (T, 0.5)]])
def test_a_check_of_queries_is_said_to_be_made_only_if_there_were_queries(rows):
    alone = {"results": results(*rows)}
    assert set(CHECKS) - set(names_of_checks(findings(**alone))) == {"black_box"}
    assert names_of_checks(findings({"queried": (9, 0)}, **alone)) == tuple(CHECKS)
    assert "black_box" in names_of_checks(findings(probes=None))


@pytest.mark.parametrize(
    ("name", "threshold", "probed"),
    [
        ("losses_apart", {"threshold": 0.5}, {"cross_entropy": 0.9}),
        ("more_effort", {"threshold": 0.1}, {"doubled": (0.5, 0.45)}),
        ("huge_eps", {"threshold": 0.1}, {"huge": (0.5, 0.1)}),
        ("not_monotone", {"threshold": 0.3}, {"by_steps": ((1, 0.5), (10, 0.7))}),
        ("not_monotone", {"images": 22}, {"by_steps": ((1, 0.5), (10, 0.7))}),
        ("weaker_attackers", {"noise": 0.3}, {"noise": 0.2}),
        ("black_box", {"share": 0.5}, {"queried": (100, 50)}),
        ("black_box", {"images": 6}, {"queried": (100, 5)}),
    ],
)
def test_thresholds_are_arguments(name, threshold, probed):
    assert CHECKS[name](findings(probed)) is not None
    assert CHECKS[name](findings(probed), **threshold) is None


SHAPE = (3, 3, 1)
EPS = 0.03


def linear(classes=2, scale=1.0):
    """A linear classifier, images of which some are wrong, their labels, and the least eps that fools each."""
    rng = np.random.default_rng(classes)
    weights = rng.normal(size=(9, classes)).astype("float32")
    x = rng.uniform(0.35, 0.65, (60, *SHAPE)).astype("float32")
    bias = -0.5 * weights.sum(axis=0)
    logits = x.reshape(60, 9) @ weights + bias
    y = logits.argmax(axis=-1).astype("int32")
    y[::10] = (y[::10] + 1) % classes
    own = np.arange(60)
    margins = logits[own, y][:, None] - logits
    norms = np.abs(weights[:, y][:, :, None] - weights[:, None, :]).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        least = margins / norms
    least[own, y] = np.inf

    def classify(z):
        return {"logits": scale * (tf.reshape(tf.cast(z, tf.float32), (-1, 9)) @ weights + bias)}

    return classify, Images(x, y), least.min(axis=-1)


def probed(classify, images, attacked=(), ball=None, survivors=None, batch_size=256, **options):
    searches = Searches(classify, ball or attacks.Linf(EPS), images, batch_size=batch_size)
    right = np.asarray(classify(images.x)["logits"]).argmax(axis=-1) == images.y
    return probe(searches, right, right if survivors is None else survivors, attacked, **options)


def test_curves_of_a_linear_classifier_are_exact():
    classify, images, least = linear()
    found = probed(classify, images)
    assert found.images == 60
    assert [eps for eps, _ in found.by_eps] == pytest.approx([0, 0.0075, 0.015, 0.0225, 0.03, 0.045, 0.06, 0.09, 0.5])
    for eps, accuracy in found.by_eps[:-1]:  # at 0.5 the pixel range cuts the ball
        assert accuracy == np.mean(least > eps)
    assert [steps for steps, _ in found.by_steps] == [0, 1, 2, 5, 10, 20, 50, 100]
    assert {accuracy for _, accuracy in found.by_steps[1:]} == {np.mean(least > EPS)}
    assert found.by_steps[0][1] == np.mean(least > 0)
    assert found.huge == found.by_eps[-1] == (0.5, 0.0)
    assert found.white_box == found.margin == found.cross_entropy == np.mean(least > EPS)
    assert found.margin < found.noise < found.by_eps[0][1]
    assert (found.zero_ce, found.zero_dlr, found.doubled) == (0, None, None)


def test_the_first_images_are_probed_in_batches_of_any_size_with_the_same_outcome():
    classify, images, least = linear(3)
    found = probed(classify, images, count=41)
    assert found == probed(classify, images, count=41, batch_size=7)
    assert found.images == 41 and found.by_eps[0][1] == np.mean(least[:41] > 0)
    assert probed(classify, images, count=1) is None  # the first one is wrong
    assert probed(classify, images, count=0) is None


def test_few_traces_serve_all_points():
    classify, images, _ = linear(3)
    traces = []

    def counted(z):
        traces.append(tf.executing_eagerly())
        return classify(z)

    attacked = [(attacks.pgd(EPS, steps=3, loss=lambda views: -views.adv["logits"][:, 0]), 0.5)]
    right = np.ones(60, bool)
    probe(Searches(counted, attacks.Linf(EPS), images, batch_size=16), right, right, attacked)
    assert traces.count(False) <= 10
    assert traces.count(True) <= 1  # gradients are taken in graphs too


def test_gradients_that_are_stopped_are_counted():
    classify, images, least = linear(3)
    found = probed(lambda z: classify(tf.stop_gradient(z)), images)
    assert found.zero_ce == (least > 0).sum()
    assert 0.8 * found.zero_ce < found.zero_dlr < found.zero_ce  # where the start fools nothing is to be climbed
    assert found.huge[1] > 0.3 and found.noise < found.white_box


def test_saturation_is_counted_apart_from_what_is_flat():
    classify, images, least = linear(3, scale=1e4)
    found = probed(classify, images)
    assert found.zero_ce > 0.5 * (least > 0).sum() and found.zero_dlr == 0
    assert found.cross_entropy > found.margin + 0.1
    assert found.huge == (0.5, 0.0)


def test_outside_of_a_graph_no_more_than_one_image_is_classified():
    """A Keras model outside of a graph holds the outputs of all layers: of 256 large images they fill a machine."""
    saturated, images, _ = linear(3, scale=1e4)
    eager = []

    def classify(z):
        if tf.executing_eagerly():
            eager.append(len(z))
        return saturated(z)

    report = evaluate(classify, images, eps=EPS, attacks="fgsm", probes=9, verbose=False)
    assert {"random", "zero_gradient", "labels_only"} <= set(report.checks)
    assert any("gradient of cross entropy is exactly zero" in alarm for alarm in report.alarms)
    assert max(eager, default=1) == 1


def test_gradients_count_where_pixels_may_change():
    classify, images, _ = linear(3)
    mask = np.zeros(SHAPE, bool)
    mask[0] = True

    def blind(z):  # to what may change
        return classify(tf.where(mask, 0.5, z))

    found = probed(blind, images, ball=attacks.Linf(EPS, mask=mask))
    assert found.zero_ce == found.zero_dlr == round(60 * found.by_eps[0][1])
    assert found.huge is None  # a mask keeps the search from grey
    bench = Searches(classify, attacks.Linf(EPS, mask=mask), images, batch_size=60)
    assert bench.gradients(np.arange(60), images.x) == (0, 0, 0)


@pytest.mark.parametrize(("kind", "eps", "huge"), [(attacks.L2, 0.1, 1.5), (attacks.L1, 0.03, 0.5)])
def test_a_huge_radius_holds_the_grey_image_in_every_norm(kind, eps, huge):
    classify, images, _ = linear(3)
    found = probed(classify, images, ball=kind(eps))
    assert found.huge == (pytest.approx(huge), 0.0)


def test_radii_are_of_the_pixel_range_and_one_beyond_the_huge_one_is_itself_huge():
    classify, images, _ = linear(3)
    found = probed(lambda z: classify(z / 255), Images(255 * images.x, images.y), ball=attacks.Linf(150.0, (0, 255)))
    assert found.huge == found.by_eps[-1] == (150.0, 0.0)
    assert probes._grey(attacks.L2(1.0, (0, 255)), images.x) == 1.5 * 255


def test_the_doubled_attack_shows_a_search_that_had_not_ended():
    classify, images, least = linear(2)
    lazy = attacks.pgd(EPS, step_size=EPS / 8, steps=4, start="none", loss=margin)
    robust = least > EPS / 2  # four steps of EPS / 8 reach EPS / 2, eight reach EPS
    found = probed(classify, images, [(lazy, robust.mean())], survivors=robust)
    assert found.doubled == (pytest.approx(robust.mean()), pytest.approx(np.mean(least > EPS)))
    assert "twice the steps" in CHECKS["more_effort"](findings(found._asdict()))
    whole = attacks.pgd(EPS, steps=4, loss=margin)
    found = probed(classify, images, [(whole, np.mean(least > EPS))], survivors=least > EPS)
    assert found.doubled[0] == found.doubled[1] == np.mean(least > EPS)
    assert CHECKS["more_effort"](findings(found._asdict())) is None


def test_without_survivors_nothing_is_doubled():
    classify, images, _ = linear(3)
    pgd = attacks.get("apgd", eps=EPS, steps=5)
    assert probed(classify, images, [(pgd, 0.0)], survivors=np.zeros(60, bool)).doubled is None


def test_the_strongest_attack_is_that_of_the_lowest_accuracy_and_then_of_the_least_cost():
    weak, usual, costly = (attacks.get("apgd", eps=EPS, steps=steps) for steps in (2, 5, 9))
    queries = square(EPS)
    assert probes.strongest([(weak, 0.7), (costly, 0.5), (usual, 0.5), (queries, 0.4)], 3) is usual
    assert probes.strongest([(queries, 0.4), (print, 0.3)], 3) is None


def by_pixels(misleading=False):
    """A linear classifier of 64 pixels, images that are right, labels, and a radius that fools most of the images.

    One that misleads has the gradient of the image upside down as long as the pixels are near those of the images.
    Random noise reaches none of the images.
    """
    rng = np.random.default_rng(5)
    weights = 10 * rng.normal(size=(64, 3)).astype("float32")
    x = rng.uniform(0.4, 0.6, (120, 8, 8, 1)).astype("float32")
    bias = -0.5 * weights.sum(axis=0)
    logits = x.reshape(-1, 64) @ weights + bias
    y = logits.argmax(axis=-1).astype("int32")
    with np.errstate(invalid="ignore"):
        each = (logits.max(axis=-1)[:, None] - logits) / np.abs(weights.T[y][:, :, None] - weights).sum(axis=1)
    least = np.nanmin(each, axis=-1)
    eps = float(np.median(least))
    kept = np.flatnonzero(least > 0.5 * eps)[:40]

    def elsewhere(z):
        return tf.where(abs(z - 0.5) < 0.2, z[:, ::-1], z)

    seen = attacks.replace_gradient(lambda z: z, elsewhere if misleading else None)

    def classify(z):
        return {"logits": tf.reshape(seen(tf.cast(z, tf.float32)), (-1, 64)) @ weights + bias}

    return classify, Images(x[kept], y[kept]), 1.5 * eps


def test_gradients_that_mislead_every_search_are_found_by_queries_alone():
    """Neither twice the steps nor the huge radius, the curves or the noise show what these gradients hide."""
    (hiding, images, eps), (honest, _, _) = by_pixels(misleading=True), by_pixels()

    def quick(classify, probes):
        return evaluate(classify, tuple(images), eps=eps, attacks="quick", probes=probes, verbose=False)

    true, false = quick(honest, probes=0), quick(hiding, probes=40)
    assert false.robust_accuracy > true.robust_accuracy + 0.3
    (alarm,) = false.alarms
    assert "A short Square, which reads no gradient, fools" in alarm and "'standard'" in alarm
    assert "black_box" in false.checks and "black_box" not in true.checks


@pytest.mark.parametrize("ball", [attacks.Linf, attacks.L2])
def test_queries_fool_the_same_images_in_batches_of_any_size(ball):
    classify, images, eps = by_pixels(misleading=True)
    ball = ball(eps if ball is attacks.Linf else 8 * eps)
    numbers = np.arange(3, 40, 2)
    met, fooled = Searches(classify, ball, images).queried(numbers)
    assert met == 19 and fooled >= 3
    assert Searches(classify, ball, images, batch_size=7).queried(numbers) == (met, fooled)


def test_the_first_images_that_are_left_are_asked_by_queries():
    classify, images, least = linear(3)
    found = probed(classify, images, [(attacks.pgd(EPS), 0.6)], survivors=least > EPS, count=9)
    assert found.queried == (9, 0)  # none of those that are right in the whole ball is fooled


def test_what_has_been_asked_by_queries_or_cannot_be_is_not_asked():
    classify, images, _ = linear(3)
    pgd, noise, walk = (attacks.get(name, eps=EPS) for name in ("pgd", "random_noise", "hop_skip_jump"))
    assert probes.gradients_alone([(pgd, 0.5), (noise, 0.5)]) and probes.gradients_alone([(print, 0.5)])
    assert not probes.gradients_alone([(pgd, 0.5), (walk, 0.5)])
    assert not probes.gradients_alone([(noise, 0.5)])  # nothing to compare with
    assert Searches(classify, attacks.Linf(EPS), images).queried(np.arange(0)) is None
    assert Searches(classify, attacks.L1(EPS), images).queried(np.arange(60)) is None


def test_twice_doubles_what_an_attack_was_made_with():
    made = probes.twice(attacks.get("apgd", eps=EPS, steps=10, restarts=3))
    assert (made.get_config()["steps"], made.get_config()["restarts"], made.runs(10)) == (20, 6, 6)
    noisy = attacks.expectation(attacks.get("apgd", eps=EPS, steps=10), samples=7)
    assert probes.twice(noisy).gradients.samples == 7
    by_hand = attacks.GradientAttack(attacks.Linf(EPS), attacks.Sign(EPS), 3, restarts=2).maximizing(margin)
    assert (probes.twice(by_hand).steps, probes.twice(by_hand).runs(10)) == (6, 4)
    assert probes.twice(square(EPS)) is None


def test_more_eps_that_misleads_the_search_rings():
    """Wrong just beside the image alone; from farther away the margin leads farther off."""
    x = np.full((60, 1, 1, 1), 0.5, "float32")

    def trap(z):
        away = tf.abs(z[:, 0, 0, 0] - 0.5)
        wrong = tf.where(away < 0.06, away - 0.03, 0.2 * (away - 0.06) - 0.2)
        return {"logits": tf.stack([0 * away, wrong], axis=-1)}

    found = probed(trap, Images(x, np.zeros(60, "int32")), ball=attacks.Linf(0.05))
    assert found.by_eps[4][1] == 0.0 and found.by_eps[-1][1] > 0.5
    assert "can only help an attacker" in CHECKS["not_monotone"](findings(found._asdict()))
    assert "still right" in CHECKS["huge_eps"](findings(found._asdict()))


def test_nothing_crashes_without_gradient_attacks_or_probes():
    classify, images, least = linear(3, scale=9.0)
    queries_alone = [square(1e-3, queries=50), lambda classify, x, y: x]
    for options in ({"attacks": queries_alone}, {"attacks": ["fgsm"], "probes": 0}):
        report = evaluate(classify, tuple(images), eps=1e-3, verbose=False, **options)
        assert report.alarms == () and report.robust_accuracy == pytest.approx(np.mean(least > 0), abs=0.05)


def test_an_attack_that_breaks_the_rules_rings():
    classify, images, _ = linear(3)
    report = evaluate(classify, tuple(images), eps=EPS, attacks=[lambda c, x, y: x + 2 * EPS], verbose=False)
    assert report.robust_accuracy == report.clean_accuracy
    assert any("left the ball" in alarm for alarm in report.alarms)
