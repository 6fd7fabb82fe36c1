"""What a trial is worth, which one wins, which are on the front."""

import itertools
import random

import numpy as np
import pytest

from tuning.aims import WORST, Aim, aim_of, front, ranked
from tuning.trials import Result


def result(clean, robust):
    return Result(clean, robust, 1)


FAILED = result(None, None)


def test_robust_accuracy_is_what_is_wanted_unless_something_else_is():
    assert Aim().value(result(0.9, 0.6)) == Aim().score(result(0.9, 0.6)) == 0.6


def test_a_weighted_sum():
    assert Aim(clean_weight=0.25).value(result(0.8, 0.4)) == pytest.approx(0.25 * 0.8 + 0.75 * 0.4)
    assert Aim(clean_weight=1.0).value(result(0.8, 0.4)) == 0.8


def test_the_constraint_is_felt_as_a_slope_and_filters_the_winner():
    aim = Aim(min_clean_accuracy=0.8)
    assert aim.score(result(0.8, 0.5)) == 0.5 and aim.meets(result(0.8, 0.5))
    assert aim.score(result(0.7, 0.5)) == pytest.approx(0.4) and not aim.meets(result(0.7, 0.5))
    assert aim.score(result(0.6, 0.5)) < aim.score(result(0.7, 0.5))
    assert aim.value(result(0.6, 0.5)) == 0.5  # a figure of the table: nothing is taken off


def test_a_share_that_was_rounded_to_float32_meets_its_own_value():
    assert Aim(min_clean_accuracy=0.9).meets(result(float(np.float32(0.9)), 0.5))
    assert not Aim(min_clean_accuracy=0.9).meets(result(0.9 - 1e-4, 0.5))


def test_nothing_is_worse_than_a_trial_that_failed():
    for aim in (Aim(), Aim(0.5), Aim(0.0, 1.0), Aim(1.0, 1.0)):
        assert aim.score(FAILED) == WORST <= min(aim.score(result(c, r)) for c in (0.0, 1.0) for r in (0.0, 1.0))
        assert not aim.meets(FAILED)


def test_the_best_that_keeps_the_constraint_is_first_and_the_earlier_of_equals():
    results = [result(0.9, 0.3), result(0.7, 0.9), FAILED, result(0.85, 0.5), result(0.95, 0.5)]
    assert ranked(results, Aim(min_clean_accuracy=0.8)) == [3, 4, 0]
    assert ranked(results, Aim()) == [1, 3, 4, 0]
    assert ranked(results, Aim(min_clean_accuracy=0.99)) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_brute_force_finds(seed):
    draw = random.Random(seed)
    results = [
        FAILED if draw.random() < 0.2 else result(draw.randint(0, 5) / 5, draw.randint(0, 5) / 5) for _ in range(12)
    ]
    dominated = {
        i
        for i, j in itertools.permutations(range(12), 2)
        if not results[i].failed and not results[j].failed
        if results[j].clean_accuracy >= results[i].clean_accuracy
        if results[j].robust_accuracy >= results[i].robust_accuracy
        if results[j][:2] != results[i][:2]
    }
    assert front(results) == [i for i, r in enumerate(results) if not r.failed and i not in dominated]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.8", True])
@pytest.mark.parametrize("name", ["clean_weight", "min_clean_accuracy"])
def test_an_aim_that_is_no_share_is_refused(name, value):
    search = {"clean_weight": 0.0, "min_clean_accuracy": None, name: value}
    with pytest.raises(ValueError, match=rf"search.{name}`: expected a number in \[0, 1\]. Received: "):
        aim_of(search)
