"""What a step costs, against a classifier that counts its passes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import attacks, objectives
from tfrobust.models import heads

pytestmark = [
    pytest.mark.filterwarnings("ignore:The moving statistics"),
    pytest.mark.filterwarnings("ignore:The objective 'aelfs' expects"),
]


class Meter(keras.layers.Layer):
    """Lets pixels pass and counts whole batches, forwards and backwards, in rows."""

    def __init__(self):
        super().__init__()
        self.rows = np.zeros(2)

    def call(self, z):
        def count(kind, rows):
            self.rows[kind] += rows
            return np.int32(0)

        @tf.custom_gradient
        def counted(z):
            def backward(upstream):
                tf.numpy_function(count, [1, tf.shape(z)[0]], tf.int32)
                return tf.identity(upstream)

            tf.numpy_function(count, [0, tf.shape(z)[0]], tf.int32)
            return tf.identity(z), backward

        return counted(z)


def metered(head="dense"):
    inputs = keras.Input((4, 4, 1))
    feature_map = keras.layers.Conv2D(6, 2)(inputs)  # in front, so that gradients of weights pass the meter too
    meter = Meter()
    feature_map = meter(feature_map)
    features = keras.layers.GlobalAveragePooling2D()(feature_map)
    outputs = heads.make(head, 3)(features, feature_map=feature_map)
    return keras.Model(inputs, {**outputs, "features": features, "feature_map": feature_map}), meter


def counted(trainer, meter, step):
    x = np.random.default_rng(0).uniform(size=(4, 4, 4, 1)).astype("float32")
    trainer.optimizer.build(trainer.trainable_variables)
    meter.rows[:] = 0
    step((x, np.array([0, 1, 2, 0])))
    return tuple(meter.rows / 4)


OBJECTIVES = {
    **{name: objectives.get(name) for name in objectives.names()},
    "awp of trades": objectives.awp("trades"),
    "awp off": objectives.awp("trades", gamma=0.0),
    "awp after warm-up": objectives.awp("joint", warmup=3),
    "half": objectives.joint(share=0.5),
    "half, norms, awp": objectives.awp(objectives.joint(share=0.5, beta=0.1)),
    "maps": objectives.infofeature(minimize_distance=True),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_training_step_takes_the_passes_that_are_forecast(name):
    objective = OBJECTIVES[name]
    classifier, meter = metered("cosine" if "cosine" in objective.needs else "dense")
    trainer = tfrobust.AdversarialTrainer(classifier, objective, attacks.pgd(eps=0.1, steps=3))
    trainer.compile("sgd")
    assert counted(trainer, meter, trainer.train_step) == trainer.cost()


@pytest.mark.parametrize(
    "attack",
    [
        attacks.fgsm(eps=0.1),
        attacks.pgd(eps=0.1, steps=2, restarts=3),
        attacks.pgd(eps=0.1, steps=2, keep="best"),
        attacks.pgd(eps=0.1, steps=2, restarts=2, keep="best"),
        attacks.cw_linf(eps=0.1, steps=2),
    ],
)
def test_the_passes_of_an_attack(attack):
    classifier, meter = metered()
    trainer = tfrobust.AdversarialTrainer(classifier, "trades", attack, validation_attack=attack)
    trainer.compile("sgd")
    assert counted(trainer, meter, trainer.train_step) == trainer.cost()
    assert counted(trainer, meter, trainer.test_step) == trainer.cost(training=False)


def test_the_passes_of_validation():
    classifier, meter = metered()
    trainer = tfrobust.AdversarialTrainer(classifier, "madry", attacks.pgd(eps=0.1, steps=3))
    trainer.compile("sgd")
    assert counted(trainer, meter, trainer.test_step) == trainer.cost(training=False) == (22, 20)
    plain = tfrobust.AdversarialTrainer(classifier, "standard")
    plain.compile("sgd")
    assert counted(plain, meter, plain.test_step) == plain.cost(training=False) == (1, 0)
