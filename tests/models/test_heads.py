"""The logits of an exposed model come out of the user's own last layer, whatever it is and whatever befalls it."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfrobust
from tfrobust.layers import ClassActivationMap
from tfrobust.models import expose

X = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype("float32")
Y = np.array([0, 1, 2, 3])


@keras.saving.register_keras_serializable("tests")
class Temperature(layers.Dense):
    """Linear, but not by its kernel alone."""

    def call(self, x, training=None):
        return super().call(4.0 * x)


@keras.saving.register_keras_serializable("tests")
class Cosine(layers.Dense):
    """Not linear."""

    def call(self, x, training=None):
        return self.activation(5.0 * ops.matmul(ops.normalize(x, axis=-1), ops.normalize(self.kernel, axis=0)))


@keras.saving.register_keras_serializable("tests")
class Probabilities(layers.Dense):
    """A softmax that nobody sees."""

    def call(self, x, training=None):
        return ops.softmax(super().call(x))


@keras.saving.register_keras_serializable("tests")
class Scaled(layers.Dense):
    """Called with a further argument."""

    def call(self, x, scale=1.0):
        return self.activation(scale * (ops.matmul(x, self.kernel) + self.bias))


def network(*end, keepdims=False):
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D(keepdims=keepdims)(x)
    for layer in end:
        x = layer(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(1)  # kernels large enough that the classes differ, and biases
    model.set_weights([w + rng.normal(0, 1, w.shape) for w in model.get_weights()])
    return model


def assert_same(model, classifier, atol=1e-5):
    np.testing.assert_allclose(ops.softmax(classifier(X)["logits"]), model(X), atol=atol)


def assert_signed_map_averages_to_the_logits(classifier, atol=1e-4):
    outputs = classifier(X)
    head = tfrobust.classifiers.head_of(classifier).in_form("signed")
    cam = head(outputs["features"], feature_map=outputs["feature_map"])["cam"]
    offsets = np.array(outputs["logits"]) - np.mean(cam, axis=(1, 2))  # the bias: the same for every image
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[:1], offsets.shape), atol=atol)


def quantized(mode):
    def change(model):
        model.quantize(mode)

    return change


def adapted(model):
    dense = next(layer for layer in model._flatten_layers() if isinstance(layer, layers.Dense))
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(np.random.default_rng(2).normal(0, 1, dense.lora_kernel_b.shape))


CHANGES = {"int8": quantized("int8"), "int4": quantized("int4"), "float8": quantized("float8"), "lora": adapted}


@pytest.mark.filterwarnings("ignore:.*quantize.*")  # Keras names the layers that it cannot
@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_befalls_the_layer_befalls_the_logits(change, when, activation, tmp_path):
    model = network(layers.Dense(5, activation=activation), *([] if activation else [layers.Softmax()]))
    plain = np.array(model(X))
    if when == "before":
        CHANGES[change](model)
    classifier = expose(model)
    if when == "after":
        CHANGES[change](classifier)
    assert change == "float8" or np.abs(plain - model(X)).max() > 1e-6  # it has befallen the layer
    assert_same(model, classifier)
    assert_signed_map_averages_to_the_logits(classifier, {"int8": 0.1, "float8": 0.5}.get(change, 1e-3))  # features too
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(loaded(X)["logits"], classifier(X)["logits"], rtol=1e-5, atol=1e-5)


LAYERS = {
    "temperature": (lambda: Temperature(5, activation="softmax"), True),
    "temperature, softmax behind": (lambda: Temperature(5), True),
    "cosine": (lambda: Cosine(5, activation="softmax"), False),
    "cosine, softmax behind": (lambda: Cosine(5), False),
    "einsum": (lambda: layers.EinsumDense("bd,dc->bc", 5, bias_axes="c", activation="softmax"), True),
    "activation layer": (lambda: layers.Dense(5, activation=layers.Softmax()), True),
    "constraint": (lambda: layers.Dense(5, activation="softmax", kernel_constraint="max_norm"), True),
}


@pytest.mark.parametrize(("make", "linear"), LAYERS.values(), ids=LAYERS)
def test_layers_with_a_call_of_their_own(make, linear, tmp_path):
    layer = make()
    behind = layer.activation is keras.activations.linear
    model = network(layer, *([layers.Softmax()] if behind else []))
    classifier = expose(model)
    assert_same(model, classifier)
    assert ("cam" in classifier.output) == linear
    if linear:
        assert_signed_map_averages_to_the_logits(classifier)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(loaded(X)["logits"], classifier(X)["logits"])
    assert layer.activation is not keras.activations.linear or behind  # the layer is as it was


def test_objective_that_reads_a_map_of_no_meaning_is_told_why():
    classifier = expose(network(Cosine(5, activation="softmax")))
    with pytest.raises(ValueError, match=r"last layer, 'cosine.*' \(Cosine\), is not linear"):
        tfrobust.AdversarialTrainer(classifier, "infofeature", tfrobust.attacks.pgd(eps=0.1, steps=1))


def test_prototypes_are_what_the_layer_multiplies_by():
    prototypes = tfrobust.interpret.class_prototypes
    plain = network(layers.Dense(5))
    expected = prototypes(expose(plain))
    np.testing.assert_array_equal(expected, plain.layers[-1].kernel.numpy().T)
    warm = network(Temperature(5))
    np.testing.assert_allclose(prototypes(expose(warm)), 4 * warm.layers[-1].kernel.numpy().T, rtol=1e-5)
    plain.quantize("int8", filters="dense.*")
    np.testing.assert_allclose(prototypes(expose(plain)), expected, atol=0.05)
    with pytest.raises(ValueError, match="Class prototypes"):
        prototypes(expose(network(Cosine(5))))


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("objective", ["standard", "trades"])
def test_activity_regularizer_counts_once_and_on_what_keras_applies_it_to(activation, objective):
    dense = layers.Dense(4, activation=activation, activity_regularizer="l2")
    model = network(dense, *([] if activation else [layers.Softmax()]))
    model.compile("sgd", "sparse_categorical_crossentropy")
    expected = model.evaluate(X, Y, verbose=0)
    attack = None if objective == "standard" else tfrobust.attacks.pgd(eps=1e-7, steps=1)
    trainer = tfrobust.AdversarialTrainer(expose(model), objective, attack)
    trainer.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    np.testing.assert_allclose(trainer.fit(X, Y, verbose=0).history["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(trainer.evaluate(X, Y, verbose=0, return_dict=True)["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_layer_that_the_model_calls_twice(activation, tmp_path):
    dense = layers.Dense(5, activation=activation)
    model = network(layers.Dense(5), dense, layers.ReLU(), dense, *([] if activation else [layers.Softmax()]))
    classifier = expose(model)
    assert_same(model, classifier)
    assert {id(v) for v in classifier.variables} == {id(v) for v in model.variables}
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(loaded(X)["logits"], classifier(X)["logits"])


def test_half_precision_computes_logits_in_the_dtype_of_the_weights():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = network(layers.Dense(5, activation="softmax"))
    classifier = expose(model)
    outputs = classifier(X)
    dense = model.layers[-1]
    expected = ops.matmul(ops.cast(outputs["features"], "float32"), dense.kernel) + dense.bias
    np.testing.assert_array_equal(outputs["logits"], expected)
    assert dense.dtype_policy.name == "mixed_bfloat16"


# The probe with which `expose` ends


class Doubled(keras.Model):
    def call(self, inputs, training=None):
        return ops.softmax(3.0 * super().call(inputs, training=training))


def doubled():
    plain = network(layers.Dense(5))
    return Doubled(plain.inputs[0], plain.outputs[0])


def outside():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.Softmax()(doubled()(inputs)))


REFUSED = {
    "own call of a model": (doubled, r"another output on random images.*own `call`"),
    "own call of a nested model": (outside, r"another output on random images.*own `call`"),
    "further arguments": (lambda: network(lambda x: Scaled(5)(x, scale=3.0)), "called with further arguments"),
    "hidden softmax": (lambda: network(Probabilities(5)), "a last layer that returns probabilities"),
    "softmax by position": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 5, activation="softmax"), layers.Flatten()]),
        "another output on random images",
    ),
    "activity regularizer behind": (
        lambda: network(layers.Dense(5), layers.Activation("softmax", activity_regularizer="l2")),
        "with an activity regularizer",
    ),
}


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_refuses_what_would_come_out_different(make, words):
    with pytest.raises(ValueError, match=words):
        expose(make())


def test_probe_leaves_statistics_and_seeds_as_they_were():
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(inputs, training=True)
    x = layers.Dropout(0.5)(layers.Flatten()(x), training=True)
    model = keras.Model(inputs, layers.Dense(5, activation="softmax")(x))
    before = [np.array(v) for v in model.variables]
    classifier = expose(model)
    assert len(before) > 4
    for a, b in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(classifier.output) == ["logits", "features"]


def test_random_model_is_taken():
    inputs = keras.Input((8, 8, 3))
    x = layers.Lambda(lambda x: x + keras.random.normal(ops.shape(x)))(inputs)  # by no seed of the model
    model = keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.Flatten()(x)))
    assert list(expose(model).output) == ["logits", "features"]


# Convolutions in place of the dense layer


def flat(*end):
    x = inputs = keras.Input((8, 8, 3))
    for layer in end:
        x = layer(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    return model


def nested():
    trunk = flat(layers.Conv2D(6, 3, activation="relu"), layers.GlobalAveragePooling2D(keepdims=True))
    inputs = keras.Input((8, 8, 3))
    inner = keras.Model(inputs, layers.Conv2D(5, 1)(layers.Dropout(0.1)(trunk(inputs))))
    outer = keras.Input((8, 8, 3))
    return keras.Model(outer, layers.Softmax()(layers.Flatten()(inner(outer))))


ALL = ["logits", "features", "feature_map", "cam"]
CONVOLUTIONAL = {
    "MobileNet": (
        lambda: network(
            layers.Dropout(0.1), layers.Conv2D(5, 1), layers.Reshape((5,)), layers.Softmax(), keepdims=True
        ),
        ALL,
    ),
    "MobileNetV3": (
        lambda: network(
            layers.Conv2D(7, 1),
            layers.Activation("hard_silu"),
            layers.Dropout(0.1),
            layers.Conv2D(5, 1),
            layers.Flatten(),
            layers.Activation("softmax"),
            keepdims=True,
        ),
        ALL[:2],
    ),
    "activation inside": (
        lambda: network(layers.Conv2D(5, 1, activation="softmax"), layers.Flatten(), keepdims=True),
        ALL,
    ),
    "no bias": (
        lambda: network(layers.Conv2D(5, 1, use_bias=False, activation="softmax"), layers.Flatten(), keepdims=True),
        ALL,
    ),
    "pooling in place of a flatten": (
        lambda: network(layers.Conv2D(5, 1), layers.GlobalAveragePooling2D(), layers.Softmax(), keepdims=True),
        ALL,
    ),
    "dense on a map of one position": (
        lambda: network(layers.Dense(5, activation="softmax"), layers.Flatten(), keepdims=True),
        ALL,
    ),
    "convolved, then averaged": (
        lambda: flat(
            layers.Conv2D(6, 3, activation="relu"),
            layers.Conv2D(5, 1),
            layers.GlobalAveragePooling2D(),
            layers.Softmax(),
        ),
        ALL,
    ),
    "dense, then averaged": (
        lambda: flat(
            layers.Conv2D(6, 3, activation="relu"), layers.Dense(5), layers.GlobalAveragePooling2D(), layers.Softmax()
        ),
        ALL,
    ),
    "grouped": (
        lambda: flat(
            layers.Conv2D(6, 3, activation="relu"),
            layers.Conv2D(4, 1, groups=2),
            layers.GlobalAveragePooling2D(keepdims=True),
            layers.Flatten(),
            layers.Softmax(),
        ),
        ALL,
    ),
    "SqueezeNet": (
        lambda: flat(
            layers.Conv2D(6, 3, activation="relu"),
            layers.Conv2D(5, 1),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Softmax(),
        ),
        ALL[:1],
    ),
    "wide convolution, then averaged": (
        lambda: flat(layers.Conv2D(5, 3), layers.GlobalAveragePooling2D(), layers.Softmax()),
        ALL[:1],
    ),
    "convolution of the whole map": (
        lambda: flat(
            layers.Conv2D(6, 3, activation="relu"), layers.Conv2D(5, 6), layers.Reshape((5,)), layers.Softmax()
        ),
        ALL[:2],
    ),
    "a class for each position": (
        lambda: flat(layers.Conv2D(2, 3, strides=3), layers.Flatten(), layers.Softmax()),
        ALL[:2],
    ),
    "nested": (nested, ALL),
}


@pytest.mark.parametrize(("make", "names"), CONVOLUTIONAL.values(), ids=CONVOLUTIONAL)
def test_convolution_as_the_last_layer(make, names, tmp_path):
    model = make()
    classifier = expose(model)
    assert list(classifier.output) == names
    assert_same(model, classifier)
    assert {id(v) for v in classifier.variables} == {id(v) for v in model.variables}
    if "cam" in names:
        outputs = classifier(X)
        np.testing.assert_allclose(ops.mean(outputs["feature_map"], axis=(1, 2)), outputs["features"], atol=1e-4)
        assert_signed_map_averages_to_the_logits(classifier)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    for name, expected in classifier(X).items():
        np.testing.assert_array_equal(loaded(X)[name], expected)
    head = tfrobust.classifiers.head_of(classifier)
    assert head.trainable_variables and isinstance(head, ClassActivationMap | layers.Conv2D)


def test_one_sigmoid_of_a_convolution_becomes_two_logits():
    model = network(layers.Conv2D(1, 1, activation="sigmoid"), layers.Flatten(), keepdims=True)
    classifier = expose(model)
    np.testing.assert_allclose(ops.softmax(classifier(X)["logits"])[:, 1:], model(X), atol=1e-6)
    assert classifier(X)["cam"].shape == (4, 6, 6, 2)


def test_images_of_any_size_with_a_convolution():
    inputs = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D(keepdims=True)(layers.Conv2D(6, 3)(inputs))
    model = keras.Model(inputs, layers.Softmax()(layers.Flatten()(layers.Conv2D(5, 1)(x))))
    classifier = expose(model)
    assert list(classifier.output) == ALL
    assert_same(model, classifier)


def test_convolution_is_attacked_trained_and_explained():
    model = network(layers.Conv2D(4, 1), layers.Flatten(), layers.Softmax(), keepdims=True)
    classifier = expose(model)
    before = model.layers[-3].get_weights()
    trainer = tfrobust.AdversarialTrainer(classifier, "infofeature", tfrobust.attacks.pgd(eps=0.1, steps=1))
    trainer.compile("sgd")
    trainer.fit(X, Y, verbose=0)
    assert np.abs(before[0] - model.layers[-3].get_weights()[0]).max() > 0
    assert_same(model, classifier)
    assert tfrobust.interpret.class_activation_maps(classifier, X, form="signed").shape == (4, 8, 8)
    assert tfrobust.interpret.class_prototypes(classifier).shape == (4, 6)
