"""Straight-through gradients: closed forms, bits of the values, and where a part of a classifier is found."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfrobust import attacks
from tfrobust.attacks.gradients import Estimated, Exact, Expected
from tfrobust.utils.random import Noise

RNG = np.random.default_rng(5)
X = RNG.uniform(0, 1, (6, 3, 3, 1)).astype("float32")
W = RNG.normal(size=(9, 4)).astype("float32")
NOISE = Noise(1)
OWN_CALL = keras.Operation.__call__


def round8(z):
    return ops.round(z * 7) / 7


def halved(z):
    return 0.5 * z


def classifier(*layers):
    """A Keras classifier with logits = layers(x) W."""
    x = inputs = keras.Input((3, 3, 1))
    for layer in layers:
        x = layer(x)
    dense = keras.layers.Dense(4, use_bias=False, name="dense")
    model = keras.Model(inputs, {"logits": dense(keras.layers.Flatten(name="flatten")(x))})
    dense.set_weights([W])
    return model


def rounding(name="round"):
    return keras.layers.Lambda(round8, name=name)


def first_logit(classify):
    return lambda z: classify(z)["logits"][:, 0]


def gradient_of(oracle, classify):
    return np.asarray(oracle(first_logit(classify), tf.constant(X), NOISE)[2])


SLOPE = np.broadcast_to(W[:, 0].reshape(1, 3, 3, 1), X.shape)


def test_the_gradient_of_a_linear_classifier_behind_rounding_is_its_weight():
    model = classifier(rounding())
    oracle = attacks.straight_through("round")
    value, observed, gradient = oracle(first_logit(model), tf.constant(X), NOISE)
    np.testing.assert_allclose(gradient, SLOPE, rtol=1e-5)
    np.testing.assert_array_equal(value, model(X)["logits"][:, 0])
    assert observed is None and not gradient_of(Exact(), model).any()
    values, pull = oracle.linear(lambda z: model(z)["logits"], tf.constant(X), NOISE)
    np.testing.assert_array_equal(values, model(X)["logits"])
    np.testing.assert_allclose(pull(tf.constant([[1.0, 0, 0, 0]] * 6)), SLOPE, rtol=1e-5)
    assert (oracle.forwards, oracle.backwards, oracle.linear_cost(3)) == (1, 1, (1, 3))


def test_a_stand_in_gives_its_gradient():
    assert gradient_of(attacks.straight_through("round", halved), classifier(rounding())) == pytest.approx(SLOPE / 2)
    smooth = attacks.straight_through("round", backward=lambda z: z**2 / 2)
    np.testing.assert_allclose(gradient_of(smooth, classifier(rounding())), X * SLOPE, rtol=1e-5)


SPECIAL = np.array([[np.inf, -np.inf, np.nan, -0.0, 0.0, 65504, 6e-8]], "float32")


@pytest.mark.parametrize("options", [None, {}, {"jit_compile": True}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_values_are_kept_to_the_bit(options, dtype):
    """An infinite value, NaN and the sign of a zero too, and whatever the stand-in is there."""
    values = SPECIAL.astype(dtype)
    fixed = attacks.replace_gradient(lambda z: tf.constant(values), backward=lambda z: 3 * z)

    def run(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            result = fixed(z)
        return result, tape.gradient(result, z)

    for x in (np.ones_like(SPECIAL), SPECIAL):
        result, gradient = (tf.function(run, **options) if options is not None else run)(tf.constant(x))
        assert np.asarray(result).tobytes() == values.tobytes() and result.dtype == dtype
        np.testing.assert_array_equal(gradient, np.full_like(SPECIAL, 3))


def test_it_holds_in_loops_and_inside_itself():
    rounded = attacks.replace_gradient(attacks.replace_gradient(round8, halved), lambda z: 2 * z)

    @tf.function
    def run(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            result = tf.while_loop(lambda k, z: k < 3, lambda k, z: (k + 1, rounded(z)), (0, z))[1]
        return result, tape.gradient(result, z)

    result, gradient = run(tf.constant(X))
    np.testing.assert_allclose(result, round8(X), atol=1e-6)
    np.testing.assert_array_equal(gradient, np.full_like(X, 8))


def test_several_outputs_and_inputs():
    def split(a, b):
        return {"sum": ops.round(a + b), "difference": ops.round(a - b)}

    passed = attacks.replace_gradient(split, lambda a, b: {"sum": a + b, "difference": a - b})
    a, b = tf.constant(X), tf.constant(2 * X)
    with tf.GradientTape() as tape:
        tape.watch((a, b))
        result = passed(a, b)
        total = tf.reduce_sum(result["sum"] + 3 * result["difference"])
    np.testing.assert_array_equal(result["sum"], np.round(3 * X))
    assert [float(g[0, 0, 0, 0]) for g in tape.gradient(total, (a, b))] == [4, -2]


def nested():
    inputs = keras.Input((3, 3, 1))
    return classifier(keras.Sequential([inputs, keras.Sequential([inputs, rounding()])]))


class Rounds(keras.Model):
    """A model that is not functional."""

    def __init__(self):
        super().__init__()
        self.round, self.rest = rounding(), classifier()

    def call(self, z):
        return self.rest(self.round(z))


def used_twice():
    layer = rounding()
    return classifier(layer, layer)


def by_operation():
    inputs = keras.Input((3, 3, 1))
    x = keras.ops.round(inputs)
    return keras.Model(inputs, classifier()(x)), x._keras_history.operation.name


PLACES = {
    "name": lambda: (classifier(rounding()), "round"),
    "layer": lambda: (lambda model: (model, model.layers[1]))(classifier(rounding())),
    "function of a Lambda": lambda: (classifier(rounding()), round8),
    "function of an Activation": lambda: (classifier(keras.layers.Activation(round8)), round8),
    "nested": lambda: (nested(), "round"),
    "of two models": lambda: ((lambda a, b: lambda z: a(b(z)))(classifier(), keras.Sequential([rounding()])), "round"),
    "subclass": lambda: (Rounds(), "round"),
    "twice": lambda: (used_twice(), "round"),
    "operation": by_operation,
    "several": lambda: (classifier(rounding("a"), rounding("b")), ["a", "b"]),
    "whole model": lambda: (lambda inner: (classifier(inner), inner))(
        keras.Sequential([rounding(), rounding("again")])
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_part_is_found(place):
    model, part = PLACES[place]()
    before = np.asarray(model(X)["logits"]).tobytes()
    oracle = attacks.straight_through(part)
    np.testing.assert_allclose(gradient_of(oracle, model), SLOPE, rtol=1e-5)
    in_graph = tf.function(lambda z: oracle(first_logit(model), z, NOISE)[2])
    np.testing.assert_allclose(in_graph(X), SLOPE, rtol=1e-5)
    assert np.asarray(model(X)["logits"]).tobytes() == before
    assert not gradient_of(Exact(), model).any()  # the model is as it was
    assert keras.Operation.__call__ is OWN_CALL


def test_a_layer_with_weights_in_mixed_precision():
    class Threshold(keras.layers.Layer):
        def build(self, shape):
            self.mean = self.add_weight(shape=shape[-1:], initializer="zeros")

        def call(self, z):
            return ops.where(ops.abs(z - self.mean) < 2, self.mean, z)

    keras.config.set_dtype_policy("mixed_float16")
    model = classifier(Threshold(name="threshold"))
    gradient = gradient_of(attacks.straight_through("threshold"), model)
    np.testing.assert_allclose(gradient, SLOPE, rtol=2e-3)
    with tf.GradientTape() as tape:  # the layer's own gradient, for training, is as it was
        loss = tf.reduce_sum(model(X)["logits"])
    assert tape.gradient(loss, model.trainable_variables[0]) is not None


def test_parts_with_different_stand_ins():
    model = classifier(rounding("a"), rounding("b"))
    both = attacks.straight_through("a", halved, attacks.straight_through("b", lambda z: 3 * z))
    np.testing.assert_allclose(gradient_of(both, model), 1.5 * SLOPE, rtol=1e-5)
    first, second = attacks.straight_through("a", halved), attacks.straight_through("b", lambda z: 3 * z)
    attack = attacks.pgd().expecting(first).expecting(second)
    np.testing.assert_allclose(gradient_of(attack.gradients, model), 1.5 * SLOPE, rtol=1e-5)


def shifted(z, seed):
    return z + 0.1 * tf.random.stateless_normal(tf.shape(z), seed)


@pytest.mark.parametrize("order", ["expectation first", "straight-through first"])
def test_with_an_expectation_in_either_order(order):
    model, oracle = classifier(rounding()), attacks.straight_through("round")
    plain = attacks.pgd(eps=0.1)
    if order == "expectation first":
        attack = attacks.expectation(plain, shifted, 4).expecting(oracle)
    else:
        attack = attacks.expectation(plain.expecting(oracle), shifted, 4)
    np.testing.assert_allclose(gradient_of(attack.gradients, model), SLOPE, rtol=1e-5)
    loss = first_logit(model)
    np.testing.assert_array_equal(
        attack.gradients.value(loss, tf.constant(X), NOISE)[0],
        Expected(shifted, 4).value(loss, tf.constant(X), NOISE)[0],
    )
    assert attack.gradients.forwards == 4 and attack.cost(4) == attacks.expectation(plain, shifted, 4).cost(4)
    assert repr(attack.gradients) == (
        "StraightThrough(part=[round], backward=identity, gradients=Expected(transformation=shifted, samples=4))"
    )


LABELS = np.argmax(np.asarray(classifier(rounding())(X)["logits"]), axis=-1)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mim", "cw_linf", "apgd", "fab", "deepfool", "cw_l2", "boundary"])
def test_every_attack_by_gradients_follows_it(name):
    """It leaves the image, which it does not, or not by its gradient, without the oracle."""
    model = classifier(rounding())
    attack = attacks.get(name) if name in ("deepfool", "cw_l2") else attacks.get(name, eps=0.3)
    followed = attack.expecting(attacks.straight_through(round8))
    z = np.asarray(followed(model, X, LABELS))
    fooled = np.argmax(np.asarray(model(z)["logits"]), axis=-1) != LABELS
    assert fooled.mean() > 0.5 and (z[fooled] != X[fooled]).any(axis=(1, 2, 3)).all()
    assert repr(attack) == repr(followed) and followed.get_config() == attack.get_config()


def test_a_transfer_follows_it_on_its_sources():
    source = classifier(rounding())
    attack = attacks.transfer(source, attacks.fgsm(eps=0.1)).expecting(attacks.straight_through("round"))
    assert attack.gradients is attack.attack.gradients
    other = attacks.fgsm(eps=0.1)(classifier(), X, LABELS)
    moved = np.asarray(attack(classifier(), X, LABELS))
    assert np.abs(moved - X).max(axis=(1, 2, 3)).min() > 0.05 and moved.shape == other.shape


def test_an_attack_that_makes_queries_has_none():
    with pytest.raises(ValueError, match=r"follows gradients\. Received: one of queries alone"):
        attacks.square().expecting(attacks.straight_through("round"))
    queries = attacks.straight_through("round", gradients=Estimated(4))
    assert (queries.forwards, queries.backwards) == (9, 0)


def test_nothing_stays_after_an_error():
    model = classifier(rounding())

    def failing(z):
        model(z)
        raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        attacks.straight_through("round")(failing, tf.constant(X), NOISE)
    assert keras.Operation.__call__ is OWN_CALL
    assert not gradient_of(Exact(), model).any()


def test_another_thread_is_not_changed():
    """It takes the model's own gradient while the first thread is inside the oracle, and follows its own oracle."""
    model, inside, leave, found = classifier(rounding()), threading.Event(), threading.Event(), {}

    def waiting(z):
        inside.set()
        assert leave.wait(20)
        return first_logit(model)(z)

    def other():
        assert inside.wait(20)
        found["exact"] = gradient_of(Exact(), model)
        found["halved"] = gradient_of(attacks.straight_through("round", halved), model)
        leave.set()

    thread = threading.Thread(target=other)
    thread.start()
    gradient = attacks.straight_through("round")(waiting, tf.constant(X), NOISE)[2]
    thread.join()
    np.testing.assert_allclose(gradient, SLOPE, rtol=1e-5)
    np.testing.assert_allclose(found["halved"], SLOPE / 2, rtol=1e-5)
    assert not found["exact"].any() and keras.Operation.__call__ is OWN_CALL


POOL = keras.layers.AveragePooling2D(2, strides=1, name="pool")
WIDEN = keras.layers.ZeroPadding2D(((0, 1), (0, 1)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: attacks.straight_through([]), "Invalid value for `part`: expected a layer"),
        (lambda: attacks.straight_through(3), "Invalid value for `part`: expected a layer"),
        (lambda: attacks.straight_through("round", backward=3), "Invalid value for `backward`"),
        (lambda: attacks.straight_through("rond"), r"Unknown layer.*Received: 'rond'. Did you mean 'round'"),
        (lambda: attacks.straight_through(rounding()), r"Invalid part round: expected a layer of the classifier"),
        (lambda: attacks.straight_through(halved), r"Invalid part halved: .*replace_gradient.* round"),
        (
            lambda: attacks.straight_through("pool"),
            r"`backward`.*\(6, 2, 2, 1\).*Received: the identity.*\(6, 3, 3, 1\)",
        ),
        (lambda: attacks.straight_through("pool", halved), r"`backward`.*Received: halved.*\(6, 3, 3, 1\)"),
    ],
)
def test_refusals(make, text):
    with pytest.raises(ValueError, match=text):
        make()(first_logit(classifier(rounding(), POOL, WIDEN)), tf.constant(X), NOISE)


def test_values_that_are_not_floating_point_have_no_gradient():
    with pytest.raises(ValueError, match=r"expected floating-point numbers\. Received: <dtype: 'int32'>"):
        attacks.replace_gradient(lambda z: ops.cast(z, "int32"))(tf.constant(X))


def test_a_classifier_that_hides_its_layers_is_refused():
    model = classifier(rounding())
    hidden = tf.function(lambda z: model(z))
    hidden(tf.constant(X))
    with pytest.raises(ValueError, match=r"calls no layer\. Give the function that a `tf.function` wraps"):
        attacks.straight_through("round")(first_logit(hidden), tf.constant(X), NOISE)
