"""What a search leaves: its table, the winner and its config, the summary, and the errors where nothing wins."""

import csv
import json
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfrobust
from commands import build, cli
from trainers import train
from tuning import conclusion
from tuning.aims import Aim
from tuning.configs import digits
from tuning.search import search
from tuning.trials import Result, Store, Trial

SPACE = ({"field": "objective.beta", "min": 0.5, "max": 20.0, "sampling": "log"},)


def config_of(epochs=3, **search):
    config = {**digits.get_config().to_dict(), "epochs": epochs}
    config["search"].update({"space": SPACE, "finalists": 0, **search})
    return config


def kept(store, beta, clean, robust, epochs=3, message=""):
    """Puts a trial that ended into the store; its classifier is a text that names it."""
    trial = Trial({"objective.beta": beta}, epochs)
    store.workdir(trial).path.mkdir(parents=True)
    store.workdir(trial).classifier.write_text(f"{beta} {epochs}")
    store.write(trial, Result(clean, robust, epochs, 2.0, float(len(store.all())), message))
    return trial


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "search" / "trials")


def concluded(store, *aim, **search):
    return conclusion.conclude(config_of(**search), store.path.parent, store, Aim(*aim), say=lambda _: None)


def table(store):
    with (store.path.parent / "trials.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def judge(monkeypatch):
    """Gives finalists the accuracies under `standard` that a test plans, and counts how often they are asked for."""
    planned, asked = {}, []

    def evaluate(workdir, file, *, split, attacks):
        assert (split, attacks) == ("validation", "standard")
        name = workdir.classifier.read_text()
        asked.append(name)
        clean, robust, *alarms = planned[name]
        report = tfrobust.evaluation.Report(clean, robust, (), alarms, (), 0.1, "linf", (0.0, 1.0), 10, 2, 0, 10, {})
        report.save(file)
        report.save_html(file.with_suffix(".html"))
        return report

    monkeypatch.setattr(conclusion, "evaluate_workdir", evaluate)
    return SimpleNamespace(planned=planned, asked=asked)


def test_the_best_is_kept_with_a_config_that_trains_it(store):
    kept(store, 1.0, 0.9, 0.4)
    kept(store, 2.0, 0.8, 0.6, epochs=2)
    kept(store, 3.0, None, None, message="Training diverged")
    out = concluded(store)
    assert out.winner.trial == Trial({"objective.beta": 2.0}, 2) and out.winner.number == 2
    folder = store.path.parent
    assert (folder / "classifier.keras").read_text() == "2.0 2"
    best, config = json.loads((folder / "best.json").read_text()), config_of()
    config["objective"]["beta"], config["epochs"] = 2.0, 2
    assert best == json.loads(json.dumps(config)) and list(best) == list(config)


def test_a_hopeless_trials_config_ends_where_the_trial_ended(store):
    trial = Trial({"objective.beta": 1.0}, 9)
    entry = conclusion.Entry(1, trial, Result(0.2, 0.1, 4, 1.0, 0.0, "Ended early"))
    assert conclusion.best_config(config_of(9), entry)["epochs"] == 4
    assert conclusion.best_config(config_of(9), entry._replace(result=Result(0.2, 0.1, 9)))["epochs"] == 9


def test_the_last_phase_alone_ends_where_a_hopeless_trial_ended():
    phases = ({"objective": {"name": "standard"}}, {"epochs": 6})
    entry = conclusion.Entry(1, Trial({"objective.beta": 1.0}, 9), Result(0.2, 0.1, 6))
    config = {**config_of(9), "phases": phases}
    whole = conclusion.best_config(config, entry)
    assert whole["epochs"] == 9 and whole["phases"] == phases
    ended = conclusion.best_config(config, entry._replace(result=Result(0.2, 0.1, 4)))
    assert ended["epochs"] == 9 and [phase.get("epochs") for phase in ended["phases"]] == [None, 4]


def test_the_table_has_a_row_for_each_trial(store):
    kept(store, 1.0, 0.9, 0.4)
    kept(store, 2.0, 0.7, 0.6)
    kept(store, 3.0, None, None, message='a "loss", nan')
    concluded(store, 0.25, 0.8, min_clean_accuracy=0.8)
    first, second, third = table(store)
    assert [row["number"] for row in (first, second, third)] == ["1", "2", "3"]
    assert first["trial"] == Trial({"objective.beta": 1.0}, 3).key and float(first["objective.beta"]) == 1.0
    assert float(first["value"]) == pytest.approx(0.25 * 0.9 + 0.75 * 0.4)
    assert [row["meets_constraint"] for row in (first, second, third)] == ["True", "False", "False"]
    assert [row["winner"] for row in (first, second, third)] == ["True", "False", "False"]
    assert (third["clean_accuracy"], third["value"], third["message"]) == ("", "", 'a "loss", nan')


def test_the_summary_names_the_winner_the_failed_and_what_to_do_next(store):
    trial = kept(store, 2.0, 0.9, 0.5)
    kept(store, 7.0, None, None, message="Training diverged at update 3")
    text, folder = str(concluded(store)), store.path.parent
    assert "The best of 2 trials is number 1: objective.beta=2" in text
    assert "90.00 %" in text and "50.00 %" in text and "validation data that chose it" in text
    assert "1 of 2 trials failed:\n  trial 2 (objective.beta=7): Training diverged at update 3" in text
    assert f"tfrobust evaluate --workdir={folder}/trials/{trial.key} --attacks=standard" in text
    assert f"tfrobust train --config={folder}/best.json --config.epochs=6" in text


def test_finalists_are_judged_by_standard_and_the_best_of_them_wins(store, judge):
    kept(store, 1.0, 0.9, 0.6)
    kept(store, 2.0, 0.9, 0.5)
    kept(store, 3.0, 0.9, 0.4)
    judge.planned.update({"1.0 3": (0.9, 0.1), "2.0 3": (0.9, 0.3)})
    out = concluded(store, finalists=2)
    assert judge.asked == ["1.0 3", "2.0 3"] and out.winner.number == 2
    assert out.winner.result.robust_accuracy == 0.5 and out.winner.report.robust_accuracy == 0.3
    assert "30.00 %   by `standard`" in str(out)
    assert [row["standard_robust_accuracy"] for row in table(store)] == ["0.1", "0.3", ""]
    again = concluded(store, finalists=2)
    assert again == out and len(judge.asked) == 2, "a finalist whose report is there was evaluated again"
    judge.planned["3.0 3"] = (0.9, 0.35)
    assert concluded(store, finalists=3).winner.number == 3 and judge.asked[2:] == ["3.0 3"]
    assert (store.path.parent / "classifier.keras").read_text() == "3.0 3"


def test_an_alarm_of_the_winner_is_told_first(store, judge):
    kept(store, 1.0, 0.9, 0.6)
    judge.planned["1.0 3"] = (0.9, 0.5, "Gradients are masked.")
    assert str(concluded(store, finalists=1)).startswith("ALARM: Gradients are masked.\n")
    assert "Gradients are masked." in (store.path.parent / "search.html").read_text()


def test_a_finalist_keeps_the_constraint_in_its_report_too(store, judge):
    kept(store, 1.0, 0.81, 0.6)
    kept(store, 2.0, 0.9, 0.5)
    judge.planned.update({"1.0 3": (0.79, 0.5), "2.0 3": (0.9, 0.3)})
    assert concluded(store, 0.0, 0.8, finalists=3).winner.number == 2


def test_of_equal_values_only_the_longest_training_may_win(store, judge):
    kept(store, 1.0, 0.9, 0.5, epochs=1)
    kept(store, 1.0, 0.9, 0.6, epochs=3)
    kept(store, 1.0, None, None, epochs=9, message="Training diverged")
    kept(store, 2.0, 0.9, 0.3, epochs=1)
    judge.planned.update({"1.0 3": (0.9, 0.5), "2.0 1": (0.9, 0.2)})
    assert concluded(store, finalists=2).winner.trial.epochs == 3
    assert judge.asked == ["1.0 3", "2.0 1"]


def test_a_constraint_that_no_trial_meets_shows_the_nearest(store):
    kept(store, 1.0, 0.7, 0.6)
    kept(store, 2.0, 0.75, 0.5)
    kept(store, 3.0, None, None, message="nan")
    with pytest.raises(
        ValueError, match=r"at least search.min_clean_accuracy=0.8. Received: 0.7500 .* trial 2 .*beta=2"
    ):
        concluded(store, 0.0, 0.8, min_clean_accuracy=0.8)
    folder = store.path.parent
    assert len(table(store)) == 3 and (folder / "search.html").exists()
    assert not (folder / "best.json").exists() and not (folder / "classifier.keras").exists()


def test_where_all_failed_the_error_names_the_first_of_them(store):
    for beta in range(1, 8):
        kept(store, float(beta), None, None, message=f"nan at update {beta}")
    with pytest.raises(
        ValueError, match=r"All 7 trials failed: trial 1 \(objective.beta=1\): nan at update 1; .*; and 2 more"
    ):
        concluded(store)
    assert len(table(store)) == 7 and (store.path.parent / "search.html").exists()


def test_tensorboard_has_values_and_accuracies_of_each_trial_once(store):
    trials = [kept(store, 1.0, 0.9, 0.4), kept(store, 2.0, None, None, message="nan")]
    concluded(store)
    folder = store.path.parent / "tensorboard"
    files = sorted(folder.glob("*/*"))
    assert len(files) == 2
    kept(store, 3.0, 0.9, 0.3)
    concluded(store)
    assert set(files) < set(folder.glob("*/*")) and len(list(folder.glob("*/*"))) == 3
    events = EventAccumulator(str(folder / trials[0].key), size_guidance={"tensors": 0}).Reload()
    assert set(events.Tags()["tensors"]) >= {"clean_accuracy", "robust_accuracy"}
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"objective.beta" in content and trials[0].key.encode() in content


def test_an_evaluation_of_the_validation_split_reads_that_split_and_says_so(store):
    config, workdir = config_of(), store.workdir(Trial({}, 1))
    workdir.claim(config)
    tfrobust.models.get("digits").save(workdir.classifier)
    file = workdir.path / "finalist.json"
    options = {"attacks": ["fgsm"], "probes": 0, "images": 20}
    report = conclusion.evaluate_workdir(workdir, file, split="validation", **options)
    x, _ = next(iter(build.load_data(config, "validation")))
    assert (report.adversaries.x == x.numpy()[:20]).all() and report.eps == 0.15
    assert "validation split" in report.notes[0] and "20 of 144 images of the validation split" in report.notes[1]
    assert file.with_suffix(".html").exists() and not workdir.evaluation.exists()


def test_a_radius_that_the_finalists_lack_is_missed_before_any_trial(tmp_path):
    config = config_of(finalists=2)
    del config["evaluation"]["eps"]
    with pytest.raises(ValueError, match="needs `eps`"):
        search(config, tmp_path / "search", train=lambda *_: pytest.fail("a trial was trained"))


@pytest.mark.slow
def test_best_json_trains_to_the_very_same_classifier_that_standard_chose(tmp_path):
    """With real trainings: search, the finalist by AutoAttack, the best one trained again from its config."""
    config = config_of(1, trials=2, finalists=1, space=({"field": "objective.beta", "values": [1.0, 6.0]},))
    config["data"]["steps_per_epoch"] = 4
    config["attack"]["steps"] = 1
    out = search(config, tmp_path / "search")
    report = tfrobust.evaluation.Report.load(tmp_path / "search/trials" / out.winner.trial.key / "finalist.json")
    assert report.images == tfrobust.data.info("digits", validation=0.1).sizes["validation"]
    assert out.winner.report.robust_accuracy == report.robust_accuracy and "validation split" in report.notes[0]
    best = json.loads((tmp_path / "search/best.json").read_text())
    train.fit(best, tmp_path / "again")
    ours, theirs = (
        cli.load_classifier(path / "classifier.keras").get_weights()
        for path in (tmp_path / "search", tmp_path / "again")
    )
    assert all((a == b).all() for a, b in zip(ours, theirs, strict=True))
