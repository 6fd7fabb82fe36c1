"""Keras' own callbacks in a trainer's `fit`: directions, files, columns."""

import csv

import keras
import numpy as np
import pytest
from keras import callbacks
from keras import metrics as M

import tfrobust
from tfrobust import attacks
from tfrobust.trainer import AdversarialTrainer

pytestmark = pytest.mark.filterwarnings("ignore:The moving statistics")


def mean_prediction(y_true, y_pred):
    return keras.ops.mean(y_pred, axis=-1)


def make_trainer(classifier, objective="madry", optimizer=None, metrics=None, run_eagerly=True):
    """Eager, for a few steps take less time than the tracing of their graph."""
    trainer = AdversarialTrainer(classifier, objective, attacks.pgd(eps=0.1, steps=1))
    trainer.compile(optimizer or keras.optimizers.Adam(0.01), metrics=metrics, run_eagerly=run_eagerly)
    return trainer


@pytest.fixture
def train(make_classifier, batch):
    """Trains a small classifier under callbacks: `train(*callbacks, trainer=, epochs=)` -> (trainer, history)."""

    def train(*given, trainer=None, epochs=2, **options):
        trainer = trainer or make_trainer(make_classifier())
        options = {"validation_data": batch, "epochs": epochs, "verbose": 0, **options}
        return trainer, trainer.fit(*batch, callbacks=list(given), **options).history

    return train


def test_directions_need_no_mode(train, make_classifier):
    metrics = [M.SparseTopKCategoricalAccuracy(2, name="top2"), M.SparseCategoricalCrossentropy(name="ce")]
    up = ["val_accuracy", "val_robust_accuracy", "robust_accuracy", "val_top2", "val_robust_top2"]
    down = ["loss", "val_loss", "val_kl_divergence", "clean_cross_entropy", "val_ce", "robust_ce"]
    given = [callbacks.EarlyStopping(name, patience=5) for name in up + down]
    train(*given, trainer=make_trainer(make_classifier(), "trades", metrics=metrics), epochs=1)
    assert [callback.monitor_op.__name__ for callback in given] == ["greater"] * len(up) + ["less"] * len(down)


@pytest.mark.parametrize("wrap", [lambda c: [c], lambda c: callbacks.CallbackList([c])], ids=["list", "CallbackList"])
def test_monitors_without_a_direction_are_refused_before_training(wrap, make_classifier, batch, tmp_path):
    trainer = make_trainer(make_classifier(), metrics=[mean_prediction])
    before = trainer.get_weights()
    for callback, text in (
        (callbacks.EarlyStopping("val_acuracy"), "Unknown monitor of EarlyStopping.*Did you mean 'val_accuracy'"),
        (callbacks.ReduceLROnPlateau("val_precision"), "Unknown monitor of ReduceLROnPlateau"),
        (callbacks.ModelCheckpoint(tmp_path / "x.keras", "val_mean_prediction"), "expected ModelCheckpoint with mode="),
    ):
        with pytest.raises(ValueError, match=text):
            trainer.fit(*batch, validation_data=batch, callbacks=wrap(callback), verbose=0)
    for a, b in zip(before, trainer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_mode_takes_any_name(train, make_classifier):
    note = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(noted=1.0))
    stop = callbacks.EarlyStopping("noted", mode="max", patience=1)
    own = callbacks.EarlyStopping("val_mean_prediction", mode="min", patience=9)
    _, history = train(note, stop, own, trainer=make_trainer(make_classifier(), metrics=[mean_prediction]), epochs=5)
    assert len(history["loss"]) == 2


def test_every_callback_of_keras_works(train, make_classifier, tmp_path):
    optimizer = keras.optimizers.Adam(0.01, use_ema=True)
    averaging = make_trainer(make_classifier(), optimizer=optimizer, run_eagerly=False)
    _, history = train(
        callbacks.EarlyStopping("val_robust_accuracy", patience=9, restore_best_weights=True),
        callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2),
        callbacks.ReduceLROnPlateau("val_robust_accuracy", patience=9),
        callbacks.TerminateOnNaN(),
        callbacks.SwapEMAWeights(swap_on_epoch=True),
        callbacks.TensorBoard(tmp_path / "board", histogram_freq=1, update_freq=1),
        callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: None),
        callbacks.CSVLogger(tmp_path / "log.csv"),
        callbacks.ProgbarLogger(),
        trainer=averaging,
    )
    assert history["learning_rate"] == pytest.approx([0.005, 0.0025])
    assert {path.name for path in (tmp_path / "board").iterdir()} == {"train", "validation"}


@pytest.mark.parametrize("append", [False, True])
def test_a_csv_file_has_all_columns_where_the_first_epoch_is_not_validated(append, train, tmp_path):
    trainer, history = train(callbacks.CSVLogger(tmp_path / "log.csv"), epochs=4, validation_freq=2)
    if append:
        log = callbacks.CSVLogger(tmp_path / "log.csv", append=True)
        train(log, trainer=trainer, epochs=6, initial_epoch=4, validation_freq=2)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"epoch", *history}
    assert [row["val_accuracy"] != "NA" for row in rows] == [False, True] * (len(rows) // 2)
    assert float(rows[1]["val_accuracy"]) == pytest.approx(history["val_accuracy"][0])


def test_weights_of_a_checkpoint_load_in_trainer_and_classifier(train, make_classifier, batch, tmp_path):
    keep = callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5", "val_robust_accuracy", save_best_only=False, save_weights_only=True
    )
    trainer, _ = train(keep)
    logits = trainer.predict(batch[0], verbose=0)
    classifier, other = make_classifier(), make_trainer(make_classifier())
    classifier.load_weights(tmp_path / "2.weights.h5")
    other.load_weights(tmp_path / "2.weights.h5")
    np.testing.assert_array_equal(classifier(batch[0])["logits"], trainer.classifier(batch[0])["logits"])
    np.testing.assert_array_equal(other.predict(batch[0], verbose=0), logits)
    for a, b in zip(other.optimizer.variables, trainer.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not hasattr(trainer.classifier, "trainer")  # a file's contents, not the classifier's


def test_a_file_of_weights_holds_learned_multipliers(make_classifier, batch, tmp_path):
    objective = tfrobust.objectives.dra(clean_weight=0.5, bound=0.0, rate=1.0)
    trainer, other = (make_trainer(make_classifier(), objective) for _ in range(2))
    trainer.fit(*batch, verbose=0)
    trainer.save_weights(tmp_path / "x.weights.h5")
    other.load_weights(tmp_path / "x.weights.h5")
    learned = [float(t._multipliers["clean_cross_entropy"]) for t in (trainer, other)]
    assert learned[0] == learned[1] > 1.0


def test_backup_and_restore_goes_on(train, make_classifier, batch, tmp_path):
    keep = {"backup_dir": str(tmp_path / "backup"), "delete_checkpoint": False}
    first, _ = train(callbacks.BackupAndRestore(**keep))
    again = make_trainer(make_classifier())
    _, history = train(callbacks.BackupAndRestore(**keep), trainer=again, epochs=3)
    assert len(history["loss"]) == 1
    assert int(again.optimizer.iterations) == int(first.optimizer.iterations) + 1
