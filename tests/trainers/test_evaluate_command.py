"""The command that evaluates: its files, its gates and exit codes, its state, and what it refuses."""

import dataclasses
import json
from functools import partial

import keras
import numpy as np
import pytest

import tfrobust
from tfrobust.evaluation import Report
from tfrobust.evaluation.resume import State
from trainers import evaluate


@pytest.fixture
def command(run_command):
    """Runs `tfrobust evaluate` in this process: exit code, stdout, stderr."""
    return partial(run_command, evaluate)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """48 images of two classes, dark and bright; `npz:FILE` as --data takes it."""
    path = tmp_path_factory.mktemp("data") / "gray.npz"
    x = np.linspace(0.02, 0.98, 48, dtype="float32")[:, None, None, None] * np.ones((48, 4, 4, 1), "float32")
    y = (x[:, 0, 0, 0] > 0.5).astype("int64")
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return f"npz:{path}"


def saved(path, threshold=0.5):
    """A classifier that calls bright what is above the threshold: at eps the images within eps of it are lost."""
    inputs = keras.Input((4, 4, 1))
    mean = keras.layers.Flatten()(keras.layers.GlobalAveragePooling2D()(inputs))
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(2)(mean)})
    classifier.layers[-1].set_weights([np.array([[-9.0, 9.0]]), 9 * threshold * np.array([1.0, -1.0])])
    classifier.save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("model") / "m.keras")


@pytest.fixture
def arguments(model, data):
    return [f"--model={model}", f"--data={data}", "--eps=0.1", "--attacks=fgsm", "--probes=0"]


def test_report_page_and_adversaries_stand_side_by_side(command, arguments, tmp_path):
    code, out, err = command(*arguments, f"--output={tmp_path}/deep/r.json")
    assert (code, err) == (0, "")
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["r.html", "r.json", "r.npz"]
    report = Report.load(tmp_path / "deep/r.json")
    # 48 images in steps of 0.96 / 47 around 0.5: those closer than 0.1 are fooled.
    fooled = np.sum(np.abs(np.linspace(0.02, 0.98, 48) - 0.5) < 0.1)
    assert report.clean_accuracy == 1.0 and report.robust_accuracy == pytest.approx(1 - fooled / 48)
    assert [attack.name for attack in report.attacks] == ["fgsm"]
    assert str(report) in out
    page = (tmp_path / "deep/r.html").read_text()
    assert "Robustness report" in page and "fgsm" in page


def test_without_output_nothing_is_written(command, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = command(*arguments)
    assert code == 0 and "robust accuracy" in out and list(tmp_path.iterdir()) == []


def test_attacks_are_listed_with_commas(command, arguments, tmp_path):
    code, *_ = command(*arguments, "--attacks=fgsm, pgd", "--batch_size=20", f"--output={tmp_path}/r.json")
    report = Report.load(tmp_path / "r.json")
    assert code == 0 and [attack.name for attack in report.attacks] == ["fgsm", "pgd"]
    assert report.batch_size == 20


def test_passes_vote_and_a_radius_of_zero_is_one(command, arguments, tmp_path):
    code, out, _ = command(*arguments, "--draws=3", "--eps=0", f"--output={tmp_path}/r.json")
    report = Report.load(tmp_path / "r.json")
    assert (code, report.draws, report.eps) == (0, 3, 0.0)
    assert report.robust_accuracy == report.clean_accuracy == 1.0
    assert "a vote of 3 passes" in out


def test_the_first_images_alone(command, arguments, tmp_path):
    code, out, _ = command(*arguments, "--images=10", f"--output={tmp_path}/r.json")
    report = Report.load(tmp_path / "r.json")
    assert code == 0 and report.images == 10
    note = "Only the first 10 of 48 images of the test split were evaluated."
    assert report.notes[0] == note and note in out and note in (tmp_path / "r.html").read_text()
    np.testing.assert_allclose(report.adversaries.x[:, 0, 0, 0], np.linspace(0.02, 0.98, 48)[:10], atol=1e-6)
    command(*arguments, "--images=99", f"--output={tmp_path}/all.json")
    assert Report.load(tmp_path / "all.json").notes == ()


@pytest.fixture
def baseline(command, arguments, tmp_path):
    command(*arguments, f"--output={tmp_path}/base.json")
    return tmp_path / "base.json"


def test_gates_open_for_the_same_classifier(command, arguments, baseline, tmp_path):
    code, out, err = command(*arguments, "--fail-on-alarm", "--min_robust_accuracy=0.7", f"--not_worse_than={baseline}")
    assert (code, err) == (0, "")
    assert "robust on 48 images" in out and "0 lost, 0 gained" in out and "p = 1" in out


def test_all_gates_that_fail_are_named_after_the_report_is_written(command, data, baseline, tmp_path, monkeypatch):
    worse = saved(tmp_path / "worse.keras", threshold=0.9)
    measured = tfrobust.evaluate

    def alarming(*args, **kwargs):
        return dataclasses.replace(measured(*args, **kwargs), alarms=("Something is wrong.",))

    monkeypatch.setattr(tfrobust, "evaluate", alarming)
    given = [f"--model={worse}", f"--data={data}", "--eps=0.1", "--attacks=fgsm", "--probes=0"]
    gates = ["--fail_on_alarm", "--min_robust_accuracy=0.9", f"--not_worse_than={baseline}"]
    code, out, err = command(*given, *gates, f"--output={tmp_path}/r.json")
    assert code == 3
    assert [line.split(":")[0] for line in err.splitlines()] == [
        "Gate --fail-on-alarm",
        "Gate --min_robust_accuracy",
        "Gate --not_worse_than",
    ]
    assert "19 lost, 5 gained" in out  # bright ones from 0.6 on; dark ones near 0.5
    assert (tmp_path / "r.json").exists() and (tmp_path / "r.html").exists()
    assert command(*given, "--min_robust_accuracy=0.1")[0] == 0  # an alarm alone closes no gate


def test_what_cannot_be_compared_is_refused_before_the_evaluation(command, arguments, baseline, tmp_path, monkeypatch):
    monkeypatch.setattr(tfrobust, "evaluate", lambda *_, **__: pytest.fail("the evaluation was run"))
    compared = [*arguments, f"--not_worse_than={baseline}"]
    code, _, err = command(*compared, "--eps=0.2")
    assert code == 1 and "Nothing to compare with" in err and "0.2" in err
    code, _, err = command(*compared, "--images=7")
    assert code == 1 and "images (7, 4, 4, 1) here and (48, 4, 4, 1) there" in err
    baseline.with_suffix(".npz").unlink()
    code, _, err = command(*compared)
    assert code == 1 and "base.npz" in err and len(err.splitlines()) == 1


def test_the_state_is_removed_when_the_report_is_written_and_kept_when_it_is_not(
    command, arguments, tmp_path, monkeypatch
):
    given = [*arguments, f"--output={tmp_path}/r.json"]
    monkeypatch.setattr(Report, "save", _full_disk)
    code, _, err = command(*given)
    assert code == 1 and "no space" in err
    assert [path.name for path in tmp_path.iterdir()] == ["r.state"]
    monkeypatch.undo()
    assert command(*given)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json", "r.npz"]


def _full_disk(*_):
    raise OSError("no space left")


@pytest.mark.parametrize(
    ("changed", "code", "text"),
    [
        (["--min_robust_accuracy=45"], 2, "min_robust_accuracy"),
        (["--images=0"], 2, "images"),
        (["--attacks=fgsm,,pgd"], 1, "Unknown attack"),
        (["--attacks=fgms"], 1, "fgms"),
        (["--attacks=fgsm,pdg"], 1, "Did you mean 'pgd'"),
        (["--straight_through=a,"], 2, "Expected --straight_through=LAYER,LAYER. Received: --straight_through=a,"),
        (["--output=r.html"], 2, "--output=FILE.json"),
        (["--shard=1/2"], 2, "Expected --output=FILE.json, beside which parts have their states"),
        (["--shard=3/2", "--output=r.json"], 2, "Expected --shard=K/N, K from 1 to N"),
        (["--shard=half", "--output=r.json"], 2, "Expected --shard=K/N, K from 1 to N"),
        (["--shard=1/2", "--output=r.json", "--fail_on_alarm"], 2, "gates after all parts"),
        (["--merge", "--output=nowhere.json"], 1, "Expected the states of all parts"),
        (["--not_worse_than=nowhere.json"], 1, "nowhere.json"),
        (["--data="], 2, "Expected a value for --data. Received: an empty one"),
    ],
)
def test_refusals_are_one_line(command, arguments, changed, code, text):
    received, _, err = command(*arguments, *changed)
    assert received == code and text in err and len(err.splitlines()) == 1


def stepped(path):
    """A classifier that rounds its pixels to 8 levels first; the gradient of its layer "round" is zero."""
    inputs = keras.Input((4, 4, 1))
    rounded = keras.layers.Rescaling(1 / 7, name="levels")(keras.ops.round(keras.layers.Rescaling(7.0)(inputs)))
    honest = keras.models.load_model(saved(path))
    classifier = keras.Model(inputs, honest(rounded))
    classifier.save(path)
    return path, next(op.name for op in classifier.operations if op.name.startswith("round"))


def test_gradients_pass_the_layers_that_are_named(command, data, tmp_path):
    model, layer = stepped(tmp_path / "m.keras")
    given = [f"--model={model}", f"--data={data}", "--eps=0.1", "--attacks=fgsm", "--probes=0"]
    accuracies = []
    for passed in ([], [f"--straight_through={layer}, levels"]):
        assert command(*given, *passed, f"--output={tmp_path}/r.json")[0] == 0
        accuracies.append(Report.load(tmp_path / "r.json").robust_accuracy)
    assert accuracies[0] > accuracies[1] + 0.1
    assert "StraightThrough(part=[" in Report.load(tmp_path / "r.json").attacks[0].settings["gradients"]
    code, _, err = command(*given, "--straight_through=round,rond")
    assert code == 1 and "Did you mean" in err and len(err.splitlines()) == 1


def test_parts_are_merged_into_the_report_of_one_process(command, arguments, tmp_path, monkeypatch):
    given = [*arguments[:-1], "--probes=8", f"--output={tmp_path}/r.json"]  # with alarms and curves
    assert command(*given)[0] == 0
    whole = Report.load(tmp_path / "r.json")
    for file in tmp_path.iterdir():
        file.unlink()
    cluster = {"cluster": {"worker": ["a:1", "b:1", "c:1"]}, "task": {"type": "worker", "index": 2}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    beginning = [*arguments[:-1], f"--output={tmp_path}/r.json"]
    for shard in ("1/3", "2/3"):
        code, out, _ = command(*beginning, f"--shard={shard}")
        assert code == 0 and "of the 48 images" in out
    code, _, err = command(*given, "--merge")
    assert code == 1 and "Missing of 3: 3" in err
    assert command(*beginning, "--shard=auto")[0] == 0  # the third worker of TF_CONFIG
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"r.{k}-of-3.state" for k in (1, 2, 3)]
    assert command(*given, "--seed=1", "--merge")[0] == 1
    assert command(*given, "--merge")[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json", "r.npz"]
    merged = Report.load(tmp_path / "r.json")
    times = {"seconds": 0, "attacks": ()}
    assert dataclasses.replace(merged, **times) == dataclasses.replace(whole, **times)
    assert [{**vars(a), "seconds": 0} for a in merged.attacks] == [{**vars(a), "seconds": 0} for a in whole.attacks]


class Killed(BaseException):
    """This error passes every `except Exception`; tests/evaluation/test_resume.py kills a real process."""


def test_a_killed_evaluation_goes_on_with_the_same_command(arguments, tmp_path, command, monkeypatch):
    given = [*arguments, "--attacks=fgsm,pgd", "--batch_size=12", f"--output={tmp_path}/r.json"]
    keep, kept = State.keep, []

    def dying(self, *args):
        keep(self, *args)
        kept.append(args)
        if len(kept) == 5:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(State, "keep", dying)
        with pytest.raises(Killed):
            command(*given)
    state = tmp_path / "r.state"
    assert state.exists() and not (tmp_path / "r.json").exists()
    assert command(*given)[0] == 0
    assert not state.exists()
    other = [*given[:-1], f"--output={tmp_path}/undisturbed.json"]
    assert command(*other)[0] == 0
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("r.json", "undisturbed.json"))
    assert first["robust_accuracy"] == second["robust_accuracy"]
    assert [a["fooled"] for a in first["attacks"]] == [a["fooled"] for a in second["attacks"]]
