"""The trainer counts batches, whatever the optimizer makes of them: random starts, resume, multipliers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import attacks, objectives
from tfrobust.callbacks import Checkpoints


def linear():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    return keras.Model(inputs, {"logits": keras.layers.Dense(4)(keras.layers.Flatten()(inputs))})


def made(optimizer, objective="madry"):
    trainer = tfrobust.AdversarialTrainer(linear(), objective, attacks.pgd(eps=0.1, steps=1, step_size=0.01))
    trainer.compile(optimizer)
    return trainer


def losses_of(optimizer, batch, count=6):
    """Of steps on one batch that change no weight: they differ by their random starts."""
    trainer = made(optimizer)
    return [trainer.train_on_batch(*batch, return_dict=True)["loss"] for _ in range(count)]


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.0, gradient_accumulation_steps=3),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0), initial_scale=2.0**127),
    ],
    ids=["gradients accumulated", "updates left out"],
)
def test_random_starts_are_new_in_every_batch(optimizer, batch):
    losses = losses_of(optimizer(), batch)
    assert len(set(losses)) == len(losses)
    np.testing.assert_allclose(losses, losses_of(keras.optimizers.SGD(0.0), batch), rtol=1e-6)


def accumulating():
    return made(keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=3))


def trained(trainer, batch, epochs, **options):
    """Four batches an epoch: an epoch ends in the middle of an update."""
    history = trainer.fit(*batch, batch_size=5, shuffle=False, epochs=epochs, verbose=0, **options).history
    return [*trainer.get_weights(), *history.values()]


def assert_goes_on(trainer, batch, undisturbed, **options):
    ended = trained(trainer, batch, 3, initial_epoch=1, **options)
    for left, right in zip(ended, undisturbed, strict=True):
        np.testing.assert_array_equal(left, right[-2:] if isinstance(right, list) else right)


def saved_by_an_older_version(folder, checkpoints):
    """A checkpoint without the number of batches."""
    checkpoints._run.epochs_done = 1
    tf.train.Checkpoint(run=checkpoints._run, **checkpoints._state).write(str(folder / "ckpt-1"))


@pytest.mark.parametrize("version", ["this", "older"])
def test_a_checkpoint_goes_on_bit_for_bit(version, tmp_path, batch):
    make = accumulating if version == "this" else lambda: made("adam")
    undisturbed = trained(make(), batch, 3)
    killed, started_again = make(), make()
    checkpoints = Checkpoints(killed, tmp_path)
    trained(killed, batch, 1, callbacks=[checkpoints] if version == "this" else [])
    if version == "older":
        saved_by_an_older_version(tmp_path, checkpoints)
    checkpoints = Checkpoints(started_again, tmp_path)
    assert checkpoints.restore() == 1
    assert_goes_on(started_again, batch, undisturbed, callbacks=[checkpoints])
    assert int(started_again._batches) == 12


@pytest.mark.parametrize("version", ["this", "older"])
def test_a_file_of_weights_goes_on_bit_for_bit(version, tmp_path, batch):
    make = accumulating if version == "this" else lambda: made("adam")
    undisturbed = trained(make(), batch, 3)
    saving, loading = make(), make()
    trained(saving, batch, 1)
    save = tfrobust.AdversarialTrainer.save_weights if version == "this" else keras.Model.save_weights
    save(saving, tmp_path / "all.weights.h5")
    loading.optimizer.build(loading.trainable_variables)
    loading.load_weights(tmp_path / "all.weights.h5")
    assert_goes_on(loading, batch, undisturbed)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("several", [1, 3])
def test_the_look_for_another_batch_is_no_batch(several, batch):
    """Of data whose number is not known Keras begins a step to learn that there is no other."""
    data = tf.data.Dataset.from_tensor_slices(batch).batch(5).filter(lambda x, y: True)
    trainer = made("sgd")
    trainer.compile("sgd", steps_per_execution=several)
    trainer.fit(data, epochs=3, verbose=0)
    assert int(trainer._batches) == 12
    assert float(trainer._epoch) == pytest.approx(3.0)


def test_the_number_of_batches_is_no_weight(batch):
    trainer = made("sgd")
    trainer.fit(*batch, verbose=0)
    assert len(trainer.get_weights()) == len(trainer.classifier.get_weights())


def test_a_multiplier_takes_one_step_an_update(batch):
    """Four accumulated batches of five move it as far as one of twenty."""
    ends = []
    for steps, size in ((None, 20), (4, 5)):
        optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps)
        trainer = made(optimizer, objectives.dra(clean_weight=0.5, bound=0.2, rate=0.3))
        trainer.fit(*batch, batch_size=size, shuffle=False, verbose=0)
        ends.append(float(trainer._multipliers["clean_cross_entropy"]))
    assert ends[0] == pytest.approx(ends[1], rel=1e-5) and ends[0] > 0.5
