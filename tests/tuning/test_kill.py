"""A search that is killed at any moment and started again ends as one that was not."""

import json
import random
import time

import pytest

from tuning.search import search
from tuning.trials import Store

KILLS = 10
# Tuner -> trials and epochs, and the seconds of an epoch with which a search takes several.
SEARCHES = {"random": (20, 2, 0.1), "grid": (1, 3, 0.1), "bayesian": (12, 2, 0.1), "hyperband": (1, 9, 0.05)}


def trials_of(path):
    """What has to be equal, in the order in which the trials ended."""
    return [
        (trial.values, trial.epochs, result.clean_accuracy, result.robust_accuracy, result.epochs, result.message)
        for trial, result in Store(path / "trials").all()
    ]


@pytest.fixture
def undisturbed(planted, tmp_path):
    """The trials and the winner's values of a search by a tuner."""

    def run(tuner):
        trials, epochs, _ = SEARCHES[tuner]
        outcome = search(planted.config_of(tuner, trials, epochs), tmp_path / "undisturbed", planted.train, str)
        return trials_of(tmp_path / "undisturbed"), outcome.winner.trial.values

    return run


@pytest.mark.slow
@pytest.mark.parametrize("tuner", SEARCHES)
def test_a_search_killed_at_random_moments_ends_as_if_it_had_not_been(tuner, undisturbed, start_planted, tmp_path):
    expected, winner = undisturbed(tuner)
    draw, path = random.Random(tuner), tmp_path / "killed"
    epochs = sum(result_epochs for *_, result_epochs, _ in expected)
    lasts = 1.5 * epochs * SEARCHES[tuner][2] / KILLS  # until a kill, at most
    done = []
    for _ in range(KILLS):
        process = start_planted(path, tuner, *SEARCHES[tuner])
        process.stdout.readline()  # the search has begun
        time.sleep(draw.uniform(0, lasts))
        process.kill()
        process.communicate()
        done.append(len(trials_of(path)))
    assert any(0 < trials < len(expected) for trials in done), done  # they met it at work
    out, err = start_planted(path, tuner, *SEARCHES[tuner]).communicate(timeout=300)
    assert trials_of(path) == expected, err
    assert json.loads(out.splitlines()[-1]) == winner
    assert not [p for p in path.rglob(".*") if not p.name.endswith(".lock")], "left over"


class Killed(BaseException):
    """This error passes every `except Exception`."""


@pytest.mark.usefixtures("unwritten")
@pytest.mark.parametrize("tuner", SEARCHES)
def test_a_search_that_ends_anywhere_goes_on_there(tuner, undisturbed, planted, tmp_path):
    expected, winner = undisturbed(tuner)
    trials, epochs, _ = SEARCHES[tuner]
    draw, path, outcome = random.Random(0), tmp_path / "again", None

    def train(config, folder, callbacks):
        if draw.random() < 0.1:
            raise Killed
        if draw.random() < 0.1:  # in the middle
            planted.train({**config, "epochs": config["epochs"] // 2}, folder, callbacks)
            raise Killed
        planted.train(config, folder, callbacks)

    while outcome is None:
        try:
            outcome = search(planted.config_of(tuner, trials, epochs), path, train, str)
        except Killed:
            continue
    assert trials_of(path) == expected
    assert outcome.winner.trial.values == winner
    epochs_done = "".join(log.read_text() for log in path.glob("trials/*/log.txt"))
    assert epochs_done.count("epoch") <= sum(each[4] for each in expected)  # none twice
