"""The training command as a user types it: files, resume after a kill, refusals without a traceback."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from commands import build, cli
from commands.workdir import Workdir
from tfrobust import InvalidArgument
from trainers import quickstart
from trainers.configs import digits
from trainers.evaluate import evaluate_workdir
from trainers.train import _keeper, run

ROOT = Path(__file__).resolve().parents[2]
QUICK = [
    "--config.attack.steps=2",
    "--config.data.batch_size=128",
    "--config.data.steps_per_epoch=2",
    "--config.evaluation.attacks=",
]


def command(*arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TFROBUST_TRACEBACK", None)
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def weights(path):
    return keras.models.load_model(path).get_weights()


def history(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(tmp_path, capsys):
    """A process is killed; the run that goes on, here, is compared with one that was never disturbed."""
    killed = command("trainers.train", *QUICK, "--config.epochs=8", f"--workdir={tmp_path / 'b'}")
    deadline = time.monotonic() + 120
    # When the third is being written the second is complete: a kill may hit between a checkpoint and its entry.
    while time.monotonic() < deadline and not (tmp_path / "b" / "checkpoints" / "ckpt-3.index").exists():
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (tmp_path / "b" / "saved_model").exists()  # it was killed while training
    config = Workdir(tmp_path / "b").read_config()
    run(config, tmp_path / "a")
    assert "Epoch 2/8" in capsys.readouterr().out
    run(config, tmp_path / "b")
    out = capsys.readouterr().out
    assert "Epoch 2/8" not in out and "Epoch 8/8" in out
    for a, b in zip(weights(tmp_path / "a/classifier.keras"), weights(tmp_path / "b/classifier.keras"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert history(tmp_path / "a/history.csv") == history(tmp_path / "b/history.csv")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_network):
    """A finished run of one epoch, and its report."""
    path = tmp_path_factory.mktemp("run") / "w"
    config = digits.get_config("trades").to_dict()
    config["epochs"] = 1
    config["attack"]["steps"] = 2
    config["fine_tune"] = small_network
    config["evaluation"] = {"attacks": ["fgsm"], "eps": 0.15, "norm": "linf"}
    return path, config, run(config, path)


def test_a_run_writes_the_files_of_a_workdir(finished):
    path, config, report = finished
    names = {entry.name for entry in path.iterdir()}
    expected = {
        "config.json",
        "provenance.json",
        "data.json",
        "classifier.keras",
        "checkpoints",
        "history.csv",
        "tensorboard",
        "evaluation.json",
        "evaluation.npz",
        "evaluation.html",
        "saved_model",
    }
    assert names == expected
    assert (path / "saved_model/1/saved_model.pb").exists()
    kept = {**config, "search_dtype": "float32"}  # what "auto" is on this machine: a resumed run goes on with it
    assert json.loads((path / "config.json").read_text()) == json.loads(json.dumps(kept))
    assert json.loads((path / "evaluation.json").read_text())["robust_accuracy"] == report.robust_accuracy
    row = dict(zip(*history(path / "history.csv"), strict=True))
    assert {"loss", "kl_divergence", "clean_cross_entropy", "val_robust_accuracy", "val_loss"} <= set(row)
    classifier = keras.models.load_model(path / "classifier.keras")
    x, y = next(iter(build.load_data(config, "test", shuffle=False)))
    assert classifier(x)["logits"].shape == (len(y), 10)


def test_a_finished_run_is_not_run_again(finished):
    path, config, report = finished
    before = (path / "classifier.keras").read_bytes()
    assert run(config, path).robust_accuracy == report.robust_accuracy
    assert (path / "classifier.keras").read_bytes() == before
    assert [entry.name for entry in (path / "saved_model").iterdir()] == ["1"]


def test_a_folder_of_another_config_is_refused_and_left_alone(finished):
    path, config, _ = finished
    other = {**config, "seed": 1, "objective": {**config["objective"], "beta": 3.0}}
    before = sorted((entry, entry.stat().st_mtime_ns) for entry in path.rglob("*"))
    with pytest.raises(
        ValueError, match=r"new --workdir.*objective\.beta: 6\.0 there, 3\.0 given, seed: 0 there, 1 given"
    ):
        run(other, path)
    assert before == sorted((entry, entry.stat().st_mtime_ns) for entry in path.rglob("*"))


def test_a_run_does_not_go_on_with_other_data(tmp_path, small_network):
    def write(labels):
        np.savez(tmp_path / "d.npz", x=np.zeros((60, 8, 8, 1), "uint8"), y=labels)

    config = digits.get_config("madry")
    config.update(fine_tune=small_network, model={}, epochs=1, monitor="")
    config.data.update(name=f"npz:{tmp_path / 'd.npz'}", validation=0.0)
    config.evaluation = {"attacks": "", "norm": "linf"}
    write(np.arange(60) % 10)
    run(config.to_dict(), tmp_path / "run")
    kept = (tmp_path / "run" / "classifier.keras").read_bytes()
    write(np.arange(60) // 6)
    with pytest.raises(ValueError, match=r"Expected the data with which the run .* Received: 'npz:.*others now"):
        run(config.to_dict(), tmp_path / "run")
    write(np.arange(60) % 10)
    run(config.to_dict(), tmp_path / "run")
    assert (tmp_path / "run" / "classifier.keras").read_bytes() == kept


def test_broken_files_of_a_folder_stop_a_run_or_are_counted_in_its_report(tmp_path, small_network):
    for number in range(60):
        file = tmp_path / "pictures" / f"{number % 10}" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 4 * number, "uint8")).save(file)
    file.write_bytes(file.read_bytes()[:-30])
    config = digits.get_config("madry")
    config.update(fine_tune=small_network, model={}, epochs=1, monitor="")
    config.data.update(name=f"folder:{tmp_path / 'pictures'}", validation=0.0)
    config.evaluation = {"attacks": "fgsm", "norm": "linf", "eps": 0.1}
    with pytest.raises(ValueError, match=r"Received: 1 of 60 that cannot: .*59.png"):
        run(config.to_dict(), tmp_path / "run")
    config.data.on_error = "skip"
    report = run(config.to_dict(), tmp_path / "skipping")
    assert any("left out: 1 (" in note and "59.png" in note for note in report.notes)
    assert report.images == 12


def test_a_checkpoint_of_another_model_is_refused(finished, tmp_path):
    path, config, _ = finished
    (tmp_path / "checkpoints").symlink_to(path / "checkpoints")
    keras.utils.set_random_seed(0)
    config = {**config, "objective": {"name": "madry"}, "optimizer": {"name": "sgd"}}
    trainer = build.build_trainer(config, build.build_classifier(config))
    import tfrobust

    with pytest.raises(ValueError, match="Expected a checkpoint of this model, objective and optimizer"):
        tfrobust.callbacks.Checkpoints(trainer, tmp_path / "checkpoints").restore()


def test_history_is_cut_at_the_epoch_that_is_run_again(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.history.write_text("epoch,loss\n0,1.0\n1,0.9\n2,0.8\n2,0.")  # a row twice, the last one torn
    assert [row["epoch"] for row in workdir.cut_history(2)] == ["0", "1"]
    assert history(workdir.history) == [["epoch", "loss"], ["0", "1.0"], ["1", "0.9"]]
    assert workdir.cut_history(0) == [] and workdir.history.read_text() == ""


@pytest.mark.parametrize(("monitor", "best"), [("val_loss", 0.5), ("val_accuracy", 0.9), ("val_term", 0.2)])
def test_a_run_that_goes_on_knows_the_best_so_far(monitor, best, tmp_path):
    rows = [
        {"val_loss": "0.7", "val_accuracy": "0.9", "val_term": "0.2"},
        {"val_loss": "0.5", "val_accuracy": "0.8", "val_term": "0.3"},
    ]
    assert _keeper(monitor, Workdir(tmp_path), rows).best == best
    assert not _keeper("", Workdir(tmp_path), rows).save_best_only


def test_weight_decay_is_an_l2_term_of_the_kernels(make_classifier):
    config = digits.get_config().to_dict()
    classifier = build.build_classifier({**config, "weight_decay": 0.02})
    kernels = [w for w in classifier.trainable_variables if w.path.endswith("kernel")]
    expected = sum(0.01 * (w.numpy() ** 2).sum() for w in kernels)
    np.testing.assert_allclose(float(sum(classifier.losses)), expected, rtol=1e-5)
    assert len(kernels) >= 4


@pytest.fixture(scope="module")
def normalized(tmp_path_factory):
    """The file of a network with BatchNorm, of which no variable is zero."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(6), keras.layers.BatchNormalization(), keras.layers.Dense(10)]
    network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), *layers])
    for variable in network.trainable_variables:
        variable.assign(np.random.default_rng(3).normal(1.0, 0.2, variable.shape))
    path = tmp_path_factory.mktemp("network") / "normalized.keras"
    network.save(path)
    return str(path)


@pytest.mark.parametrize(
    ("decay_on", "decayed"),
    [("kernels", {"kernel"}), ("all", {"kernel", "bias", "gamma", "beta"})],
)
def test_a_step_of_sgd_subtracts_rate_times_decay_times_the_variables_that_decay(decay_on, decayed, normalized):
    def step(decay):
        config = {
            **digits.get_config().to_dict(),
            "fine_tune": normalized,
            "objective": {"name": "standard"},
            "optimizer": {"name": "sgd"},
            "learning_rate": 0.25,
            "weight_decay": decay,
            "weight_decay_on": decay_on,
        }
        classifier = build.build_classifier(config)
        before = {variable.path: variable.numpy() for variable in classifier.trainable_variables}
        pixels, labels = np.random.default_rng(0).random((8, 8, 8, 1), "float32"), np.arange(8)
        build.build_trainer(config, classifier).train_on_batch(pixels, labels)
        return before, {variable.path: variable.numpy() for variable in classifier.trainable_variables}

    (before, plain), (_, with_decay) = step(0.0), step(0.5)
    assert {path.split("/")[-1] for path in before} == {"kernel", "bias", "gamma", "beta"}
    for path, value in before.items():
        expected = 0.25 * 0.5 * value if path.split("/")[-1] in decayed else 0.0 * value
        np.testing.assert_allclose(plain[path] - with_decay[path], expected, atol=1e-6, err_msg=path)


def test_learning_rates_are_schedules_over_epochs():
    config = digits.get_config().to_dict()
    config["learning_rate"] = {"name": "PiecewiseConstantDecay", "boundaries": [2.0, 3.0], "values": [0.1, 0.01, 0.001]}
    optimizer = build.build_optimizer(config, steps_per_epoch=10)
    schedule = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer._learning_rate))
    got = [round(float(schedule(step)), 6) for step in (0, 20, 21, 30, 31)]
    assert got == [0.1, 0.1, 0.01, 0.01, 0.001]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["trainers.train"], "workdir"),
        (["trainers.train", "--workdirr=x"], "workdirr"),
        (["trainers.train", "--workdir="], "Expected a value for --workdir. Received: an empty one"),
        (["trainers.train", "--workdir=x", "more"], "expected flags alone. Received: more"),
        (["trainers.train", "--workdir=x", "--config=nowhere.py"], "nowhere.py"),
        (
            ["trainers.train", "--workdir=x", "--config=trainers/configs/digits.py:mad"],
            "expected one of adv_interpolation, aelf",
        ),
        (["trainers.train", "--workdir=x", "--config.epoch=3"], "epoch"),
        (["trainers.train", "--workdir=x", "--config.phases[7].epochs=3"], "tuple index out of range"),
        (["trainers.train", "--workdir=x", "--config.epochs=many"], "many"),
        (["trainers.train", "--workdir=x", "--config.objective.name=tradess"], "Did you mean 'trades'"),
        (["trainers.train", "--workdir=x", "--config.optimizer=adam"], "expected .name=adam behind the field's name"),
        (["trainers.evaluate"], "Expected one of --workdir=DIR and --model=FILE. Received: neither"),
        (
            ["trainers.evaluate", "--model=nowhere.keras", "--data=digits", "--eps=0.1"],
            "nowhere.keras, where no file is",
        ),
        (["trainers.evaluate", "--workdir=nowhere"], "Received: nowhere, without config.json"),
    ],
)
def test_misuse_is_one_line_without_traceback_or_tensorflow(arguments, text):
    started = time.monotonic()
    code, out, err = finish(command(*arguments))
    assert code in (1, 2)
    assert text in err
    assert len(err.splitlines()) == 1 and "Traceback" not in err
    assert out == ""
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("module", ["trainers.train", "trainers.evaluate", "trainers.quickstart"])
def test_help_comes_without_tensorflow(module):
    code, out, err = finish(command(module, "--help"))
    assert code == 0 and "--workdir: Folder" in out and err == ""
    assert ("--config: FILE.py" in out) == (module == "trainers.train")


def test_fields_are_listed_as_the_flags_that_set_them():
    code, out, err = finish(command("trainers.train", "--list_fields", "--config.epochs=3"))
    assert code == 0 and err == ""
    assert {"--config.epochs=3", "--config.optimizer.name=adam", "--config.phases='()'"} <= set(out.splitlines())


def test_the_runs_own_report_is_not_overwritten_by_another(finished, tmp_path):
    path, _, report = finished
    before = (path / "evaluation.json").read_bytes()
    with pytest.raises(ValueError, match="expected --output=FILE for another"):
        evaluate_workdir(Workdir(path), eps=0.01)
    assert (path / "evaluation.json").read_bytes() == before
    (tmp_path / "other.state-journal").touch()  # as an evaluation that was killed after its last batch leaves it
    other = evaluate_workdir(Workdir(path), tmp_path / "other.json", eps=0.01)
    assert other.robust_accuracy >= report.robust_accuracy
    assert {file.name for file in tmp_path.iterdir()} == {"other.json", "other.html", "other.npz"}
    assert json.loads((tmp_path / "other.json").read_text())["eps"] == 0.01


def test_a_run_without_an_evaluation_can_be_evaluated_later(finished, tmp_path):
    path, config, _ = finished
    shutil.copytree(path, tmp_path / "w", ignore=shutil.ignore_patterns("evaluation.json"))
    later = {**config, "evaluation": {**config["evaluation"], "attacks": ""}}
    (tmp_path / "w/config.json").write_text(json.dumps(later))
    assert [attack.name for attack in evaluate_workdir(Workdir(tmp_path / "w")).attacks] == ["pgd", "cw_linf"]
    assert (tmp_path / "w/evaluation.json").exists()


def test_evaluation_follows_the_balls_of_training_unless_another_is_given():
    config = digits.get_config()
    config.attack.eps, config.attack.norm = 0.1, "l2"
    assert config.evaluation.to_dict() == {"attacks": "quick", "eps": 0.1, "norm": "l2"}
    config.evaluation.eps = 0.2
    assert config.attack.eps == 0.1


def test_a_config_without_a_field_is_refused(tmp_path):
    config = digits.get_config().to_dict()
    del config["monitor"]
    with pytest.raises(ValueError, match="Missing: monitor"):
        run(config, tmp_path / "w")


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ({"monitor": "val_robust_acc"}, "Did you mean 'val_robust_accuracy'"),
        ({"evaluation": {"attacks": "quik", "eps": 0.1, "norm": "linf"}}, "Did you mean 'quick'"),
        ({"evaluation": {"attacks": "quick", "eps": 8, "norm": "linf"}}, "at most the pixel range"),
        ({"evaluation": {"attacks": "quick", "eps": 0.1, "norm": "l7"}}, "Unknown norm"),
        ({"epochs": 0}, "`epochs`: expected an integer of at least 1"),
        ({"epochs": "3"}, "`epochs`: expected an integer of at least 1. Received: '3'"),
        ({"phases": [3]}, "Invalid phase: expected a mapping of fields. Received: 3"),
        ({"frozen": "head"}, "`frozen`: expected a list of layers' names"),
        ({"optimizer": {}}, "`optimizer` needs a `name`"),
        ({"optimizer": {"name": "adamm"}}, "Invalid `optimizer`: expected a Keras optimizer"),
        ({"optimizer": {"name": "sgd", "momentum": 7}}, "Invalid `optimizer`.*momentum"),
        ({"optimizer": {"name": "sgd", "speed": 7}}, "Invalid `optimizer`.*speed"),
        ({"weight_decay": -1.0}, "`weight_decay`: expected a number of at least 0"),
        ({"weight_decay_on": "kernel"}, "`weight_decay_on`.*Did you mean 'kernels'"),
        ({"seed": -1}, "`seed`: expected an integer from 0 to"),
        ({"evaluation": {"attacks": "quick", "norm": "linf"}}, "needs `eps`"),
        ({"fine_tune": "x.keras", "mixed_precision": True}, "expected mixed_precision=False"),
        ({"objective": {"name": "trade"}}, "Did you mean 'trades'"),
        ({"model": {"name": "digit"}}, "Did you mean 'digits'"),
        ({"attack": {"name": "pgd", "eps": 8}}, "at most the pixel range"),
        (
            {"data": {"name": "digits", "batch_size": 64, "validation": 0.0, "augment": None}},
            "`monitor` needs validation",
        ),
    ],
)
def test_bad_configs_are_refused_before_a_folder_is_made(override, text, tmp_path):
    with pytest.raises((InvalidArgument, cli.Mistake), match=text):
        run({**digits.get_config().to_dict(), **override}, tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_quickstart_says_what_it_does_how_long_it_takes_and_what_to_open(tmp_path, monkeypatch, run_command):
    trained = []

    def run(config, path):
        trained.append((config["objective"]["name"], path.name))
        attacks = [types.SimpleNamespace(name="pgd", settings={"steps": 50, "restarts": 3})]
        return types.SimpleNamespace(eps=0.15, clean_accuracy=0.975, robust_accuracy=0.125, attacks=attacks)

    monkeypatch.setattr(quickstart, "run", run)
    code, out, err = run_command(quickstart, f"--workdir={tmp_path}")
    assert (code, err) == (0, "") and trained == [("standard", "plain"), ("madry", "robust")]
    first, *lines = out.splitlines()
    assert first.startswith("Two small networks") and "two to seven minutes" in lines[0]
    assert [line for line in lines if line.startswith("Network")][1].startswith("Network 2 of 2, robust: train, attack")
    assert "robust           97.5%           12.5%" in lines
    assert f"  {(tmp_path / 'robust/evaluation.html').as_uri()}" in lines


@pytest.mark.slow
def test_quickstart_keeps_its_promise(tmp_path):
    code, out, err = finish(command("trainers.quickstart", f"--workdir={tmp_path}"))
    assert code == 0, err
    for name in ("plain", "robust"):
        report = json.loads((tmp_path / name / "evaluation.json").read_text())
        under_pgd = next(attack["accuracy"] for attack in report["attacks"] if attack["name"] == "pgd")
        assert report["clean_accuracy"] >= 0.95
        assert under_pgd >= 0.72 if name == "robust" else under_pgd <= 0.20
    assert "Try next" in out
