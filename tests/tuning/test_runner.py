"""A trial by the real trainer: promoted it goes on from its parent's state, hopeless it ends."""

import contextlib
import fcntl
import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tuning.configs import digits
from tuning.runner import CHANCE, Hopeless, fit, trial_config
from tuning.search import search
from tuning.trials import Result, Store, Trial

pytestmark = pytest.mark.usefixtures("unwritten")


class Killed(BaseException):
    """This error passes every `except Exception`."""


@pytest.fixture
def tiny(tmp_path):
    """A search's config whose trials are real trainings, of a small network by two steps an epoch."""
    pixels = keras.Input((8, 8, 1))
    x = keras.layers.Dropout(0.2)(keras.layers.Flatten()(pixels))
    keras.Model(pixels, {"logits": keras.layers.Dense(10)(x)}).save(tmp_path / "small.keras")
    config = digits.get_config("madry").to_dict()
    config["fine_tune"] = str(tmp_path / "small.keras")
    config["data"].update(batch_size=32, steps_per_epoch=2)
    config["attack"]["steps"] = 1
    config["epochs"] = 3
    config["search"]["finalists"] = 0
    return config


def state_of(workdir):
    """All that a training has at its end: the optimizer's variables among them."""
    checkpoint = tf.train.load_checkpoint(str(workdir.checkpoints))
    return {name: checkpoint.get_tensor(name) for name in checkpoint.get_variable_to_shape_map()}


@pytest.mark.slow
def test_a_promoted_trial_goes_on_from_its_parents_checkpoint(tiny, tmp_path):
    """It ends bit for bit as if trained in one go, with the optimizer's variables: checkpoints hold them too."""
    tiny["search"]["tuner"] = "hyperband"
    calls = itertools.count()

    def train(config, path, callbacks):
        place = next(calls)
        if place in (1, 2):  # so that the first one is promoted
            raise FloatingPointError("Diverged")
        if place == 4:
            raise Killed
        fit(config, path, callbacks)

    with contextlib.suppress(Killed):
        search(tiny, tmp_path, train, str)
    store = Store(tmp_path / "trials")
    (short, _), *_, (long, result) = store.all()
    assert (short.epochs, long.epochs, result.epochs) == (1, 3, 3) and short.values == long.values

    straight = Store(tmp_path / "straight")
    fit(trial_config(tiny, long), straight.workdir(long).path, [])
    promoted, at_once = state_of(store.workdir(long)), state_of(straight.workdir(long))
    assert promoted.keys() == at_once.keys()
    for name, values in at_once.items():
        np.testing.assert_array_equal(promoted[name], values, err_msg=name)
    assert store.workdir(long).read_history() == straight.workdir(long).read_history()
    assert store.workdir(short).history.read_text().count("\n") == 2  # the parent's is left as it was


def test_a_hopeless_training_ends_early(tiny, tmp_path):
    tiny["search"].update(tuner="random", trials=1, hopeless_after=1)
    tiny["attack"]["eps"] = 1.0
    outcome = search(tiny, tmp_path, say=str)
    assert outcome.winner.result.epochs == 1 and outcome.winner.result.robust_accuracy <= CHANCE / 10
    assert outcome.winner.result.message == "Ended early: robust accuracy near chance after 1 epochs."


@pytest.mark.parametrize(
    "history, seen",
    [([], False), ([0.1], False), ([0.1, 0.15], True), ([0.1, 0.16], False), ([0.3, 0.1, 0.1], False)],
)
def test_hopeless_is_who_has_never_been_better_than_chance(history, seen):
    assert Hopeless(2, 0.15, history).seen == seen
    assert not Hopeless(0, 0.15, history).seen


def test_what_was_reached_before_a_kill_counts():
    for rows in ([0.4], [0.4, 0.0]):  # the second one is of an epoch that is run again
        hopeless = Hopeless(2, 0.15, rows)
        hopeless.set_model(SimpleNamespace(stop_training=False))
        for epoch in (1, 2):
            hopeless.on_epoch_end(epoch, {"val_robust_accuracy": 0.0})
        assert not hopeless.model.stop_training
    hopeless = Hopeless(2, 0.15, [0.1])
    hopeless.set_model(SimpleNamespace(stop_training=False))
    hopeless.on_epoch_end(1, {"val_robust_accuracy": 0.1})
    assert hopeless.model.stop_training


@pytest.fixture
def hopeless_training(planted):
    """Trains as the planted problem does, robust by 0.1 at every epoch, and asks the callbacks after each."""

    def train(config, path, callbacks):
        model = SimpleNamespace(stop_training=False)
        for epoch in range(config["epochs"]):
            planted.train({**config, "epochs": epoch + 1}, path, [])
            history = path / "history.csv"
            lines = history.read_text().splitlines()
            lines[epoch + 1] = ",".join([*lines[epoch + 1].split(",")[:2], "0.1"])
            history.write_text("\n".join(lines) + "\n")
            for callback in callbacks:
                callback.set_model(model)
                callback.on_epoch_end(epoch, {"val_robust_accuracy": 0.1})
            if model.stop_training:
                return

    return train


def test_one_that_was_killed_before_its_result_is_kept_is_not_trained_further(
    hopeless_training, planted, tmp_path, monkeypatch
):
    config = planted.config_of("random", 1, 5, hopeless_after=2)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Store, "write", killed)
        search(config, tmp_path / "a", hopeless_training, str)
    again = search(config, tmp_path / "a", pytest.fail, str)
    once = search(config, tmp_path / "b", hopeless_training, str)
    assert again.winner.result._replace(seconds=0, finished=0) == once.winner.result._replace(seconds=0, finished=0)
    assert once.winner.result.epochs == 2 and once.winner.result.message.startswith("Ended early")


def test_who_has_all_its_epochs_did_not_end_early(hopeless_training, planted, tmp_path):
    outcome = search(planted.config_of("random", 1, 2, hopeless_after=2), tmp_path, hopeless_training, str)
    assert outcome.winner.result.epochs == 2 and outcome.winner.result.message == ""


def test_a_result_is_read_as_it_was_written(tmp_path):
    store, trial = Store(tmp_path), Trial({"objective.beta": 0.1, "mixed_precision": True}, 3)
    assert store.read(trial) is None and store.all() == [] and store.workdir(trial).read_history() == []
    result = Result(0.9, 0.123456789012345, 3, 4.5, 6.7, "text")
    store.write(trial, result)
    assert store.read(trial) == result and store.all() == [(trial, result)]


def test_a_trials_name_is_its_values_and_epochs():
    trial = Trial({"a": 1.0, "b": "x"}, 3)
    assert Trial({"b": "x", "a": 1.0}, 3).key == trial.key
    others = [Trial({"a": 1.0, "b": "y"}, 3), Trial({"a": 1.0, "b": "x"}, 4), Trial({"a": 1.0 + 1e-15, "b": "x"}, 3)]
    assert len({trial.key, *(other.key for other in others)}) == 4


def test_a_trial_is_one_processs(tmp_path):
    store, trial = Store(tmp_path), Trial({"objective.beta": 0.1}, 3)
    with store.lock(trial):
        (name,) = tmp_path.glob(".*.lock")
        with name.open("w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with name.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
