"""Speed options through the command's `run`: each keeps what a run promises."""

import csv

import keras
import numpy as np
import pytest

import tfrobust
from commands import build
from trainers.configs import digits
from trainers.train import run

OPTIONS = {
    "objective": {"name": "awp", "objective": {"name": "madry"}, "gamma": 0.01, "warmup": 1},
    "ema": 0.9,
    "steps_per_execution": 8,
    "mixed_precision": True,
    "epochs": 3,
    "evaluation": {"attacks": "", "eps": 0.15, "norm": "linf"},
}


def config_of(row="fast", **fields):
    config = digits.get_config(row).to_dict()
    config["data"]["batch_size"] = 128
    config["model"]["features"] = 16
    return {**config, **OPTIONS, **fields}


def weights(path):
    return keras.models.load_model(path).get_weights()


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the file of history that it left open
def test_an_interrupted_run_with_all_options_ends_as_an_undisturbed_one(tmp_path, monkeypatch):
    config = config_of()
    run(config, tmp_path / "a")
    save = tfrobust.callbacks.Checkpoints.on_epoch_end

    def interrupted(self, epoch, logs=None):
        save(self, epoch, logs)
        if epoch == 1:
            raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(tfrobust.callbacks.Checkpoints, "on_epoch_end", interrupted)
        with pytest.raises(InterruptedError):
            run(config, tmp_path / "b")
    keras.utils.set_random_seed(123)
    run(config, tmp_path / "b")
    for a, b in zip(weights(tmp_path / "a/classifier.keras"), weights(tmp_path / "b/classifier.keras"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert rows(tmp_path / "a/history.csv") == rows(tmp_path / "b/history.csv")
    assert [row["epoch"] for row in rows(tmp_path / "a/history.csv")] == ["0", "1", "2"]


def test_the_kept_classifier_is_the_average_that_was_validated(tmp_path, small_network):
    options = {"mixed_precision": False, "objective": {"name": "standard"}, "epochs": 2}
    config = config_of(fine_tune=small_network, **options)
    run(config, tmp_path / "w")
    kept = keras.models.load_model(tmp_path / "w/classifier.keras")
    best = max(rows(tmp_path / "w/history.csv"), key=lambda row: float(row["val_robust_accuracy"]))
    trainer = build.build_trainer(config, kept)
    logs = trainer.evaluate(build.load_data(config, "validation"), verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(float(best["val_loss"]), rel=1e-5)


def test_options_reach_the_trainer():
    config = {**config_of(jit_compile="on", ema=0.99), "epochs": 1}
    trainer = build.build_trainer(config, build.build_classifier(config))
    assert trainer.jit_compile is True and trainer.steps_per_execution == 8
    assert trainer.optimizer.use_ema and trainer.optimizer.ema_momentum == 0.99
    config = {**config, "jit_compile": "off", "ema": 0.0, "mixed_precision": False}
    trainer = build.build_trainer(config, build.build_classifier(config))
    assert trainer.jit_compile is False and not trainer.optimizer.use_ema


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("jit_compile", "yes", "Unknown value for `jit_compile`: expected one of auto, off, on. Received: 'yes'"),
        ("steps_per_execution", 0, "`steps_per_execution`: expected an integer of at least 1. Received: 0"),
        ("steps_per_execution", 2.5, "`steps_per_execution`"),
        ("ema", 1.5, "`ema`: expected a momentum in .0, 1.. Received: 1.5"),
        ("ema", -0.5, "`ema`"),
    ],
)
def test_refusals(field, value, text):
    config = config_of(mixed_precision=False, **{field: value})
    with pytest.raises(ValueError, match=text):
        build.build_trainer(config, build.build_classifier(config))


def test_the_fast_row_is_one_step_past_the_ball_from_a_uniform_start():
    """Wong et al. 2020, algorithm 3; the step follows an eps that is overridden."""
    config = digits.get_config("fast")
    config.attack.eps = 0.1
    attack = tfrobust.attacks.get(build.given(config.to_dict()["attack"]))
    assert attack.steps == 1 and attack.step.size == pytest.approx(0.125)
    assert attack.start is tfrobust.attacks.starts.uniform
