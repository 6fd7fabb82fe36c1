"""A whole search on the planted problem: what it finds, that it repeats, what it survives, what it refuses."""

import itertools
import math
import traceback

import pytest

from tuning import tuners
from tuning.runner import Progress
from tuning.search import search
from tuning.spaces import space_of
from tuning.trials import Result, Store, Trial

pytestmark = pytest.mark.usefixtures("unwritten")

TUNERS = ("random", "grid", "bayesian", "hyperband")
BETA = {"field": "objective.beta", "min": 0.05, "max": 50.0, "sampling": "log"}


def trials_of(path):
    return [(trial.values, trial.epochs) for trial, _ in Store(path / "trials").all()]


def contents(path):
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("tuner, trials, epochs", [("random", 50, 2), ("bayesian", 12, 2), ("hyperband", 1, 27)])
def test_the_planted_optimum_is_found(tuner, trials, epochs, planted, tmp_path):
    outcome = search(planted.config_of(tuner, trials, epochs), tmp_path, planted.train, str)
    assert outcome.winner.trial.values["objective.beta"] == pytest.approx(planted.BEST, rel=0.2)


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_seed_repeats_its_trials_and_another_has_others(tuner, planted, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        search(planted.config_of(tuner, 5, 3, seed), tmp_path / name, planted.train, str)
    assert trials_of(tmp_path / "a") == trials_of(tmp_path / "b")
    assert (trials_of(tmp_path / "a") == trials_of(tmp_path / "c")) == (tuner == "grid")  # which draws nothing


SPACES = {
    "a range": ((BETA,), 11),
    "whole numbers": (({"field": "objective.beta", "min": 1, "max": 7},), 7),
    "choices": (({"field": "objective.beta", "values": [1.0, 2.0, 3.0]},), 3),
    "two": (
        ({"field": "objective.beta", "values": [1.0, 3.0]}, {"field": "mixed_precision", "values": [True, False]}),
        4,
    ),
}
PLANS = [
    *(("grid", 1, 2, space) for space in SPACES),
    *(("random", 5, 2, space) for space in SPACES),  # some have fewer points
    *(("bayesian", 5, 2, space) for space in SPACES),
    *(("hyperband", 1, epochs, "a range") for epochs in (1, 5, 9)),
    ({"name": "hyperband", "factor": 2}, 1, 4, "a range"),
]


@pytest.mark.parametrize("tuner, trials, epochs, space", PLANS)
def test_what_runs_is_what_was_planned(tuner, trials, epochs, space, planted, tmp_path):
    config = planted.config_of(tuner, trials, epochs, space=SPACES[space][0])
    plan = tuners.get(tuner, space_of(config), 0, trials, epochs)
    said, trained = [], []
    search(config, tmp_path, lambda *run: trained.append(planted.train(*run)), said.append)
    assert len([line for line in said if line.startswith("Trial ")]) == plan.trials
    assert len(trained) == len(trials_of(tmp_path))
    if tuner == "grid":
        assert len(trained) == SPACES[space][1]
    if tuner == "bayesian":  # it may draw a point again, which is not trained again
        points = math.prod(dimension.points for dimension in space_of(config))
        assert sum(trained) == epochs * len(trained) <= plan.epochs == epochs * min(trials, points)
    else:
        assert sum(trained) == plan.epochs
        assert "left" not in said[-1]


def test_values_reach_the_run_as_they_were_written(planted, tmp_path):
    seen = []

    def train(config, path, callbacks):
        seen.append(config)
        planted.train(config, path, callbacks)

    search(planted.config_of("grid", space=SPACES["two"][0]), tmp_path, train, str)
    assert [(c["objective"]["beta"], c["mixed_precision"]) for c in seen] == list(
        itertools.product([1.0, 3.0], [True, False])
    )
    assert all(isinstance(c["mixed_precision"], bool) for c in seen)
    assert all(c["evaluation"]["attacks"] == "" for c in seen)  # the test split is nobody's to look at


@pytest.mark.parametrize("tuner", TUNERS)
@pytest.mark.parametrize("fails", [range(4), (3,)])
def test_trials_that_diverge_are_results(tuner, fails, planted, tmp_path):
    config, calls = planted.config_of(tuner, 6, 3), itertools.count()

    def train(config, path, callbacks):
        if next(calls) in fails:
            raise FloatingPointError("Diverged at update 7")
        planted.train(config, path, callbacks)

    outcome = search(config, tmp_path, train, str)
    done = [result for _, result in Store(tmp_path / "trials").all()]
    assert [i for i, result in enumerate(done) if result.failed] == list(fails)
    assert all(done[i].message == "Diverged at update 7" and done[i].clean_accuracy is None for i in fails)
    assert len(done) == tuners.get(tuner, space_of(config), 0, 6, 3).trials
    assert not outcome.winner.result.failed


@pytest.mark.parametrize("tuner", TUNERS)
def test_all_trials_may_diverge(tuner, planted, tmp_path):
    def train(config, path, callbacks):
        raise FloatingPointError("Diverged")

    config = planted.config_of(tuner, 5, 3)
    with pytest.raises(ValueError, match="trials failed"):
        search(config, tmp_path, train, str)
    assert len(trials_of(tmp_path)) == tuners.get(tuner, space_of(config), 0, 5, 3).trials


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_mistake_of_the_program_ends_it_at_once(tuner, planted, tmp_path):
    calls = itertools.count()

    def mistaken(config, path, callbacks):
        next(calls)
        raise TypeError("a spoon")

    with pytest.raises(TypeError, match=r"^a spoon$") as caught:
        search(planted.config_of(tuner), tmp_path, mistaken, str)
    assert "mistaken" in "".join(traceback.format_tb(caught.value.__traceback__))
    assert next(calls) == 1 and trials_of(tmp_path) == []


def test_an_interrupt_passes(planted, tmp_path):
    def train(config, path, callbacks):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(planted.config_of("random"), tmp_path, train, str)


@pytest.mark.parametrize(
    "change, received",
    [
        ({"space": ({**BETA, "max": 40.0},)}, "search.space"),
        ({"tuner": "bayesian"}, "search.tuner: 'random' there, 'bayesian' given"),
        ({"min_clean_accuracy": 0.5}, "search.min_clean_accuracy"),
        ({"seed": 1}, "seed: 0 there, 1 given"),
    ],
)
def test_the_folder_of_another_search_is_refused_and_left_as_it_was(change, received, planted, tmp_path):
    search(planted.config_of("random", 3), tmp_path, planted.train, str)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=received):
        search(planted.config_of(**{"tuner": "random", "trials": 3, **change}), tmp_path, planted.train, str)
    other = planted.config_of("random", 3)
    other["attack"]["eps"] = 0.3
    with pytest.raises(ValueError, match=r"attack.eps: 0.15 there, 0.3 given"):
        search(other, tmp_path, planted.train, str)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("tuner", ["random", "bayesian"])
def test_more_trials_go_on(tuner, planted, tmp_path):
    trained = []
    for trials, name in ((2, "a"), (5, "a"), (5, "b")):
        config = planted.config_of(tuner, trials)
        search(config, tmp_path / name, lambda *run: trained.append(planted.train(*run)), str)
    assert trials_of(tmp_path / "a") == trials_of(tmp_path / "b")
    assert trained == [2] * 10


def test_what_a_killed_search_left_half_written_is_swept_and_counts_for_nothing(planted, tmp_path):
    search(planted.config_of("random", 3), tmp_path, planted.train, str)
    (done,) = list(tmp_path.glob("trials/*/result.json"))[:1]
    half = tmp_path / "trials" / ".0123abcd-x"
    half.mkdir()
    (half / "classifier.keras").write_bytes(done.read_bytes())
    search(planted.config_of("random", 3), tmp_path, planted.train, str)
    assert not half.exists() and len(trials_of(tmp_path)) == 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"tuner": "rnadom"}, r"Did you mean 'random'\?"),
        ({"tuner": {"name": "random", "factor": 3}}, "Unknown argument of tuner 'random'"),
        ({"trials": 0}, "search.trials`: expected an integer of at least 1. Received: 0"),
        ({"trials": 2.5}, "search.trials`: expected an integer"),
        ({"trials": True}, "search.trials`: expected an integer"),
        ({"hopeless_after": -1}, "search.hopeless_after`: expected an integer of at least 0"),
        ({"finalists": "3"}, "search.finalists`: expected an integer"),
        ({"clean_weight": 2.0}, "search.clean_weight"),
        ({"trails": 3}, "Missing or unknown: trails"),
        ({"tuner": "hyperband", "space": SPACES["choices"][0]}, "begins 5 different trials.*Received: 3"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_is_written(change, message, planted, tmp_path):
    config = planted.config_of("random", epochs=3)
    config["search"].update(change)
    with pytest.raises(ValueError, match=message):
        search(config, tmp_path / "w", planted.train, str)
    assert not (tmp_path / "w").exists()


EPS = {"name": "PolynomialDecay", "initial_learning_rate": 0.3, "decay_steps": 2.0, "end_learning_rate": 0.15}


@pytest.mark.parametrize("field", ["attack.eps", "attack.norm", "attack.eps.end_learning_rate"])
def test_the_ball_of_the_validation_does_not_vary(field, planted, tmp_path):
    values = ["linf", "l2"] if field == "attack.norm" else [0.1, 0.2]
    config = planted.config_of("grid", space=({"field": field, "values": values},))
    if field not in ("attack.eps", "attack.norm"):
        config["attack"]["eps"] = EPS
    with pytest.raises(ValueError, match=f"compared in one ball.*Received: '{field}'"):
        search(config, tmp_path / "w", planted.train, str)


def test_the_way_to_the_ball_may_vary(planted, tmp_path):
    space = ({"field": "attack.eps.initial_learning_rate", "values": [0.1, 0.3]},)
    config = planted.config_of("grid", epochs=2, space=space)
    config["attack"]["eps"] = EPS
    search(config, tmp_path, planted.train, str)
    assert len(trials_of(tmp_path)) == 2


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("data", {"validation": 0.0}, "needs validation data"),
        ("attack", {}, "needs an attack"),
        ("search", {}, "Missing or unknown: clean_weight"),
        ("phases", ({"epochs": 1},), "expected no phases"),
    ],
)
def test_a_config_that_cannot_be_searched_is_refused(field, value, message, planted, tmp_path):
    config = planted.config_of("hyperband")
    config[field] = {**config[field], **value} if field == "data" else value
    with pytest.raises(ValueError, match=message):
        search(config, tmp_path / "w", planted.train, str)
    assert not (tmp_path / "w").exists()


def progress_of(store, trials, epochs):
    """A progress, its lines and the clock's hands."""
    lines, now = [], [0.0]
    return Progress(tuners.Plan(None, trials, epochs), store, lines.append, lambda: now[0]), lines, now


def trial_of(beta, epochs=4):
    return Trial({"objective.beta": beta}, epochs)


def test_the_time_left_is_at_the_pace_so_far(tmp_path):
    progress, lines, now = progress_of(Store(tmp_path), 3, 12)
    for beta in (1.0, 2.0, 3.0):
        now[0] += 20
        progress.tell(trial_of(beta), Result(0.9, 0.5, 4))
    assert lines == [
        "Trial 1 of 3: objective.beta=1: robust 0.5000, clean 0.9000; 40 s left",
        "Trial 2 of 3: objective.beta=2: robust 0.5000, clean 0.9000; 20 s left",
        "Trial 3 of 3: objective.beta=3: robust 0.5000, clean 0.9000",
    ]


def test_what_the_store_answers_takes_no_time(tmp_path):
    store = Store(tmp_path)
    store.write(trial_of(1.0), Result(0.9, 0.5, 4, finished=1.0))
    progress, lines, now = progress_of(store, 3, 12)
    progress.catch_up()
    progress.catch_up()
    assert len(lines) == 1 and "left" not in lines[0]  # nothing to tell a pace by
    now[0] += 60
    progress.tell(trial_of(2.0), Result(None, None, 1, message="Diverged"))
    assert lines[1] == "Trial 2 of 3: objective.beta=2: failed. Diverged; 60 s left"


def test_what_a_promoted_trial_has_behind_it_is_counted_once(tmp_path):
    progress, lines, now = progress_of(Store(tmp_path), 4, 16)
    for beta, epochs in ((1.0, 2), (2.0, 2), (2.0, 8)):
        now[0] += 10 * (epochs if epochs == 2 else 6)
        progress.tell(trial_of(beta, epochs), Result(0.9, 0.5, epochs))
    assert [line.split("; ")[1] for line in lines] == ["2 min left", "2 min left", "60 s left"]


def test_time_left_of_no_time_is_none(tmp_path):
    progress, lines, _ = progress_of(Store(tmp_path), 2, 8)
    progress.tell(trial_of(1.0), Result(0.9, 0.5, 4))
    assert lines[0].endswith("; 0 s left")
