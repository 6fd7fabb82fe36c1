"""The monitor: what it writes is what `tfrobust.interpret` finds, and training does not know of it."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tfrobust
from tfrobust import interpret
from tfrobust.callbacks import Checkpoints, RobustnessMonitor
from tfrobust.interpret.snapshot import _magnified
from tfrobust.models import heads

COUNT = 10
FACTOR = 11  # 6 pixels are 66


class Counted(keras.layers.Layer):
    """Notes when it is traced."""

    def __init__(self):
        super().__init__()
        self.traces = []

    def call(self, x):
        self.traces.append(1)
        return x


def looking():
    """A classifier of 6x6 images with all that a monitor shows, BatchNorm and dropout; the first layer counts."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(6, 3, padding="same")(Counted()(inputs))
    feature_map = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.5)(x))
    scores = keras.layers.Flatten()(ops.mean(keras.layers.AveragePooling2D(2)(feature_map), axis=-1))
    weights = keras.layers.Reshape((3, 3))(keras.layers.Softmax()(scores))
    features = keras.layers.Dropout(0.1)(keras.layers.GlobalAveragePooling2D()(feature_map))
    outputs = heads.make({"name": "dense", "form": "signed"}, 4)(features, feature_map=feature_map)
    return keras.Model(
        inputs, {**outputs, "features": features, "feature_map": feature_map, "attention": {"all": weights}}
    )


def one_layer(channels=1):
    inputs = keras.Input((6, 6, channels))
    return keras.Model(inputs, {"logits": keras.layers.Dense(4)(keras.layers.Flatten()(inputs))})


def adversarial(classifier, eps=0.1, **options):
    trainer = tfrobust.AdversarialTrainer(classifier, "madry", tfrobust.attacks.pgd(eps=eps, steps=2))
    trainer.compile(keras.optimizers.Adam(0.05), **options)
    return trainer


def scalars_and_pictures(folder):
    """`name -> step -> value` of the events in a folder; pictures are `(N, H, W, C)` uint8."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    readers = {"scalars": float, "images": lambda array: np.stack([tf.io.decode_png(png) for png in array[2:]])}
    found = {plugin: {} for plugin in readers}
    for tag in events.Tags()["tensors"]:
        plugin = events.SummaryMetadata(tag).plugin_data.plugin_name
        values = {event.step: tf.make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}
        found[plugin][tag] = {step: readers[plugin](value) for step, value in values.items()}
    return found["scalars"], found["images"]


@pytest.fixture(scope="module")
def data():
    """24 images whose label says how bright they are."""
    rng = np.random.default_rng(0)
    y = (np.arange(24) % 4).astype("int32")
    return np.clip(0.2 * y[:, None, None, None] + rng.uniform(0, 0.4, (24, 6, 6, 1)), 0, 1).astype("float32"), y


@pytest.fixture(scope="module")
def watched(data, tmp_path_factory):
    """Six epochs without a monitor and with one that looks at every second."""
    folder, calls = tmp_path_factory.mktemp("tensorboard"), []

    def inverted(classify, x, y):
        calls.append(len(x))
        return 1 - x

    results = []
    for monitors in ([], [RobustnessMonitor(data, folder, every=2, attack=inverted, count=COUNT)]):
        trainer = adversarial(looking())
        traces = next(layer for layer in trainer.classifier.layers if isinstance(layer, Counted)).traces
        traced = []
        after = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_, at=traced, n=traces: at.append(len(n)))
        # Beside Keras' own, which then says that of all steps of the training none is recorded.
        board = [keras.callbacks.TensorBoard(folder, write_graph=False, update_freq=1000)] if monitors else []
        keras.utils.set_random_seed(5)
        history = trainer.fit(*data, epochs=6, batch_size=8, callbacks=[*board, *monitors, after], verbose=0).history
        results.append((history, [np.array(v) for v in (*trainer.variables, *trainer.optimizer.variables)], traced))
    scalars, pictures = scalars_and_pictures(folder / "robustness")
    return types.SimpleNamespace(
        alone=results[0], beside=results[1], trainer=trainer, calls=calls, scalars=scalars, pictures=pictures
    )


def test_training_is_the_same_bit_for_bit(watched):
    assert watched.beside[0] == watched.alone[0]
    for got, wanted in zip(watched.beside[1], watched.alone[1], strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_the_other_epochs_cost_nothing(watched):
    assert watched.calls == [COUNT] * 3
    assert (len(watched.scalars), len(watched.pictures)) == (3, 6)
    for by_step in (*watched.scalars.values(), *watched.pictures.values()):
        assert sorted(by_step) == [1, 3, 5]


def test_nothing_is_traced_again(watched):
    alone, beside = watched.alone[2], watched.beside[2]
    assert beside[1] > alone[1]
    assert beside[1:] == [beside[1]] * 5


def test_the_pictures_are_what_interpret_finds(watched, data):
    classifier = watched.trainer.classifier
    x, y = data[0][:COUNT], data[1][:COUNT]
    change = 1 - 2 * x
    maps = {
        "attention/all": interpret.attention_maps(classifier, x)["all"],
        "class_activation": interpret.class_activation_maps(classifier, x, form="signed"),
    }
    expected = {
        "images/clean": x,
        "images/adversarial": 1 - x,
        "images/perturbation": 0.5 + change / np.abs(change).max((1, 2, 3), keepdims=True) / 2,
        "maps/gradient": interpret.clip_deviations(interpret.input_gradients(classifier, x, y), 3.0),
        **{f"maps/{name}": interpret.rescale(values[..., None]) for name, values in maps.items()},
    }
    assert sorted(watched.pictures) == sorted(expected)
    for name, by_step in watched.pictures.items():
        assert by_step[5].shape == (COUNT, 66, 66, 1) and np.ptp(by_step[5]) > 200
        large = np.kron(expected[name], np.ones((1, FACTOR, FACTOR, 1)))
        np.testing.assert_allclose(by_step[5] / 255, large, atol=1.5 / 255, err_msg=name)


def test_the_scalars_are_of_these_images(watched, data):
    classifier = watched.trainer.classifier
    x, y = data[0][:COUNT], data[1][:COUNT]
    clean, robust = (float((np.argmax(classifier(z)["logits"], -1) == y).mean()) for z in (x, 1 - x))
    covered = interpret.coverage({"it": classifier}, (x, y), [0.1])["it", "0.1"]
    assert clean > robust + 0.2
    got = {name: by_step[5] for name, by_step in watched.scalars.items()}
    assert got == pytest.approx({"clean_accuracy": clean, "robust_accuracy": robust, "coverage": covered})


def test_after_a_resume_the_epochs_go_on(data, tmp_path):
    for epochs in (2, 4):
        trainer = adversarial(one_layer(), run_eagerly=True)
        checkpoints = Checkpoints(trainer, tmp_path / "checkpoints")
        monitor = RobustnessMonitor(data, tmp_path)
        first = checkpoints.restore()
        trainer.fit(*data, initial_epoch=first, epochs=epochs, callbacks=[monitor, checkpoints], verbose=0)
    scalars, pictures = scalars_and_pictures(tmp_path / "robustness")
    assert len(list((tmp_path / "robustness").iterdir())) == 2
    assert (len(scalars), len(pictures)) == (3, 4)
    for by_step in (*scalars.values(), *pictures.values()):
        assert sorted(by_step) == [0, 1, 2, 3]


def test_without_an_attack_it_is_the_trainers_validation_at_the_end_of_its_schedule(data, tmp_path):
    trainer = adversarial(one_layer(), eps=keras.optimizers.schedules.PolynomialDecay(0.0, 2, 0.2), run_eagerly=True)
    endless = tf.data.Dataset.from_tensor_slices(data).batch(3).repeat()
    trainer.fit(*data, epochs=2, callbacks=[RobustnessMonitor(endless, tmp_path, count=5)], verbose=0)
    scalars, pictures = scalars_and_pictures(tmp_path / "robustness")
    assert sorted(pictures) == ["images/adversarial", "images/clean", "images/perturbation", "maps/gradient"]
    clean, attacked = (pictures[f"images/{name}"][0] / 255 for name in ("clean", "adversarial"))
    np.testing.assert_allclose(clean[:, ::FACTOR, ::FACTOR], data[0][:5], atol=1 / 255)
    assert np.abs(attacked - clean).max() == pytest.approx(0.2, abs=1.5 / 255)
    assert scalars["robust_accuracy"][0] <= scalars["clean_accuracy"][0]


@pytest.mark.parametrize("side, large", [(8, 64), (28, 84), (32, 64), (33, 66), (64, 64), (200, 200)])
def test_small_images_are_magnified_by_a_whole_factor(side, large):
    pictures = np.random.default_rng(0).random((2, side, side + 8, 3), "float32")
    got = np.asarray(_magnified(ops.convert_to_tensor(pictures)))
    assert got.shape == (2, large, large // side * (side + 8), 3)
    np.testing.assert_array_equal(got, np.kron(pictures, np.ones((1, large // side, large // side, 1), "float32")))


X, Y = np.full((4, 6, 6, 1), 0.5, "float32"), np.arange(4)
BAD = {
    "alone": (X, "tf.data.Dataset of .*or a tuple of arrays.*Received: ndarray"),
    "list": ([X], "a tuple of arrays.*Received: list of 1"),
    "single": (tf.data.Dataset.from_tensor_slices((X, Y)), "Received: single examples"),
    "unlabelled": (tf.data.Dataset.from_tensor_slices(X).batch(2), "Received: a dataset of"),
    "empty": (tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).take(0), "at least one image. Received: none"),
    "shape": ((X[:, 1:], Y), r"expected \(batch, 6, 6, 1\). Received: \(None, 5, 6, 1\)"),
    "pixels": ((255 * X, Y), r"expected values in \[0, 1\].*greatest 127.5"),
    "labels": ((X, Y + 1), "expected integers from 0 to 3. Received: least 1, greatest 4"),
}


@pytest.fixture(scope="module")
def unwatched():
    return adversarial(one_layer())


@pytest.mark.parametrize("what", BAD)
def test_bad_images_are_refused_before_the_first_step(what, unwatched, tmp_path):
    images, text = BAD[what]
    with pytest.raises(ValueError, match=text):
        unwatched.fit(X, Y, callbacks=[RobustnessMonitor(images, tmp_path)], verbose=0)
    assert int(unwatched.optimizer.iterations) == 0 and not list(tmp_path.iterdir())


def test_images_that_no_picture_can_show_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one channel or three.*Received: \(4, 6, 6, 2\)"):
        RobustnessMonitor((np.repeat(X, 2, axis=-1), Y), tmp_path).set_model(adversarial(one_layer(channels=2)))


def test_other_models_and_trainers_without_an_attack_are_refused(unwatched, tmp_path):
    plain = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"Expected an AdversarialTrainer.*Received: <Sequential"):
        plain.fit(X, Y, callbacks=[RobustnessMonitor((X, Y), tmp_path)], verbose=0)
    standard = tfrobust.AdversarialTrainer(unwatched.classifier, "standard")
    with pytest.raises(ValueError, match=r"Expected `attack=`, such as.*Received: attack=None"):
        RobustnessMonitor((X, Y), tmp_path).set_model(standard)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"every": 0}, "`every`: expected an integer of at least 1. Received: 0"),
        ({"count": 2.5}, "`count`: expected an integer of at least 1"),
        ({"deviations": 0}, "`deviations`: expected a positive number"),
        ({"threshold": -0.1}, "`threshold`: expected a number of at least 0"),
        ({"attack": "pgdd"}, "Did you mean"),
        ({"attack": 3}, "Invalid attack: expected an untargeted one"),
    ],
)
def test_numbers_and_attacks_are_checked_at_once(options, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        RobustnessMonitor((X, Y), tmp_path, **options)
