"""The gates of a release: what is compared, how it is tested, and what is refused."""

import itertools
import math

import numpy as np
import pytest

from commands import gates
from tfrobust.evaluation import Adversaries, Report, Result

PGD = (Result("pgd", {"steps": (5,)}, 0.5, 1.0),)


def report(robust, **changes):
    robust = np.asarray(robust, bool)
    n = len(robust)
    x = np.linspace(0, 1, n * 4, dtype="float32").reshape(n, 2, 2, 1)
    y = np.arange(n) % 2
    fooled_by = np.where(robust, -1, 0)
    fields = {
        "clean_accuracy": 1.0,
        "robust_accuracy": float(robust.mean()),
        "attacks": PGD,
        "alarms": (),
        "checks": (),
        "eps": 0.1,
        "norm": "linf",
        "bounds": (0.0, 1.0),
        "images": n,
        "classes": 2,
        "seed": 0,
        "batch_size": 8,
        "versions": {},
        "adversaries": Adversaries(x, x, y, y, np.where(robust, y, 1 - y), fooled_by),
    }
    return Report(**{**fields, **changes})


def pair(lost, gained, both=5):
    """This report and the other one, with so many images lost and gained."""
    ours = [False] * lost + [True] * gained + [True] * both
    theirs = [True] * lost + [False] * gained + [True] * both
    return report(ours), report(theirs)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (5, 0), (4, 0), (9, 3), (3, 9), (10, 2), (4, 4)])
def test_the_p_value_is_the_binomials_tail(lost, gained):
    found = gates.compare(*pair(lost, gained))
    n = lost + gained
    assert (found.images, found.lost, found.gained) == (n + 5, lost, gained)
    assert found.p_value == pytest.approx(sum(math.comb(n, k) for k in range(lost, n + 1)) / 2**n)
    assert found.worse == (found.p_value <= 0.05)


def test_five_images_lost_and_none_gained_are_significant_and_four_are_not():
    assert gates.compare(*pair(5, 0)).worse and not gates.compare(*pair(4, 0)).worse
    assert not gates.compare(*pair(0, 50)).worse  # better is not worse
    assert not gates.compare(*pair(5, 0), alpha=0.01).worse


def test_the_test_is_paired():
    # Equal accuracies, and all the same, an image for an image: what counts is where the two differ.
    ours, theirs = pair(20, 20)
    assert ours.robust_accuracy == theirs.robust_accuracy
    assert gates.compare(ours, theirs).p_value > 0.5


def test_the_level_holds_when_both_are_equally_robust():
    rates = []
    for n in (5, 8, 30):
        worse = {k for k in range(n + 1) if gates.compare(*pair(k, n - k)).worse}
        rates.append(sum(math.comb(n, k) for k in worse) / 2**n)
    assert all(0 < rate <= 0.05 for rate in rates)


def test_the_comparison_says_what_was_compared(tmp_path):
    ours, theirs = pair(7, 1)
    theirs.save(tmp_path / "other.json")
    text = str(gates.compare(ours, Report.load(tmp_path / "other.json")))
    assert "13 images" in text and "7 lost, 1 gained" in text and "p = 0.0352" in text and "beware" not in text
    others = report(ours.robust, attacks=(Result("fgsm", {}, 0.5, 1.0),), seed=4, versions={"keras": "4"})
    text = str(gates.compare(ours, others))
    assert "beware: the attacks or their settings differ: pgd here, fgsm there" in text
    assert "beware: the seeds differ: 0 here, 4 there" in text and "the versions differ" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"eps": 0.2}, r"expected a report of \{'eps': 0.1.*Received: one of \{'eps': 0.2"),
        ({"norm": "l2"}, "Received: one of .*'l2'"),
        ({"bounds": (-1.0, 1.0)}, r"Received: one of .*\(-1.0, 1.0\)"),
        ({"adversaries": None}, "expected a report with adversaries"),
    ],
)
def test_reports_that_cannot_be_compared(changes, text):
    ours = report([True, False])
    with pytest.raises(ValueError, match=text):
        gates.compare(ours, report([True, False], **changes))


def test_other_images_cannot_be_compared():
    ours, theirs = report([True] * 4), report([True] * 4)
    with pytest.raises(ValueError, match=r"images \(4, 2, 2, 1\) here and \(5, 2, 2, 1\) there"):
        gates.compare(ours, report([True] * 5))
    theirs.adversaries.y = np.array([0, 1, 1, 0])
    with pytest.raises(ValueError, match="2 of 4 labels that differ"):
        gates.compare(ours, theirs)
    theirs = report([True] * 4)
    theirs.adversaries.x = theirs.adversaries.x.copy()
    theirs.adversaries.x[2, 1, 0, 0] += 5e-4  # rounding
    assert gates.compare(ours, theirs).p_value == 1.0
    theirs.adversaries.x[2, 1, 0, 0] += 2e-3
    with pytest.raises(ValueError, match="1 of 4 images whose clean pixels differ"):
        gates.compare(ours, theirs)
    theirs.adversaries.x = ours.adversaries.x[::-1]
    with pytest.raises(ValueError, match="4 of 4 images"):
        gates.compare(ours, theirs)


def test_a_report_without_its_file_names_it(tmp_path):
    ours, theirs = pair(1, 1)
    theirs.save(tmp_path / "other.json")
    (tmp_path / "other.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"other\.npz"):
        gates.compare(ours, Report.load(tmp_path / "other.json"))


def test_each_gate_that_does_not_open_is_one_line():
    worse = gates.compare(*pair(8, 0))
    ours = report([True, False], alarms=("One\nsentence.", "Another."))
    kinds = {"fail_on_alarm": True, "min_robust_accuracy": 0.6, "comparison": worse}
    for chosen in itertools.chain.from_iterable(itertools.combinations(kinds, n) for n in range(4)):
        lines = gates.failures(ours, **{name: kinds[name] for name in chosen})
        assert len(lines) == len(chosen) and not any("\n" in line for line in lines)
    lines = gates.failures(ours, **kinds)
    assert lines[0] == "Gate --fail-on-alarm: 2 alarms: One sentence. | Another."
    assert lines[1] == "Gate --min_robust_accuracy: expected at least 0.6. Received: 0.5 on 2 images"
    assert "0.00391 (8 images lost, 0 gained)" in lines[2]


def test_gates_that_open():
    ours = report([True, False])
    assert gates.failures(ours, fail_on_alarm=True, min_robust_accuracy=0.5, comparison=gates.compare(ours, ours)) == []
    assert gates.failures(report([True], alarms=("One.",))) == []
    assert gates.failures(report([True], robust_accuracy=math.nan), min_robust_accuracy=0.1) != []
