"""A script: one of the workers of a `MultiWorkerMirroredStrategy`; TF_CONFIG says which, none is one process alone.

`python workers.py FOLDER` trains and writes what came out; with `upstream` it tells what plain Keras cannot do.
"""

import os
import sys
import types
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

ALONE = "TF_CONFIG" not in os.environ
# Before anything is computed: machines have to meet first.
STRATEGY = tf.distribute.get_strategy() if ALONE else tf.distribute.MultiWorkerMirroredStrategy()

import tfrobust  # noqa: E402
from tfrobust.training.distribution import Distributed, is_chief  # noqa: E402


def dataset(count, batch_size):
    x = np.random.default_rng(0).uniform(0, 1, (count, 6, 6, 1)).astype("float32")
    y = (x[:, :3].mean((1, 2, 3)) > 0.5).astype("int32")
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size).with_options(options)


def train(folder):
    """Batches of 11, 11, 11 and 1: the first is uneven, the last leaves a worker without any."""
    keras.utils.set_random_seed(0)
    with STRATEGY.scope():
        inputs = keras.Input((6, 6, 1))
        z = keras.layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(inputs)
        features = keras.layers.Flatten()(z)
        classifier = keras.Model(inputs, {"logits": keras.layers.Dense(2)(features), "features": features})
        trainer = tfrobust.AdversarialTrainer(classifier, "gairat", tfrobust.attacks.pgd(eps=0.1, steps=3))
        trainer.compile(keras.optimizers.SGD(0.5), metrics=["accuracy"])
    data = dataset(34, 11)
    history = trainer.fit(data, epochs=2, verbose=0, validation_data=data).history
    logits = trainer.predict(data, verbose=0)
    logs = {f"log_{name}": values for name, values in history.items()}
    weights = {f"weight_{i}": w for i, w in enumerate(classifier.get_weights())}
    index = "alone" if ALONE else STRATEGY.cluster_resolver.task_id
    np.savez(Path(folder) / f"{index}.npz", logits=logits, chief=is_chief(STRATEGY), **weights, **logs)


class Plain(keras.Model):
    """An ordinary Keras model."""

    def __init__(self):
        super().__init__()
        self.head = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])

    def call(self, x):
        return self.head(x)


class WithBoth(Distributed, Plain):
    classifier = types.SimpleNamespace(input_shape=(None, 6, 6, 1))  # a trainer's knows the shape of its images


class WithoutTheFirst(WithBoth):
    _maybe_symbolic_build = keras.Model._maybe_symbolic_build


class WithoutTheSecond(WithBoth):
    _make_function = keras.Model._make_function


def trains(kind):
    with STRATEGY.scope():
        model = kind()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    try:
        model.fit(dataset(32, 16), verbose=0)
    except (ValueError, tf.errors.OpError) as error:
        print(kind.__name__, type(error).__name__, str(error)[:300], flush=True)
        return False
    return True


def upstream():
    assert trains(WithBoth)
    assert not trains(WithoutTheFirst), "tfrobust/training/distribution.py: `build_from_data` may go"
    assert not trains(WithoutTheSecond), "tfrobust/training/distribution.py: `make_function` may go"


if __name__ == "__main__":
    upstream() if sys.argv[1] == "upstream" else train(sys.argv[1])
