"""`expose`: the same classifier, sharing weights, with names for its insides."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tfrobust.layers import ClassActivationMap
from tfrobust.models import expose

X = np.random.default_rng(0).uniform(0, 1, (3, 8, 8, 3)).astype("float32")
NAMES = ["logits", "features", "feature_map", "cam"]


def convolutions(size=(8, 8, 3)):
    return keras.Sequential([keras.Input(size), layers.Conv2D(6, 3, activation="relu"), layers.BatchNormalization()])


def functional(*end, trunk=None):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu")(inputs) if trunk is None else trunk(inputs)
    for layer in end:
        x = layer(x)
    return keras.Model(inputs, x)


def pooled(*end):
    return functional(layers.GlobalAveragePooling2D(), *end)


def nested_whole():
    return functional(trunk=pooled(layers.Dense(5, activation="softmax")))


def nested_backbone(pooling=None):
    poolings = {"avg": [layers.GlobalAveragePooling2D()], "max": [layers.GlobalMaxPooling2D()], None: []}
    backbone = functional(layers.BatchNormalization(), layers.ReLU(), *poolings[pooling])
    inputs = keras.Input((8, 8, 3))
    x = backbone(inputs, training=False)
    x = x if pooling else layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(layers.Dropout(0.2)(x)))


def nested_in_list():
    inner_inputs = keras.Input((8, 8, 3))
    inner = keras.Model([inner_inputs], layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(inner_inputs)))
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(inner([inputs])))


POOLED = {
    "sequential": lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(6, 3), layers.GlobalAveragePooling2D(), layers.Dense(5, "softmax")]
    ),
    "functional": lambda: pooled(layers.Dense(5, activation="softmax")),
    "no bias": lambda: pooled(layers.Dense(5, activation="softmax", use_bias=False)),
    "dropout": lambda: pooled(layers.Dropout(0.5), layers.Dense(5, activation="softmax")),
    "keepdims": lambda: functional(
        layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten(), layers.Dense(5, activation="softmax")
    ),
    "reshape": lambda: functional(
        layers.GlobalAveragePooling2D(keepdims=True), layers.Reshape((6,)), layers.Dense(5, activation="softmax")
    ),
    "average pooling": lambda: functional(
        layers.AveragePooling2D(6), layers.Flatten(), layers.Dense(5, activation="softmax")
    ),
    "ops.mean": lambda: functional(lambda x: ops.mean(x, axis=(1, 2)), layers.Dense(5, activation="softmax")),
    "nested sequential trunk": lambda: functional(
        layers.GlobalAveragePooling2D(), layers.Dense(5, activation="softmax"), trunk=convolutions()
    ),
    "nested whole": nested_whole,
    "nested twice": lambda: functional(trunk=nested_whole()),
    "nested backbone": nested_backbone,
    "nested backbone that pools": lambda: nested_backbone("avg"),
    "nested in a list": nested_in_list,
    "sequential of a model": lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), pooled(layers.Dropout(0.1)), layers.Flatten(), layers.Dense(5), layers.Softmax()]
    ),
    "pooling that ends a sequential": lambda: functional(
        layers.Dense(5, activation="softmax"),
        trunk=keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(6, 3), layers.GlobalAveragePooling2D()]),
    ),
}
UNPOOLED = {
    "flatten": lambda: functional(layers.Flatten(), layers.Dense(5, activation="softmax")),
    "hidden dense": lambda: pooled(layers.Dense(7, activation="relu"), layers.Dense(5, activation="softmax")),
    "maximum": lambda: functional(layers.GlobalMaxPooling2D(), layers.Dense(5, activation="softmax")),
    "normalized": lambda: pooled(layers.BatchNormalization(epsilon=1e-7), layers.Dense(5, activation="softmax")),
    "nested, flat": lambda: functional(trunk=functional(layers.Flatten(), layers.Dense(5, activation="softmax"))),
    "nested backbone, maximum": lambda: nested_backbone("max"),
}
SOFTMAX = {
    "activation": lambda: pooled(layers.Dense(5), layers.Activation("softmax")),
    "layer": lambda: pooled(layers.Dense(5), layers.Softmax()),
    "ops": lambda: pooled(layers.Dense(5), ops.softmax),
    "activations": lambda: pooled(layers.Dense(5), keras.activations.softmax),
    "lambda": lambda: pooled(layers.Dense(5, activation=lambda z: ops.softmax(z))),
    "linear float32": lambda: pooled(layers.Dense(5, "softmax"), layers.Activation("linear", dtype="float32")),
    "float32 softmax": lambda: pooled(layers.Dense(5), layers.Activation("softmax", dtype="float32")),
    "outside a nested model": lambda: functional(layers.Softmax(), trunk=pooled(layers.Dense(5))),
}


def settle(model):
    """Other statistics in BatchNorm than the first ones, so that a lost layer shows; kernels that tell images apart."""
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.1 * rng.uniform(0, 1, w.shape) for w in model.get_weights()])
    return model


def assert_same(model, classifier, x=X, atol=1e-6):
    np.testing.assert_allclose(ops.softmax(classifier(x)["logits"]), model(x), atol=atol)


def assert_map_belongs_to_logits(classifier, x=X):
    outputs = classifier(x)
    np.testing.assert_allclose(ops.mean(outputs["feature_map"], axis=(1, 2)), outputs["features"], atol=1e-4)
    head = next(layer for layer in classifier.layers if isinstance(layer, ClassActivationMap))
    signed = ClassActivationMap(head.dense, form="signed")(outputs["features"], feature_map=outputs["feature_map"])
    bias = 0.0 if head.dense.bias is None else head.dense.bias
    np.testing.assert_allclose(ops.mean(signed["cam"], axis=(1, 2)) + bias, outputs["logits"], atol=1e-4)
    assert outputs["cam"].shape == signed["cam"].shape


@pytest.mark.parametrize("make", POOLED.values(), ids=POOLED)
def test_pooling_and_dense(make):
    model = settle(make())
    classifier = expose(model)
    assert list(classifier.output) == list(classifier(X)) == NAMES
    assert classifier.input_shape == model.input_shape and classifier.name == model.name
    assert_same(model, classifier)
    assert_map_belongs_to_logits(classifier)


@pytest.mark.parametrize("make", UNPOOLED.values(), ids=UNPOOLED)
def test_without_a_map(make):
    model = settle(make())
    classifier = expose(model)
    assert list(classifier(X)) == ["logits", "features"]
    assert_same(model, classifier)


@pytest.mark.parametrize("make", SOFTMAX.values(), ids=SOFTMAX)
def test_spellings_of_softmax(make):
    model = settle(make())
    classifier = expose(model)
    assert_same(model, classifier)
    assert np.abs(ops.sum(classifier(X)["logits"], axis=-1) - 1).max() > 1e-3


@pytest.mark.parametrize("end", [(layers.Dense(5),), (layers.Dense(5), layers.Activation("linear"))])
def test_logits_stay_logits(end):
    model = pooled(*end)
    np.testing.assert_allclose(expose(model)(X)["logits"], model(X), atol=1e-6)


@pytest.mark.parametrize("end", [("sigmoid", None), (None, layers.Activation("sigmoid")), (None, ops.sigmoid)])
def test_one_sigmoid_becomes_two_logits(end):
    activation, behind = end
    model = pooled(layers.Dense(1, activation=activation), *([behind] if behind else []))
    classifier = expose(model)
    logits = classifier(X)["logits"]
    np.testing.assert_array_equal(logits[:, 0], np.zeros(3))
    np.testing.assert_allclose(ops.softmax(logits)[:, 1:], model(X), atol=1e-6)
    assert classifier(X)["cam"].shape == (3, 6, 6, 2)


def test_one_unit_without_a_sigmoid():
    model = pooled(layers.Dense(1))
    np.testing.assert_allclose(expose(model)(X)["logits"], np.pad(model(X), [[0, 0], [1, 0]]), atol=1e-6)


APPLICATIONS = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "EfficientNetB0": {},
    "DenseNet121": {},
    "ResNet50": {},
    "VGG16": {},
}


FAST = ("MobileNet", "VGG16")  # one with a class activation map and one without


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in APPLICATIONS]
)
def test_applications(name):
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=3, **APPLICATIONS[name])
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    classifier = expose(model)
    assert_same(model, classifier, x, atol=1e-5)
    assert ("cam" in classifier.output) == (name != "VGG16")
    assert {id(v) for v in classifier.variables} == {id(v) for v in model.variables}


def test_application_as_a_nested_backbone():
    backbone = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, weights=None, pooling="avg")
    inputs = keras.Input((64, 64, 3))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(backbone(inputs, training=False)))
    classifier = expose(model)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype("float32")
    assert_same(model, classifier, x)
    assert_map_belongs_to_logits(classifier, x)
    assert classifier.output["cam"].shape == (None, 2, 2, 3)


@pytest.mark.parametrize("name", ["functional", "nested backbone that pools", "nested whole"])
def test_shares_weights_both_ways(name):
    model = POOLED[name]()
    classifier = expose(model)
    assert {id(v) for v in classifier.variables} == {id(v) for v in model.variables}
    assert [id(v) for v in classifier.trainable_variables] == [id(v) for v in model.trainable_variables]
    before = np.array(model(X))
    y = np.array([0, 1, 2])
    classifier.compile("sgd", {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    classifier.fit(X, {"logits": y}, verbose=0)
    assert np.abs(before - model(X)).max() > 1e-4
    assert_same(model, classifier)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, y, verbose=0)
    assert_same(model, classifier)


def test_frozen_backbone_stays_frozen():
    model = nested_backbone("avg")
    model.layers[1].trainable = False
    assert len(expose(model).trainable_variables) == 2


def test_batch_norm_moves_as_in_the_given_model():
    # The backbone was called with training=False. Keras (3.15) lets training=True of the outer call override that: the
    # classifier does as the model does, whichever way it is.
    model = settle(nested_backbone("avg"))
    classifier = expose(model)
    start, moved = model.get_weights(), []
    for network in (model, classifier):
        model.set_weights(start)
        network(X, training=True)
        moved.append(model.get_weights())
    for a, b in zip(*moved, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    model.trainable = False
    classifier(X, training=True)
    for a, b in zip(moved[1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "preprocess"),
    [*((name, False) for name in [*POOLED, "flatten"]), ("sequential", True), ("nested backbone that pools", True)],
)
def test_file_round_trip(name, preprocess, tmp_path):
    model = settle({**POOLED, **UNPOOLED}[name]())
    classifier = expose(model, preprocess=layers.Rescaling(2.0) if preprocess else None)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    expected, received = classifier(X), loaded(X)
    assert list(expected) == list(received) == list(loaded.output)
    for key in expected:
        np.testing.assert_array_equal(expected[key], received[key])
    assert expose(loaded) is loaded
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(X), model(X))


@pytest.mark.parametrize(
    "preprocess",
    [
        lambda: layers.Rescaling(255.0),
        lambda: layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3]),
        lambda: keras.Sequential([layers.Rescaling(2.0), layers.Rescaling(3.0)]),
    ],
)
def test_preprocess_stands_before_the_model(preprocess, tmp_path):
    model, layer = POOLED["functional"](), preprocess()
    classifier = expose(model, preprocess=layer, name="from_pixels")
    assert classifier.name == "from_pixels" and list(classifier.output) == NAMES
    np.testing.assert_allclose(ops.softmax(classifier(X)["logits"]), model(layer(X)), atol=1e-6)
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(loaded(X)["logits"], classifier(X)["logits"])


def test_preprocess_that_resizes():
    resize = keras.Sequential([keras.Input((4, 4, 3)), layers.UpSampling2D(2)])
    model = POOLED["functional"]()
    classifier = expose(model, preprocess=resize)
    assert classifier.input_shape == (None, 4, 4, 3)
    np.testing.assert_allclose(ops.softmax(classifier(X[:, :4, :4])["logits"]), model(resize(X[:, :4, :4])), atol=1e-6)


def test_exposed_is_returned_as_it_is():
    classifier = expose(POOLED["functional"]())
    assert expose(classifier) is classifier
    scaled = expose(classifier, preprocess=layers.Rescaling(0.5))
    np.testing.assert_allclose(scaled(X)["logits"], classifier(X / 2)["logits"], atol=1e-6)


@pytest.mark.parametrize("name", ["functional", "nested backbone that pools", "nested whole"])
def test_form_of_the_map(name):
    model = settle(POOLED[name]())
    clipped, signed = expose(model), expose(model, form="signed")
    np.testing.assert_array_equal(clipped(X)["cam"], expose(model, form="clipped")(X)["cam"])
    assert np.abs(np.array(clipped(X)["cam"]) - np.array(signed(X)["cam"])).max() > 1e-3
    head = next(layer for layer in signed.layers if isinstance(layer, ClassActivationMap))
    outputs = signed(X)
    expected = ops.mean(outputs["cam"], axis=(1, 2)) + head.dense.bias
    np.testing.assert_allclose(expected, outputs["logits"], atol=1e-5)


def test_form_of_a_classifier_that_has_a_map_already():
    model = POOLED["functional"]()
    clipped, signed = expose(model), expose(model, form="signed")
    assert expose(clipped, form="clipped") is clipped
    assert expose(signed, form="signed") is signed and expose(signed) is signed
    with pytest.raises(ValueError, match=r"already, in the form 'clipped'\. Expose the model that it was made of"):
        expose(clipped, form="signed")
    unpooled = expose(UNPOOLED["flatten"]())  # no map, no form
    assert expose(unpooled, form="signed") is unpooled


def test_form_survives_a_preprocess_and_a_file(tmp_path):
    classifier = expose(POOLED["functional"](), preprocess=layers.Rescaling(2.0), form="signed")
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(loaded(X)["cam"], classifier(X)["cam"])
    assert np.min(classifier(X)["cam"]) < 0
    assert expose(loaded, form="signed") is loaded


def test_unknown_form():
    with pytest.raises(ValueError, match=r"expected one of clipped, grad_cam, signed.*Did you mean 'signed'"):
        expose(POOLED["functional"](), form="sign")


def test_batch_size_is_free():
    model = keras.Sequential([layers.Conv2D(6, 3), layers.GlobalAveragePooling2D(), layers.Dense(5, "softmax")])
    model.build((2, 8, 8, 3))
    classifier = expose(model)
    assert classifier.input_shape == (None, 8, 8, 3)
    assert_same(model, classifier)


def test_images_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(inputs))
    model = keras.Model(inputs, layers.Dense(5, activation="softmax")(x))
    classifier = expose(model)
    assert classifier.input_shape == (None, None, None, 3)
    assert_same(model, classifier, X[:, :, :5])


@pytest.mark.parametrize("name", ["functional", "nested backbone that pools", "sequential of a model"])
def test_mixed_precision(name, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = settle(POOLED[name]())
    classifier = expose(model)
    outputs = classifier(X)
    assert list(outputs) == NAMES
    assert keras.backend.standardize_dtype(outputs["logits"].dtype) == "float32"
    assert_same(model, classifier, atol=0.02)
    classifier.save(tmp_path / "classifier.keras")
    keras.config.set_dtype_policy("float32")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(loaded(X)["logits"], outputs["logits"])
