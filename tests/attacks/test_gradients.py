"""Gradients that are not finite: what a search follows in their place."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import attacks, losses
from tfrobust.attacks import Gradient, GradientAttack, Linf, Momentum, Normalized, Sign, TopKGradient
from tfrobust.attacks.gradients import Estimated, Exact, Expected
from tfrobust.utils import graph as backend

NAN, INF = float("nan"), float("inf")
SOUND = np.array([1.0, -3.0, 0.0, 2.0], "float32")
CASES = {
    "finite": (SOUND, SOUND),
    "NaN": ([NAN, -3.0, 0.0, 2.0], [0.0, -3.0, 0.0, 2.0]),
    "infinite": ([INF, -3.0, -INF, 2.0], [3.0, -3.0, -3.0, 2.0]),
    "both": ([NAN, INF, -1.0, 0.5], [0.0, 1.0, -1.0, 0.5]),
    "infinite alone": ([INF, 0.0, 0.0, -INF], [1.0, 0.0, 0.0, -1.0]),
    "NaN alone": ([NAN] * 4, [0.0] * 4),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"autograph": False}])
def test_what_stands_for_them(case, options):
    """Image by image: the sound one beside it is as it was."""
    given, expected = (np.array([part, SOUND], "float32").reshape(2, 2, 2, 1) for part in CASES[case])
    run = tf.function(backend.finite, **options) if options else backend.finite
    np.testing.assert_array_equal(run(tf.constant(given)), expected)


ORACLES = [Exact(), Expected(samples=2), Estimated(samples=16)]


@pytest.mark.parametrize("oracle", ORACLES, ids=str)
def test_every_oracle_gives_finite_gradients(oracle):
    """Of a root at a black pixel, of a loss that is NaN, and of a class that is ruled out."""
    x = tf.constant(np.linspace(0, 0.5, 8, dtype="float32").reshape(2, 2, 2, 1))
    noise = attacks.Noise(3)
    rows = {
        "root": lambda z: tf.reduce_sum(tf.sqrt(tf.square(z)), axis=(1, 2, 3)),
        "NaN": lambda z: NAN * tf.reduce_sum(z, axis=(1, 2, 3)),
        "infinite": lambda z: tf.where(tf.reduce_sum(z, axis=(1, 2, 3)) > 0.5, INF, tf.reduce_sum(z, axis=(1, 2, 3))),
    }
    for loss in rows.values():
        assert np.isfinite(oracle(loss, x, noise)[2]).all()

    def ruled_out(z):
        z = tf.reshape(z, (2, 4))
        return tf.concat([z[:, :2], tf.fill((2, 1), -INF)], axis=-1)

    values, pull = oracle.linear(ruled_out, x, noise)
    found = np.asarray(pull(tf.constant([[1.0, -1.0, 0.0]] * 2)))
    assert np.isneginf(values[:, 2]).all() and np.isfinite(found).all() and (found != 0).any()
    assert np.isfinite(pull(tf.constant([[0.0, -1.0, 1.0]] * 2))).all()


STEPS = [Sign, Normalized, Gradient, TopKGradient, lambda size: Momentum(Sign(size))]


@pytest.mark.parametrize("make", STEPS)
def test_every_step_rule_goes_on_with_what_is_left(make):
    """A NaN of one pixel loses neither its image nor the others."""
    x = np.full((3, 2, 2, 1), 0.5, "float32")
    x[0, 0, 0], x[1] = 0, 0

    def loss(z):
        return tf.reduce_sum(tf.sqrt(tf.square(z)), axis=(1, 2, 3))

    z = np.asarray(GradientAttack(Linf(0.1), make(0.05), 3, start="none").ascend(loss, x)[0])
    assert np.isfinite(z).all()
    np.testing.assert_array_equal(z[x == 0], 0)
    assert (z[x > 0] > 0.55).all()


def test_training_searches_on_and_shows_a_broken_update(tmp_path, make_classifier, batch):
    """The search finds adversaries beside a NaN of the input's gradient; one of the weights is not hidden."""
    x, y = batch[0].copy(), batch[1]
    x[:, ::3] = 0
    inputs = keras.Input((6, 6, 1))
    rooted = keras.layers.Lambda(lambda x: tf.sqrt(tf.square(x)))(inputs)
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(keras.layers.Flatten()(rooted))})
    trainer = tfrobust.AdversarialTrainer(classifier, "madry", attacks.pgd(eps=0.1, steps=2))
    trainer.compile(keras.optimizers.SGD(0.1))
    watch = tfrobust.callbacks.TerminateOnDivergence(tmp_path)
    history = trainer.fit(x, y, epochs=2, verbose=0, callbacks=[watch]).history
    assert np.isfinite(history["loss"]).all()
    assert not list(tmp_path.iterdir())

    classifier.layers[-1].kernel.assign(np.full((36, 4), np.nan))
    with pytest.raises(FloatingPointError, match="Received: adversarial_cross_entropy=nan"):
        trainer.fit(x, y, verbose=0, callbacks=[watch])
    saved = np.load(next(tmp_path.iterdir()))
    assert np.isfinite(saved["x_adv"]).all()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_scorer_in_a_graph(jit_compile):
    """Compiled code of a processor drops a NaN from a maximum: it has to be looked for by itself."""
    logits = np.array([[NAN, 1.0, 2.0], [3.0, NAN, 2.0], [-INF] * 3, [1.0, -INF, 2.0]], "float32")
    score = tf.function(losses.correct, jit_compile=jit_compile)
    np.testing.assert_array_equal(score(tf.constant(logits), tf.constant([2, 0, 0, 2])), [0, 0, 0, 1])
    np.testing.assert_array_equal(tf.function(losses.predicted, jit_compile=jit_compile)(logits), [-1, -1, -1, 2])


def test_metrics_of_the_trainer_count_no_prediction_as_wrong(batch):
    x = batch[0]
    inputs = keras.Input((6, 6, 1))
    logits = keras.layers.Dense(4, bias_initializer=lambda *_, **__: NAN * tf.ones(4))(keras.layers.Flatten()(inputs))
    trainer = tfrobust.AdversarialTrainer(keras.Model(inputs, {"logits": logits}), "madry", attacks.pgd(eps=0.1))
    trainer.compile()
    found = trainer.evaluate(x, np.zeros(20, int), verbose=0, return_dict=True)
    assert (found["accuracy"], found["robust_accuracy"]) == (0, 0)
    held_out = tfrobust.callbacks.CatastrophicOverfitting((x, np.zeros(20, int)))
    held_out.set_model(trainer)
    assert [measure(1.0) for measure in held_out._accuracies.values()] == [0, 0]
