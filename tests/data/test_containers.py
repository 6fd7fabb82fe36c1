"""What `fit` checks of its data, whatever holds them, however steps are compiled, and through whichever door."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust import attacks

pytestmark = [
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),  # Keras', of its own default
]


CONTAINERS = ("arrays", "tf.data", "PyDataset", "generator", "torch")
COMPILED = {"graph": {}, "xla": {"jit_compile": True}, "eager": {"run_eagerly": True}}


def linear(*first):
    layers = [keras.Input((6, 6, 1)), *first, keras.layers.Flatten(), keras.layers.Dense(4)]
    return tfrobust.expose(keras.Sequential(layers))


def made(classifier=None, objective="standard", attack=None, optimizer=None, **options):
    trainer = tfrobust.AdversarialTrainer(classifier or linear(), objective, attack or attacks.pgd(eps=0.1, steps=1))
    trainer.compile(optimizer or keras.optimizers.SGD(0.1), **options)
    return trainer


@pytest.fixture
def ten(batch):
    return batch[0][:10], np.arange(10, dtype="int32") % 4


BAD = {
    "0..255": (lambda x, y: (255 * x, y), r"Invalid pixels: expected values in \[0, 1\]"),
    "NaN": (lambda x, y: (np.where(x > 0.8, np.float32(np.nan), x), y), "Invalid pixels"),
    "labels from 1": (lambda x, y: (x, y + 1), "expected integers from 0 to 3. Received: least 1, greatest 4"),
    "negative labels": (lambda x, y: (x, y - 1), "expected integers from 0 to 3. Received: least -1, greatest 2"),
    "soft labels": (lambda x, y: (x, np.full((10, 4), 0.25, "float32")), "soft labels are not supported"),
    "another size": (lambda x, y: (x[:, :5], y), r"Invalid shape of x: expected \(batch, 6, 6, 1\)"),
}


def _as_validation(arguments):
    return arguments if len(arguments) > 1 else arguments[0]


FIRST = ("0..255",)
OTHERS = tuple(kind for kind in BAD if kind not in FIRST)


@pytest.mark.parametrize("kinds", [FIRST, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["first", "others"])
@pytest.mark.parametrize("compiled", ["graph", pytest.param("xla", marks=pytest.mark.slow), "eager"])
def test_a_bad_batch_is_refused_in_the_same_sentence_everywhere(compiled, kinds, containers, ten):
    trainer = made(optimizer=keras.optimizers.SGD(0.0), **COMPILED[compiled])
    for kind in kinds:
        spoil, text = BAD[kind]
        bad = spoil(*ten)
        doors = {
            ("train_on_batch", ""): lambda bad=bad: trainer.train_on_batch(*bad),
            ("test_on_batch", ""): lambda bad=bad: trainer.test_on_batch(*bad),
            ("train_step", ""): lambda bad=bad: trainer.train_step(tuple(map(tf.convert_to_tensor, bad))),
        }
        for name, given in containers.items():
            doors |= {
                ("fit", name): lambda bad=bad, given=given: trainer.fit(*given(*bad), verbose=0),
                ("evaluate", name): lambda bad=bad, given=given: trainer.evaluate(*given(*bad), verbose=0),
                ("validation", name): lambda bad=bad, given=given: trainer.fit(
                    *ten, verbose=0, validation_data=_as_validation(given(*bad))
                ),
            }
        sentences = set()
        for door, read in doors.items():
            with pytest.raises(ValueError, match=text) as caught:
                read()
            assert "\n" not in str(caught.value), (kind, door)
            sentences.add(str(caught.value).split(" Received")[0] if kind == "another size" else str(caught.value))
        assert len(sentences) == 1, (kind, sentences)


@pytest.mark.parametrize("compiled", ["graph", pytest.param("xla", marks=pytest.mark.slow), "eager"])
def test_good_data_of_every_container_give_the_same_weights(compiled, containers, ten):
    x, y = ten
    start, ends = linear().get_weights(), []
    for container in CONTAINERS:
        trainer = made(objective="madry", **COMPILED[compiled])
        trainer.classifier.set_weights(start)
        given = containers[container](x, y)
        options = {"batch_size": 10, "shuffle": False} if container == "arrays" else {}
        trainer.fit(*given, validation_data=(x, y), verbose=0, **options)
        ends.append(np.concatenate([part.ravel() for part in trainer.get_weights()]))
    for end in ends:
        np.testing.assert_allclose(end, ends[0], atol=1e-6)
    assert np.abs(ends[0] - np.concatenate([part.ravel() for part in start])).max() > 1e-3


def test_only_the_step_behind_the_checks_is_compiled_by_xla_and_it_is_traced_once(ten):
    x, y = ten
    traced = []

    def counted(views):
        traced.append(1)
        return tfrobust.losses.cross_entropy(views.clean["logits"], views.y)

    trainer = made(objective=tfrobust.Objective(None, {"counted": counted}), jit_compile=True)
    assert trainer.jit_compile is True
    history = trainer.fit(x, y, epochs=3, verbose=0, batch_size=5, shuffle=False).history
    assert trainer.jit_compile is True  # as `predict` reads it
    assert len(traced) == 1 and history["counted"][-1] < history["counted"][0]
    assert trainer.predict(x, verbose=0).shape == (10, 4)


def test_xla_and_eager_together_are_said_by_keras():
    with pytest.warns(UserWarning, match="If `run_eagerly` is True, then `jit_compile`"):
        trainer = made(jit_compile=True, run_eagerly=True)
    assert trainer.jit_compile is False


# Shapes that are not static


def from_numpy(x, y):
    """A dataset without any static shape."""
    types = [tf.float32, tf.as_dtype(y.dtype)]
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(10)
    return data.map(lambda *parts: tf.numpy_function(lambda *arrays: arrays, parts, types))


def from_generator(x, y):
    return tf.data.Dataset.from_generator(lambda: [(x, y)], (tf.float32, tf.as_dtype(y.dtype)))


@pytest.mark.parametrize("options", [{}, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [from_numpy, pytest.param(from_generator, marks=pytest.mark.slow)])
def test_data_without_static_shapes_train_as_those_with(make, options, ten):
    x, y = ten
    start, ends = linear().get_weights(), []
    for data in (tf.data.Dataset.from_tensor_slices((x, y)).batch(10), make(x, y), make(x, y[:, None])):
        trainer = made(objective="madry", **options)
        trainer.classifier.set_weights(start)
        history = trainer.fit(data, validation_data=data, epochs=2, verbose=0).history
        ends.append([*trainer.get_weights(), history["val_loss"]])
    for end in ends[1:]:
        for left, right in zip(end, ends[0], strict=True):
            np.testing.assert_allclose(left, right, atol=1e-6)


def test_without_static_shapes_the_checks_are_made_when_a_batch_arrives(ten):
    x, y = ten
    trainer = made()
    for kind, (spoil, text) in BAD.items():
        if kind != "soft labels":
            with pytest.raises(ValueError, match=text):
                trainer.fit(from_numpy(*spoil(x, y)), verbose=0)
    with pytest.raises(ValueError, match=r"\(batch, 6, 6, 1\). Received: \[10 36\]"):
        trainer.fit(from_numpy(x.reshape(10, 36), y), verbose=0)
    with pytest.raises(ValueError, match=r"give one-hot labels theirs: `y = tf.ensure_shape\(y, \(None, 4\)\)`"):
        trainer.fit(from_numpy(x, np.eye(4, dtype="float32")[y]), verbose=0)
    one_hot = from_numpy(x, np.eye(4, dtype="float32")[y]).map(lambda x, y: (x, tf.ensure_shape(y, (None, 4))))
    trainer.fit(one_hot, verbose=0)


# Dicts, several inputs


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True}])
def test_a_dict_of_one_image_is_that_image(options, containers, ten):
    x, y = ten
    start, ends = linear().get_weights(), []
    named = tf.data.Dataset.from_tensor_slices(({"image": x}, {"label": y})).batch(10)
    for given in ((x, y), ({"image": x}, y), (named,), containers["PyDataset"]({"image": x}, y)):
        trainer = made(**options)
        trainer.classifier.set_weights(start)
        trainer.fit(*given, verbose=0, **({"shuffle": False} if len(given) == 2 else {}))
        ends.append(np.concatenate([part.ravel() for part in trainer.get_weights()]))
    for end in ends:
        np.testing.assert_allclose(end, ends[0], atol=1e-6)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda x, y: ({"image": x, "mask": x}, y), r"expected one tensor x.*Received: a dict of \['image', 'mask'\]"),
        (lambda x, y: ((x, x), y), "expected one tensor x.*Received: tuple of 2"),
        (lambda x, y: (x, {"label": y, "domain": y}), r"one tensor y.*a dict of \['domain', 'label'\].*one label"),
        (lambda x, y: {"image": x, "label": y}, r"expected \(x, y\) with labels.*data.map\(lambda d: \(d\['image'\]"),
    ],
)
def test_several_tensors_are_refused_in_a_sentence(spoil, text, ten):
    with pytest.raises(ValueError, match=text):
        made().fit(tf.data.Dataset.from_tensor_slices(spoil(*ten)).batch(10), verbose=0)


def two_inputs():
    image, other = keras.Input((6, 6, 1), name="image"), keras.Input((6, 6, 1), name="other")
    both = keras.layers.Flatten()(keras.layers.Concatenate()([image, other]))
    return keras.Model([image, other], {"logits": keras.layers.Dense(4)(both)})


@pytest.mark.parametrize("use", [tfrobust.expose, tfrobust.AdversarialTrainer])
def test_a_model_of_several_inputs_is_refused_in_a_sentence(use):
    with pytest.raises(ValueError, match=r"expected one input.*image.*other"):
        use(two_inputs())


@pytest.mark.parametrize("x", [np.array(["a"] * 10), tf.ragged.constant([[0.5], []] * 5)])
def test_what_are_no_pixels_is_refused_in_a_sentence(x):
    with pytest.raises(ValueError, match="Invalid pixels: expected numbers"):
        made(run_eagerly=True).train_step((x, np.zeros(10, "int32")))


# A schedule of eps that ends at 0


def fading(**options):
    attack = attacks.pgd(eps=keras.optimizers.schedules.CosineDecay(0.1, 3), steps=1)
    return made(objective="madry", attack=attack, **options)


def test_a_schedule_that_ends_at_zero_is_refused_before_anything_is_measured_by_it(containers, ten):
    x, y = ten
    zero = "ends at 0 in epoch 3, so validation would attack nothing: expected `validation_attack="
    for options in (
        {"validation_split": 0.2},
        {"validation_data": (x, y)},
        {"validation_data": containers["PyDataset"](x, y)[0]},
    ):
        with pytest.raises(ValueError, match=zero):
            fading().fit(x, y, epochs=3, verbose=0, **options)
    trainer = fading()
    trainer.fit(x, y, epochs=3, verbose=0)  # nothing is validated
    for measure in (lambda: trainer.evaluate(x, y, verbose=0), lambda: trainer.test_on_batch(x, y)):
        with pytest.raises(ValueError, match=zero):
            measure()
    trainer.fit(x, y, epochs=2, validation_split=0.2, verbose=0)  # where it has not ended yet


def test_a_negative_schedule_is_refused_without_validation_too(ten):
    attack = attacks.pgd(eps=lambda epoch: 0.1 - 0.1 * epoch, steps=1)
    with pytest.raises(ValueError, match=r"expected at least 0. Received: -0.1 at epoch 2"):
        made(objective="madry", attack=attack).fit(*ten, epochs=2, verbose=0)


# Models that want pixels of 0..255


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}, {"jit_compile": True}])
def test_the_sentence_on_pixels_names_the_ways_out(options, ten):
    x, y = ten
    with pytest.raises(ValueError) as plain:
        made(**options).fit(255 * x, y, verbose=0)
    with pytest.raises(ValueError) as divides:
        made(linear(keras.layers.Rescaling(1 / 255, name="bytes")), **options).fit(255 * x, y, verbose=0)
    for error in (plain, divides):
        assert "preprocess=keras.layers.Rescaling(255.0)" in str(error.value)
        assert "bounds=(0, 255)" in str(error.value) and "Received: least " in str(error.value)
    assert "Divide images of 0..255 by 255." in str(plain.value)
    assert "layer 'bytes' shows that it takes pixels in 0..255" in str(divides.value)


@pytest.mark.parametrize(
    ("first", "divides"),
    [
        ([keras.layers.Rescaling(1 / 127.5, offset=-1, name="a")], "a"),
        ([keras.layers.Normalization(mean=120.0, variance=400.0, name="b")], "b"),
        ([keras.layers.Rescaling(255.0), keras.layers.Rescaling(1 / 255)], ""),
        ([keras.layers.Rescaling(255.0), keras.layers.Normalization(mean=120.0, variance=400.0)], ""),
        ([keras.layers.Normalization(mean=0.4, variance=0.1)], ""),
        ([keras.layers.Rescaling(2.0, offset=-1.0)], ""),
    ],
)
def test_whether_a_classifier_divides_is_seen_in_its_layers(first, divides):
    assert tfrobust.classifiers.divides_pixels(linear(*first)) == divides


@pytest.mark.parametrize("options", [{}, pytest.param({"jit_compile": True}, marks=pytest.mark.slow)])
def test_bounds_of_0_to_255_are_the_same_training_and_evaluation(options, ten):
    """A network that divides by itself, in its own units, against the same one on fractions."""
    x, y = ten
    start, found = linear().get_weights(), []
    for scale, first in ((1, ()), (255, (keras.layers.Rescaling(1 / 255),))):
        trainer = made(
            linear(*first), "trades", attacks.pgd(eps=0.1 * scale, steps=2, bounds=(0, scale)),
            **options,
        )  # fmt: skip
        trainer.classifier.set_weights(start)
        history = trainer.fit(scale * x, y, epochs=2, validation_data=(scale * x, y), shuffle=False, verbose=0).history
        report = tfrobust.evaluate(
            trainer.classifier, (scale * x, y), eps=0.1 * scale, bounds=(0, scale), attacks=["pgd"], verbose=False,
            probes=0,
        )  # fmt: skip
        found.append([*trainer.get_weights(), *history.values(), report.clean_accuracy, report.robust_accuracy])
    for left, right in zip(*found, strict=True):
        np.testing.assert_allclose(left, right, atol=2e-4)


def test_without_an_attack_the_bounds_are_those_of_the_validation_attack(ten):
    x, y = ten
    trainer = tfrobust.AdversarialTrainer(
        linear(keras.layers.Rescaling(1 / 255)),
        "standard",
        validation_attack=attacks.pgd(eps=8, steps=1, bounds=(0, 255)),
    )
    trainer.compile("sgd")
    assert "val_robust_accuracy" in trainer.fit(255 * x, y, validation_data=(255 * x, y), verbose=0).history
