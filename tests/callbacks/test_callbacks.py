"""Callbacks: checkpoints that survive damage, a loss that diverges, catastrophic overfitting, flat memory."""

import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from tfrobust.callbacks import CatastrophicOverfitting, Checkpoints, TerminateOnDivergence
from tfrobust.objectives import Objective
from tfrobust.objectives.terms import clean_cross_entropy


def adversarial(classifier, objective="madry", eps=0.1, optimizer="adam", **options):
    trainer = tfrobust.AdversarialTrainer(classifier, objective, tfrobust.attacks.pgd(eps=eps, steps=2))
    trainer.compile(optimizer, **options)
    return trainer


# Where a test needs a few steps alone: they take less time than the tracing of their graph.
EAGER = {"run_eagerly": True}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Checkpoints


@pytest.fixture(scope="module")
def three_epochs(tmp_path_factory):
    """A folder with the checkpoints of epochs 2 and 3, and the weights after each epoch."""
    folder = tmp_path_factory.mktemp("checkpoints")
    keras.utils.set_random_seed(0)
    trainer = adversarial(one_layer(), **EAGER)
    weights = []
    kept = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: weights.append(trainer.get_weights()))
    x, y = np.full((4, 6, 6, 1), 0.5, "float32"), np.arange(4)
    trainer.fit(x, y, epochs=3, callbacks=[kept, Checkpoints(trainer, folder)], verbose=0)
    return folder, weights


def one_layer(units=4):
    inputs = keras.Input((6, 6, 1))
    return keras.Model(inputs, {"logits": keras.layers.Dense(units)(keras.layers.Flatten()(inputs))})


@pytest.fixture
def folder(three_epochs, tmp_path):
    return Path(shutil.copytree(three_epochs[0], tmp_path / "checkpoints"))


def assert_restores(folder, epoch, weights):
    trainer = adversarial(one_layer())
    assert Checkpoints(trainer, folder).restore() == epoch
    for got, expected in zip(trainer.get_weights(), weights[epoch - 1], strict=True):
        np.testing.assert_array_equal(got, expected)


def damage(path, how):
    before = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": before[:-20], "garbage": b"\xff" * len(before)}[how])


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "garbage"])
@pytest.mark.parametrize("name", ["ckpt-3.index", "ckpt-3.data-00000-of-00001"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(name, how, folder, three_epochs):
    damage(folder / name, how)
    before = contents(folder)
    with pytest.warns(UserWarning, match="of epoch 3 in .* is damaged, epoch 2 is taken"):
        assert_restores(folder, 2, three_epochs[1])
    assert contents(folder) == before


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "garbage"])
def test_a_damaged_list_of_checkpoints_costs_nothing(how, folder, three_epochs, batch):
    damage(folder / "checkpoint", how)
    assert_restores(folder, 3, three_epochs[1])
    trainer = adversarial(one_layer(), **EAGER)
    trainer.fit(*batch, initial_epoch=3, epochs=5, callbacks=[Checkpoints(trainer, folder)], verbose=0)
    assert {path.name.split(".")[0] for path in folder.iterdir()} == {"checkpoint", "ckpt-4", "ckpt-5"}


def test_where_all_checkpoints_are_damaged_nothing_is_started_anew(folder):
    for path in folder.glob("*.index"):
        damage(path, "garbage")
    before = contents(folder)
    with pytest.raises(ValueError, match=r"a whole checkpoint.*delete the folder.*epoch 3 is damaged.*epoch 2 is"):
        Checkpoints(adversarial(one_layer()), folder).restore()
    assert contents(folder) == before


def test_a_first_save_that_was_cut_short_is_no_checkpoint(tmp_path, batch):
    (tmp_path / "ckpt-1_temp").mkdir()
    (tmp_path / "ckpt-1_temp" / "part-00000-of-00001.index").write_bytes(b"")
    (tmp_path / "ckpt-1.data-00000-of-00001").write_bytes(b"half")
    trainer = adversarial(one_layer(), **EAGER)
    checkpoints = Checkpoints(trainer, tmp_path)
    assert checkpoints.restore() == 0
    trainer.fit(*batch, callbacks=[checkpoints], verbose=0)
    assert checkpoints.restore() == 1
    assert not (tmp_path / "ckpt-1_temp").exists()


OTHERS = {
    "objective": (lambda: adversarial(one_layer(), "trades"), "objective: .*madry.* there, .*trades.* here"),
    "attack": (lambda: adversarial(one_layer(), eps=0.2), "attack: .*0.1.* there, .*0.2.* here"),
    "variables": (lambda: adversarial(one_layer(units=5)), r"variables: .*\[36, 4\].* there, .*\[36, 5\].* here"),
    "optimizer": (lambda: adversarial(one_layer(), optimizer="sgd"), "optimizer: 'Adam' there, 'SGD' here"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_another_run_is_refused_and_left_alone(name, folder, batch):
    make, text = OTHERS[name]
    before = contents(folder)
    trainer = make()
    checkpoints = Checkpoints(trainer, folder)
    with pytest.raises(ValueError, match=f"checkpoint of this model, objective and optimizer.*{text}"):
        checkpoints.restore()
    with pytest.raises(ValueError, match="checkpoint of this model"):  # who does not ask is told by `fit`
        trainer.fit(*batch, initial_epoch=3, epochs=4, callbacks=[checkpoints], verbose=0)
    assert contents(folder) == before


def test_a_fit_that_would_begin_before_its_checkpoint_is_refused(folder, batch):
    before = contents(folder)
    trainer = adversarial(one_layer())
    with pytest.raises(ValueError, match=r"initial_epoch=3, as `restore.*Received: initial_epoch=1"):
        trainer.fit(*batch, initial_epoch=1, epochs=4, callbacks=[Checkpoints(trainer, folder)], verbose=0)
    assert contents(folder) == before


@pytest.mark.parametrize("ready", ["compiled", "built"])
def test_a_model_without_weights_or_optimizer_is_refused(ready, tmp_path):
    model = keras.Sequential([keras.layers.Dense(2)])
    if ready == "built":
        model.build((None, 3))
    else:
        model.compile("sgd")
    with pytest.raises(ValueError, match="compiled model that has its weights"):
        Checkpoints(model, tmp_path)


def plain_model(**options):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Flatten(), keras.layers.Dense(8), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((6, 6, 1)), *layers, keras.layers.Dropout(0.5), keras.layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], **options)
    return model


def test_any_compiled_keras_model_goes_on_bit_for_bit(tmp_path, batch):
    options = {"verbose": 0, "shuffle": False, "batch_size": 8}
    undisturbed = plain_model(**EAGER)
    expected = undisturbed.fit(*batch, epochs=4, **options).history
    killed = plain_model(**EAGER)
    killed.fit(*batch, epochs=2, callbacks=[Checkpoints(killed, tmp_path)], **options)
    started_again = plain_model(**EAGER)
    checkpoints = Checkpoints(started_again, tmp_path)
    first = checkpoints.restore()
    history = started_again.fit(*batch, initial_epoch=first, epochs=4, callbacks=[checkpoints], **options).history
    assert first == 2 and history == {name: values[2:] for name, values in expected.items()}
    for got, wanted in zip(started_again.variables, undisturbed.variables, strict=True):
        np.testing.assert_array_equal(got, wanted)


# TerminateOnDivergence


def breaking(at_update, value):
    """A loss that is cross entropy until the first pixel of an image says otherwise."""

    def term(views):
        broken = tf.reduce_any(views.x[:, 0, 0, 0] == 1.0)
        return clean_cross_entropy(views) + tf.where(broken, value, 0.0)

    x = np.full((12, 6, 6, 1), 0.5, "float32")
    x[4 * at_update, 0, 0, 0] = 1.0
    data = tf.data.Dataset.from_tensor_slices((x, np.arange(12) % 4)).batch(4)
    return Objective(inner=clean_cross_entropy, outer={"good": clean_cross_entropy, "breaks": term}), data


@pytest.mark.parametrize(
    ("value", "options"), [(np.nan, {}), (np.inf, {"run_eagerly": True}), (1e4, {"steps_per_execution": 2})]
)
def test_a_loss_that_diverges_ends_fit_before_the_update(value, options, tmp_path):
    objective, data = breaking(1, value)
    trainer = adversarial(one_layer(), objective, optimizer="sgd", **options)
    batches = iter(data)
    reference = adversarial(keras.models.clone_model(trainer.classifier), objective, optimizer="sgd")
    reference.set_weights(trainer.get_weights())
    reference.train_on_batch(*next(batches))
    before = reference.get_weights()
    with pytest.raises(FloatingPointError, match=r"Diverged at update 2: .*at most 1000\. .*breaks=.*diverged-2\.npz$"):
        trainer.fit(data, callbacks=[TerminateOnDivergence(tmp_path, limit=1e3)], verbose=0)
    for got, wanted in zip(trainer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)
    x, y = next(batches)
    with np.load(tmp_path / "diverged-2.npz") as saved:
        np.testing.assert_array_equal(saved["x"], x)
        np.testing.assert_array_equal(saved["y"], y)
        assert saved["x_adv"].shape == x.shape and 0 < np.abs(saved["x_adv"] - x).max() <= 0.1 + 1e-6
    assert [path.name for path in tmp_path.iterdir()] == ["diverged-2.npz"]


def test_a_gradient_that_is_not_finite_is_found_where_the_loss_is(tmp_path, batch):
    def rooted(views):  # the root of zero has no slope
        return tf.sqrt(tf.reduce_sum(tf.square(views.clean["logits"] - tf.stop_gradient(views.clean["logits"])), -1))

    trainer = adversarial(one_layer(), Objective(inner=None, outer={"rooted": rooted}))
    before = trainer.get_weights()
    with pytest.raises(FloatingPointError, match=r"update 1: .*gradient_norm=nan"):
        trainer.fit(*batch, callbacks=[TerminateOnDivergence(tmp_path)], verbose=0)
    for got, wanted in zip(trainer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_watching_changes_nothing(tmp_path, batch, make_classifier):
    results = []
    for callbacks in ([], [TerminateOnDivergence(tmp_path)]):
        keras.utils.set_random_seed(5)
        trainer = adversarial(make_classifier(dropout=0.3), "trades")
        history = trainer.fit(*batch, epochs=2, batch_size=8, shuffle=False, callbacks=callbacks, verbose=0).history
        results.append((history, trainer.get_weights()))
    assert results[0][0] == results[1][0]
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list(tmp_path.iterdir())


def test_of_a_plain_model_and_under_xla_the_logged_loss_is_watched(tmp_path, batch):
    x, y = batch
    models = [plain_model(), adversarial(one_layer(), "standard", optimizer="sgd", jit_compile=True)]
    for model in models:
        model.optimizer.learning_rate = 1e30
        with pytest.raises(FloatingPointError, match="the update was made"):
            model.fit(x, y, epochs=5, callbacks=[TerminateOnDivergence(tmp_path)], verbose=0)


# Catastrophic overfitting


def wave(frequency):
    """Weights of a classifier that is right where cos(frequency * mean pixel) > 0; see `waving`."""
    return [np.array([[frequency]], "float32"), np.array([0.3 - frequency / 2], "float32")]


def waving():
    """A classifier of mean grey pixels as class 0, with a wave: FGSM steps over the valley into which PGD falls."""
    inputs = keras.Input((6, 6, 1))
    margin = keras.layers.Dense(1, activation=keras.ops.cos)(keras.layers.GlobalAveragePooling2D()(inputs))
    logits = keras.layers.Concatenate()([margin, keras.layers.Rescaling(-1.0)(margin)])
    return keras.Model(inputs, {"logits": logits})


@pytest.mark.parametrize("action", ["warn", "stop", "restore"])
def test_catastrophic_overfitting_is_told_by_the_gap_between_fgsm_and_pgd(action):
    eps = 0.1
    sound, collapsed = wave(1.0), wave(2 * np.pi / eps)
    trainer = tfrobust.AdversarialTrainer(waving(), "madry", tfrobust.attacks.fgsm(eps=eps))
    trainer.compile(keras.optimizers.SGD(0.0), **EAGER)
    data = (np.full((8, 6, 6, 1), 0.5, "float32"), np.zeros(8, "int32"))
    collapse = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, _: trainer.set_weights(collapsed if epoch == 2 else sound)
    )
    watch = CatastrophicOverfitting(data, action)
    with pytest.warns(UserWarning, match=r"overfitting in epoch 3: .* on 1\.00 under FGSM and on 0\.00 under PGD") as w:
        history = trainer.fit(*data, epochs=4, callbacks=[collapse, watch], verbose=0).history
    assert len([v for v in w if "atastrophic" in str(v.message)]) == 1
    assert history["fgsm_accuracy"][:3] == [1.0, 1.0, 1.0]
    assert history["pgd_accuracy"][:3] == [1.0, 1.0, 0.0]
    assert len(history["loss"]) == (4 if action == "warn" else 3)
    expected = collapsed if action == "stop" else sound
    for got, wanted in zip(trainer.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_sound_training_is_left_alone(batch, make_classifier):
    trainer = adversarial(make_classifier(), **EAGER)
    trainer.fit(*batch, epochs=2, callbacks=[CatastrophicOverfitting(batch, "stop")], verbose=0)
    assert len(trainer.history.epoch) == 2


def test_overfitting_needs_an_attack_and_a_known_action(batch, make_classifier):
    with pytest.raises(ValueError, match="Did you mean 'restore'"):
        CatastrophicOverfitting(batch, "restored")
    trainer = tfrobust.AdversarialTrainer(make_classifier(), "standard")
    trainer.compile("sgd")
    with pytest.raises(ValueError, match="AdversarialTrainer with an attack"):
        trainer.fit(*batch, callbacks=[CatastrophicOverfitting(batch)], verbose=0)


# A long training


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_is_flat_over_2000_steps_and_nothing_is_traced_again(tmp_path):
    traces, sizes = [], []

    def term(views):
        traces.append(1)
        return clean_cross_entropy(views)

    trainer = adversarial(one_layer(), Objective(inner=clean_cross_entropy, outer={"counted": term}))
    x, y = np.random.default_rng(0).uniform(size=(1000, 6, 6, 1)).astype("float32"), np.arange(1000) % 4
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(9)  # 112 steps an epoch, the last one uneven
    seen = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: sizes.append((len(traces), resident())))
    callbacks = [TerminateOnDivergence(tmp_path), Checkpoints(trainer, tmp_path), seen]
    trainer.fit(data, epochs=18, callbacks=callbacks, verbose=0)
    assert int(trainer.optimizer.iterations) > 2000
    assert sizes[-1][0] == sizes[0][0]
    assert sizes[-1][1] - sizes[3][1] < 8e6, [size for _, size in sizes]
