"""Random classifiers: a vote of several passes decides, and an attack that does nothing takes nothing away."""

import numpy as np
import pytest
import tensorflow as tf

from commands import gates
from tfrobust.evaluation import Report, evaluate
from tfrobust.evaluation.scoring import voted

IMAGES = 200
NAN, INF = np.nan, np.inf


class Random:
    """Says class 0 with a probability of its own for each image, the red of its first pixel; counts its passes."""

    def __init__(self):
        self.passes = 0

    def __call__(self, z):
        tf.py_function(self.count, [], [])
        right = tf.random.uniform((tf.shape(z)[0],)) < z[:, 0, 0, 0]
        return {"logits": tf.one_hot(tf.cast(~right, tf.int32), 3)}

    def count(self):
        self.passes += 1


def data(least=0.7, most=1.0):
    chances = np.linspace(least, most, IMAGES).astype("float32")
    return np.tile(chances[:, None, None, None], (1, 2, 2, 1)), np.zeros(IMAGES, int)


def nothing(classify, x, y):
    return x


def barely(classify, x, y):
    return x * (1 - 1e-6)


def report(classifier, data, attacks, **options):
    return evaluate(classifier, data, eps=0.01, attacks=attacks, probes=0, verbose=False, **options)


def test_an_attack_that_does_nothing_leaves_the_clean_accuracy():
    once = report(Random(), data(), [nothing] * 20)
    assert once.robust_accuracy == once.clean_accuracy < 0.95
    # One that moves a little meets other draws, unless they vote.
    worn = report(Random(), data(), [barely] * 20)
    assert worn.robust_accuracy < worn.clean_accuracy - 0.2
    voted_on = report(Random(), data(), [barely] * 20, draws=101)
    assert voted_on.clean_accuracy > 0.99
    assert voted_on.robust_accuracy >= voted_on.clean_accuracy - 0.02


def test_a_vote_costs_its_passes_in_the_verdict_alone():
    passes = []
    for draws in (1, 5):
        classifier = Random()
        report(
            classifier, data(), [lambda classify, x, y: classify(x)["logits"][:, :1, None, None] * 0 + x], draws=draws
        )
        passes.append(classifier.passes)
    # Of clean images, of what the attack returns, and in 8 bits of what it fooled.
    assert passes[1] - passes[0] in (2 * 4, 3 * 4)


def test_everything_records_how_many_passes_voted(tmp_path):
    found = report(Random(), data(), [barely], draws=15)
    assert found.draws == 15 and "each prediction is a vote of 15 passes" in str(found)
    found.save(tmp_path / "report.json")
    loaded = Report.load(tmp_path / "report.json")
    assert loaded.draws == 15
    checked = loaded.verify(Random())
    assert checked.clean_accuracy == pytest.approx(found.clean_accuracy, abs=0.03)
    found.save_html(tmp_path / "page.html")
    assert "15 passes voted on each prediction" in (tmp_path / "page.html").read_text()
    once = report(Random(), data(), [barely])
    assert any("numbers of draws differ: 15 here, 1 there" in line for line in gates._unlike(found, once))
    assert "a vote of" not in str(once)


def test_the_alarm_names_the_vote():
    (alarm,) = (a for a in report(Random(), data(), [nothing]).alarms if "is random" in a)
    assert "evaluate(draws=25)" in alarm and "expectation(attack)" in alarm
    (alarm,) = (a for a in report(Random(), data(), [nothing], draws=9).alarms if "is random" in a)
    assert "those of a vote of 9 passes" in alarm


def test_a_state_of_other_draws_is_refused(tmp_path):
    report(Random(), data(1.0, 1.0), [nothing], state=tmp_path / "state", draws=3)
    with pytest.raises(ValueError, match=r"What differs: draws \(3 there, 5 here\)"):
        report(Random(), data(1.0, 1.0), [nothing], state=tmp_path / "state", draws=5)


class Scripted:
    """Gives its rows of logits one after the other."""

    def __init__(self, *rows):
        self.rows = tf.constant(rows, tf.float32)
        self.place = tf.Variable(0)

    def __call__(self, z):
        row = self.rows[self.place % len(self.rows)]
        self.place.assign_add(1)
        return {"logits": tf.tile(row[None], (tf.shape(z)[0], 1))}


@pytest.mark.parametrize(
    ("rows", "predicted"),
    [
        ([(3, 0, 0), (0, 1, 0), (0, 1, 0)], 1),  # votes count, not sizes
        ([(3, 0, 0), (0, 1, 0)], 0),  # a tie goes to the larger mean
        ([(0, 3, 0), (2, 0, 0)], 1),
        ([(1, 0, 0), (NAN, 0, 0), (NAN, 0, 0)], -1),
        ([(1, 0, 0), (0, NAN, 0)], -1),  # no class has more votes than none
        ([(1, 0, 0), (2, 0, 0), (0, NAN, 9)], 0),
        ([(0, -INF, 1), (0, -INF, 1), (1, -INF, 0)], 2),
        ([(-INF, 0, -INF), (0, -INF, -INF)], 0),  # means of minus infinity: the first
        ([(NAN, NAN, NAN)], -1),
        ([(0, 2, 1)], 1),
    ],
)
def test_who_wins_a_vote(rows, predicted):
    z = tf.zeros((2, 1, 1, 1))
    classify = Scripted(*rows)
    found = tf.function(lambda: voted(classify, z, tf.constant([0, 1]), len(rows)), autograph=False)()
    np.testing.assert_array_equal(found[2], [predicted, predicted])


@pytest.mark.parametrize("draws", [0, -1, 2.5, True, "many"])
def test_refusals(draws):
    with pytest.raises(ValueError, match="`draws`: expected an integer of at least 1"):
        report(Random(), data(), [nothing], draws=draws)
