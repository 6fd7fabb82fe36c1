"""Options of a training beside its method: weight perturbation and averaging, precision, compilation, execution."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import attacks, objectives
from tfrobust.objectives import awp
from tfrobust.trainer import AdversarialTrainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:The moving statistics"),
    pytest.mark.filterwarnings("ignore:The objective 'awp' expects"),
    pytest.mark.filterwarnings("ignore:The objective 'aelfs' expects"),
]


def make_trainer(classifier, objective="madry", optimizer=None, steps=1, **options):
    trainer = AdversarialTrainer(classifier, objective, attacks.pgd(eps=0.1, steps=steps))
    trainer.compile(optimizer or keras.optimizers.SGD(0.1), **options)
    return trainer


# Where a test needs a few steps alone: they take less time than the tracing of their graph.
EAGER = {"run_eagerly": True}


def weights(model):
    return [w.copy() for w in model.get_weights()]


def twins(make_classifier, **options):
    one, other = make_classifier(**options), make_classifier(**options)
    for a, b in zip(one.variables, other.variables, strict=True):
        b.assign(a)
    return one, other


def assert_equal(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def difference(a, b):
    return max(np.abs(left - right).max() for left, right in zip(a, b, strict=True))


# Weight perturbation


def test_the_gradient_is_taken_at_perturbed_kernels(batch):
    """A linear classifier by hand: p - onehot at w gives v, and at w + v the update."""
    x, y = batch
    inputs = keras.Input((6, 6, 1))
    classifier = keras.Model(inputs, {"logits": keras.layers.Dense(4)(keras.layers.Flatten()(inputs))})
    w, b = (v.astype("float64") for v in weights(classifier))
    rows, one = x.reshape(20, 36).astype("float64"), np.eye(4)[y]

    def gradient(w):
        z = rows @ w + b
        p = np.exp(z - z.max(-1, keepdims=True))
        error = (p / p.sum(-1, keepdims=True) - one) / 20
        return rows.T @ error, error.sum(0)

    g, _ = gradient(w)
    v = 0.3 * np.linalg.norm(w) * g / np.linalg.norm(g)
    expected = [a - 0.5 * g for a, g in zip((w, b), gradient(w + v), strict=True)]
    trainer = make_trainer(classifier, awp("standard", gamma=0.3), keras.optimizers.SGD(0.5))
    trainer.fit(x, y, batch_size=20, verbose=0)
    for received, value in zip(weights(classifier), expected, strict=True):
        np.testing.assert_allclose(received, value, atol=1e-6)
    assert np.abs(gradient(w)[0] - gradient(w + v)[0]).max() > 1e-3  # it is another gradient


def test_kernels_are_put_back_bit_for_bit(make_classifier, batch):
    x, y = batch
    classifier = make_classifier(batch_norm=True, dropout=0.3)
    before = [variable.numpy() for variable in classifier.trainable_variables]
    trainer = make_trainer(classifier, awp("trades", gamma=0.5), keras.optimizers.SGD(0.0), **EAGER)
    trainer.fit(x, y, batch_size=10, epochs=1, verbose=0)
    assert_equal([variable.numpy() for variable in classifier.trainable_variables], before)


@pytest.mark.parametrize(
    "options", [{}, EAGER, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)], ids=["graph", "eager", "xla"]
)
def test_the_extra_pass_leaves_no_trace(options, make_classifier, batch):
    """A perturbation that float32 rounds away: statistics, seeds and weights are those of the plain objective."""
    x, y = batch
    plain, wrapped = twins(make_classifier, batch_norm=True, dropout=0.3)
    for classifier, objective in ((plain, "standard"), (wrapped, awp("standard", gamma=1e-20))):
        make_trainer(classifier, objective, **options).fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(plain.variables, wrapped.variables, strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-6, atol=0 if "seed" in a.path else 1e-7)


def test_without_gamma_and_during_warm_up_it_is_the_plain_objective(make_classifier, batch):
    x, y = batch
    results = {}
    start = weights(make_classifier())
    for name, objective in {
        "plain": "madry",
        "off": awp("madry", gamma=0.0),
        "warming": awp("madry", gamma=0.2, warmup=2),
        "on": awp("madry", gamma=0.2, warmup=1),
    }.items():
        classifier = make_classifier()
        classifier.set_weights(start)
        make_trainer(classifier, objective, **EAGER).fit(x, y, batch_size=10, epochs=2, shuffle=False, verbose=0)
        results[name] = weights(classifier)
    assert_equal(results["off"], results["plain"])
    assert difference(results["warming"], results["plain"]) < 1e-6
    assert difference(results["on"], results["plain"]) > 1e-3


@pytest.mark.parametrize("name", [name for name in objectives.names() if name != "awp"])
def test_every_objective_can_be_wrapped(name, make_classifier, batch):
    x, y = batch
    head = "cosine" if "cosine" in objectives.get(name).needs else "dense"
    plain, wrapped = twins(make_classifier, head=head)
    make_trainer(plain, name, steps=2, run_eagerly=True).train_on_batch(x, y)
    trainer = make_trainer(wrapped, awp(name, gamma=0.2), steps=2, run_eagerly=True)
    logs = trainer.train_on_batch(x, y, return_dict=True)
    assert set(objectives.get(name).outer) <= set(logs)
    assert difference(weights(plain), weights(wrapped)) > 1e-5
    assert np.isfinite(logs["loss"])


def test_a_learned_multiplier_sees_the_perturbed_weights(make_classifier, batch):
    x, y = batch
    objective = awp(objectives.dra(clean_weight=0.5, bound=0.2, rate=0.3), gamma=0.1)
    trainer = make_trainer(make_classifier(), objective, **EAGER)
    log = trainer.train_on_batch(x, y, return_dict=True)
    expected = 0.5 + 0.3 * (float(log["clean_cross_entropy"]) - 0.2)
    np.testing.assert_allclose(float(trainer._multipliers["clean_cross_entropy"]), expected, rtol=1e-4)


def test_frozen_kernels_are_not_perturbed_and_the_loss_rises(make_classifier, batch):
    x, y = batch
    classifier = make_classifier()
    classifier.layers[1].trainable = False
    losses = []
    for gamma in (0.0, 0.3):
        trainer = make_trainer(classifier, awp("standard", gamma=gamma), keras.optimizers.SGD(0.0), **EAGER)
        losses.append(trainer.fit(x, y, batch_size=20, verbose=0).history["loss"][0])
    assert losses[1] > losses[0] + 1e-2


def test_configs_of_wrapped_objectives_come_back():
    for objective in ("trades", {"name": "trades", "beta": 3.0}, objectives.trades(beta=3.0)):
        made = awp(objective, gamma=0.01, warmup=4)
        again = objectives.get(made.get_config())
        assert again.get_config() == made.get_config()
        assert again.outer["kl_divergence"].weight == (6.0 if objective == "trades" else 3.0)
        assert float(again.weight_perturbation(3.9)) == 0.0
        assert float(again.weight_perturbation(4.0)) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: awp(gamma=-0.1), "`gamma`: expected a number of at least 0. Received: -0.1"),
        (lambda: awp(gamma=float("nan")), "`gamma`"),
        (lambda: awp(warmup=-1), "`warmup`"),
        (lambda: awp("tades"), "Unknown objective: .*Did you mean 'trades'"),
        (lambda: awp(awp("trades")), "Expected an objective without weight perturbation"),
        (lambda: tfrobust.Objective(None, {"a": abs}, weight_perturbation=-1), "`weight_perturbation`"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()


# Weight averaging


class Recorder(keras.callbacks.Callback):
    """Keeps the classifier's trainable weights after every batch and what is in the model at an epoch's end."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append([v.numpy() for v in self.model.trainable_variables])

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append([v.numpy() for v in self.model.trainable_variables])


def sgd(momentum=0.8):
    return keras.optimizers.SGD(0.2, momentum=0.9, use_ema=True, ema_momentum=momentum)


def test_validation_and_callbacks_inside_see_the_averages_and_training_does_not(make_classifier, batch):
    x, y = batch
    classifier = make_classifier()
    inside, outside = Recorder(), Recorder()
    trainer = make_trainer(classifier, "standard", sgd(), **EAGER)
    callbacks = [tfrobust.callbacks.AveragedWeights(inside), outside]
    history = trainer.fit(
        x, y, batch_size=5, epochs=3, validation_data=(x, y), callbacks=callbacks, shuffle=False, verbose=0
    ).history
    average = outside.steps[0]
    for step, after in enumerate(outside.steps, 1):
        average = [0.8 * a + 0.2 * w for a, w in zip(average, after, strict=True)]
        if step % 4 == 0:
            for received, expected in zip(inside.epochs[step // 4 - 1], average, strict=True):
                np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-7)
            assert_equal(outside.epochs[step // 4 - 1], after)
    assert difference(inside.epochs[-1], outside.epochs[-1]) > 1e-3
    assert_equal([v.numpy() for v in classifier.trainable_variables], inside.epochs[-1])  # Keras leaves them there
    last = trainer.evaluate(x, y, verbose=0, return_dict=True)
    assert last["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)


def test_training_does_not_depend_on_how_often_averages_were_looked_at(make_classifier, batch):
    """Bit for bit: an exchange by sums would round."""
    x, y = batch
    results = []
    for classifier, callbacks, validation in zip(
        twins(make_classifier, batch_norm=True),
        ([], [tfrobust.callbacks.AveragedWeights()]),
        (None, (x, y)),
        strict=True,
    ):
        trainer = make_trainer(classifier, "standard", sgd(), **EAGER)
        recorder = Recorder()
        trainer.fit(
            x,
            y,
            batch_size=5,
            epochs=3,
            validation_data=validation,
            callbacks=[*callbacks, recorder],
            shuffle=False,
            verbose=0,
        )
        results.append([*recorder.steps[-1], *weights(classifier)])
    assert_equal(*results)


def test_averages_are_found_behind_a_loss_scale(make_classifier, batch):
    x, y = batch
    inside = Recorder()
    trainer = make_trainer(make_classifier(), "standard", keras.optimizers.LossScaleOptimizer(sgd()), **EAGER)
    trainer.fit(x, y, callbacks=[tfrobust.callbacks.AveragedWeights(inside)], validation_data=(x, y), verbose=0)
    assert_equal([v.numpy() for v in trainer.classifier.trainable_variables], inside.epochs[-1])


def test_an_optimizer_without_averages_is_refused(make_classifier, batch):
    x, y = batch
    with pytest.raises(ValueError, match="Expected an optimizer with use_ema=True"):
        make_trainer(make_classifier()).fit(x, y, callbacks=[tfrobust.callbacks.AveragedWeights()], verbose=0)


# Precision and execution


def test_several_steps_an_execution_are_the_same_steps(make_classifier, batch):
    """Schedules by the epoch, random starts, logs: five steps an epoch, two at a time."""
    x, y = batch
    ramp = keras.optimizers.schedules.PolynomialDecay(0.0, decay_steps=2, end_learning_rate=6.0)
    found = []
    for classifier, several in zip(twins(make_classifier, batch_norm=True, dropout=0.2), (1, 2), strict=True):
        trainer = make_trainer(
            classifier, awp(objectives.trades(ramp), gamma=0.1, warmup=1), steps_per_execution=several
        )
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
        history = trainer.fit(data, validation_data=data, epochs=2, verbose=0).history
        assert int(trainer.optimizer.iterations) == 10
        assert float(trainer._epoch) == pytest.approx(2.0)
        found.append((weights(classifier), history))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert found[0][1].keys() == found[1][1].keys()
    for name, values in found[0][1].items():
        np.testing.assert_allclose(values, found[1][1][name], rtol=1e-5, err_msg=name)


def test_weights_are_perturbed_under_mixed_precision(make_classifier, batch):
    x, y = batch
    keras.config.set_dtype_policy("mixed_float16")
    classifier = make_classifier(batch_norm=True)
    before = [v.numpy() for v in classifier.trainable_variables]
    trainer = make_trainer(classifier, awp("trades", gamma=0.1), keras.optimizers.SGD(0.0), **EAGER)
    history = trainer.fit(x, y, batch_size=10, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert_equal([v.numpy() for v in classifier.trainable_variables], before)
    assert all(v.dtype == "float32" for v in classifier.trainable_variables)
