"""Gradient clipping is Keras' own, and means the same on two replicas: see also tests/training/replicas.py."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

import tfrobust
from commands import build
from trainers.configs import digits

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("clipnorm", "global_clipnorm", "clipvalue")


@pytest.mark.parametrize("kind", KINDS)
def test_a_config_can_clip(kind, batch):
    config = {**digits.get_config().to_dict(), "optimizer": {"name": "sgd", kind: 1e-3}, "learning_rate": 1.0}
    optimizer = build.build_optimizer(config, steps_per_epoch=1)
    inputs = keras.Input((6, 6, 1))
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(keras.layers.Flatten()(inputs))})
    trainer = tfrobust.AdversarialTrainer(classifier, "madry", tfrobust.attacks.pgd(eps=0.1, steps=2))
    trainer.compile(optimizer)
    before = trainer.get_weights()
    trainer.train_on_batch(*batch)
    steps = [after - was for after, was in zip(trainer.get_weights(), before, strict=True)]
    size = {
        "clipnorm": max(np.linalg.norm(step) for step in steps),
        "global_clipnorm": np.sqrt(sum((step**2).sum() for step in steps)),
        "clipvalue": max(np.abs(step).max() for step in steps),
    }[kind]
    np.testing.assert_allclose(size, 1e-3, rtol=1e-3)


def run(script, *arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(REPLICAS) + textwrap.dedent(script), *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


REPLICAS = """
    import sys

    import keras
    import numpy as np
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    import tfrobust

    ONE, TWO = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    x = np.random.default_rng(0).uniform(size=(24, 6, 6, 1)).astype("float32")
    y = np.arange(24) % 4
    x[:12] *= 0.1  # the replicas' gradients differ

    def make(strategy, **clipping):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            inputs = keras.Input((6, 6, 1))
            hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8)(keras.layers.Flatten()(inputs)))
            classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(hidden)})
            trainer = tfrobust.AdversarialTrainer(classifier, "madry", tfrobust.attacks.pgd(eps=0.1, steps=2))
            trainer.compile(keras.optimizers.SGD(0.5, momentum=0.9, **clipping))
        return trainer
"""


@pytest.mark.slow
def test_two_replicas_that_clip_train_as_one():
    run(
        """
        ends = []
        for strategy in (ONE, TWO):
            trainer = make(strategy, global_clipnorm=0.05)
            trainer.classifier.layers[3].rate = 0.0
            trainer.fit(x, y, batch_size=12, epochs=2, shuffle=False, verbose=0)
            ends.append(np.concatenate([w.ravel() for w in trainer.classifier.get_weights()]))
        assert np.linalg.norm(ends[0] - ends[1]) < 1e-5 * np.linalg.norm(ends[0])
        """
    )


@pytest.mark.slow
def test_two_replicas_are_restored_and_watched(tmp_path):
    run(
        """
        folder = sys.argv[1]
        options = dict(batch_size=12, shuffle=False, verbose=0)
        undisturbed = make(TWO)
        undisturbed.fit(x, y, epochs=3, **options)
        killed = make(TWO)
        killed.fit(x, y, epochs=2, callbacks=[tfrobust.callbacks.Checkpoints(killed, folder)], **options)
        resumed = make(TWO)
        assert tfrobust.callbacks.Checkpoints(resumed, folder).restore() == 2
        resumed.fit(x, y, initial_epoch=2, epochs=3, **options)
        for a, b in zip(resumed.variables, undisturbed.variables, strict=True):
            np.testing.assert_array_equal(a, b)

        resumed.classifier.layers[-1].set_weights([np.full((8, 4), np.nan), np.zeros(4)])
        try:
            resumed.fit(x, y, callbacks=[tfrobust.callbacks.TerminateOnDivergence(folder)], **options)
        except FloatingPointError as error:
            assert "update 7" in str(error) and np.load(folder + "/diverged-7.npz")["x"].shape == (6, 6, 6, 1)
        else:
            raise AssertionError("nobody noticed")
        """,
        tmp_path,
    )
