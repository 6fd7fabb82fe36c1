"""Augmentation inside a classifier acts once in a training step: search, clean and attacked side see one image."""

import contextlib
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfrobust

RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 0.7, (8, 8, 8, 3)).astype("float32")
Y = np.arange(8, dtype="int32") % 4
TINY = tfrobust.attacks.pgd(eps=1e-6, steps=1)


@keras.saving.register_keras_serializable("tests")
class Shuffled(layers.Layer):
    """Draws from a seed of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(3)

    def call(self, x, training=None):
        return x + keras.random.uniform((ops.shape(x)[0], 1, 1, 1), 0, 0.2, seed=self.seed_generator) if training else x


def adapted():
    layer = layers.Normalization()
    layer.adapt(X)
    return layer


def network(*prefix, inside=(), size=(8, 8, 3), training=None):
    x = inputs = keras.Input(size)
    for layer in prefix:
        x = layer(x, **({} if training is None else {"training": training}))
    x = layers.Conv2D(4, 3, activation="relu")(x)
    for layer in inside:
        x = layer(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(x))
    rng = np.random.default_rng(1)  # kernels large enough that images differ
    for v in model.trainable_variables:
        v.assign(rng.normal(0, 1, v.shape))
    return model


def trained(classifier, objective="trades", attack=TINY, epochs=1, rate=0.0, x=X, eager=True, **options):
    trainer = tfrobust.AdversarialTrainer(classifier, objective, attack, **options)
    trainer.compile(keras.optimizers.SGD(rate), run_eagerly=eager)
    return trainer.fit(x, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0).history


def assert_one_image(model, classifier, x=X, given=None, atol=1e-5, **options):
    """The sides see one image, which is the one that Keras' own step would have seen, by as many draws."""
    seeds = [v for v in model.variables if "seed" in v.path]
    before = [np.array(v) for v in seeds]
    kept = [layer for layer in model._flatten_layers() if hasattr(layer, "call")]
    expected = np.mean(
        keras.losses.sparse_categorical_crossentropy(Y, model(x if given is None else given(x), training=True))
    )
    after = [np.array(v) for v in seeds]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    for v, value in zip(seeds, before, strict=True):
        v.assign(value)
    history = trained(classifier, x=x, **options)
    assert abs(history["kl_divergence"][0]) < 1e-5
    np.testing.assert_allclose(history["clean_cross_entropy"][0], expected, atol=atol)
    for v, value in zip(seeds, after, strict=True):
        np.testing.assert_array_equal(v, value)
    assert not any("call" in vars(layer) for layer in kept)


PREFIXES = {
    "translation": lambda: [layers.RandomTranslation(0.3, 0.3)],
    "flip, rotation, zoom": lambda: [layers.RandomFlip(), layers.RandomRotation(0.2), layers.RandomZoom(0.2)],
    "nested": lambda: [keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.2)])],
    "nested with an input": lambda: [keras.Sequential([keras.Input((8, 8, 3)), layers.RandomTranslation(0.3, 0.3)])],
    "nested twice": lambda: [keras.Sequential([keras.Sequential([layers.Rescaling(2.0), layers.RandomRotation(0.2)])])],
    "behind rescaling": lambda: [layers.Rescaling(2.0, -1.0), layers.RandomTranslation(0.3, 0.3)],
    "before rescaling": lambda: [layers.RandomTranslation(0.3, 0.3), layers.Rescaling(2.0, -1.0)],
    "between": lambda: [
        layers.Rescaling(2.0),
        layers.RandomRotation(0.3),
        layers.Normalization(mean=1.0, variance=0.2),
    ],
    "behind a normalization by channels": lambda: [
        layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.1, 0.2, 0.3]),
        layers.RandomTranslation(0.3, 0.3, fill_mode="reflect"),
    ],
    "behind an adapted normalization": lambda: [adapted(), layers.RandomRotation(0.2)],
    "behind an operation": lambda: [lambda x: x * 2.0 - 1.0, layers.RandomRotation(0.2)],
    "contrast, brightness": lambda: [
        layers.RandomContrast(0.2, value_range=(0, 1)),
        layers.RandomBrightness(0.2, value_range=(0, 1)),
    ],
    "noise": lambda: [layers.GaussianNoise(0.05)],
    "pipeline": lambda: [layers.Pipeline([layers.RandomFlip(), layers.RandomTranslation(0.3, 0.3)])],
    "a list of Keras' own": lambda: [layers.RandAugment(value_range=(0, 1))],
    "erasing": lambda: [layers.RandomErasing(1.0, fill_value=0.5, value_range=(0, 1))],
    "one of the user's": lambda: [Shuffled()],
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_one_image_a_step(prefix):
    model = network(*prefix())
    assert_one_image(model, tfrobust.expose(model))


def test_behind_a_preprocess():
    model = network(layers.RandomBrightness(0.2), layers.RandomTranslation(0.3, 0.3), layers.Rescaling(1 / 255))
    rescaling = layers.Rescaling(255.0)
    assert_one_image(model, tfrobust.expose(model, preprocess=rescaling), given=rescaling)


def test_pixels_of_other_bounds():
    model = network(layers.RandomTranslation(0.3, 0.3), layers.Rescaling(1 / 255))
    attack = tfrobust.attacks.pgd(eps=1e-4, steps=1, bounds=(0, 255))
    assert_one_image(model, tfrobust.expose(model), x=255 * X, attack=attack)


def test_images_of_any_size():
    model = network(layers.Rescaling(2.0), layers.RandomTranslation(0.3, 0.3), size=(None, None, 3))
    assert_one_image(model, tfrobust.expose(model))


def test_augmentation_that_is_always_on():
    assert_one_image(model := network(layers.RandomTranslation(0.3, 0.3), training=True), tfrobust.expose(model))


@pytest.mark.filterwarnings("ignore:The moving statistics")
@pytest.mark.parametrize("options", [{"search_in_training_mode": True}, {"eager": False}], ids=str)
def test_one_image_whatever_the_step(options):
    model = network(layers.RandomTranslation(0.3, 0.3), inside=[layers.BatchNormalization(), layers.Dropout(0.0)])
    assert_one_image(model, tfrobust.expose(model), **options)


def test_mixed_precision_does_not_round_the_image():
    keras.config.set_dtype_policy("mixed_bfloat16")
    classifier = tfrobust.expose(network(layers.RandomTranslation(0.3, 0.3)))
    seen = []
    trainer = tfrobust.AdversarialTrainer(classifier, "trades", TINY)
    with trainer._augmentation.once(ops.convert_to_tensor(X)) as x:
        seen.append(np.array(x))
    assert seen[0].dtype == np.float32 and (seen[0] != np.array(ops.cast(x, "bfloat16"), "float32")).any()
    assert trained(classifier)["kl_divergence"][0] < 1e-3


def test_share_and_weight_perturbation_see_the_augmented_batch():
    # With weights that do not move (rate 0) and no perturbation to speak of, both are means over one augmented batch.
    model = network(layers.RandomTranslation(0.3, 0.3))
    seeds = [v for v in model.variables if "seed" in v.path]
    before = [np.array(v) for v in seeds]
    augmented = np.array(model(X, training=True))
    losses = np.array(keras.losses.sparse_categorical_crossentropy(Y, augmented))
    for objective, name, expected in (
        (tfrobust.objectives.joint(share=0.5), "adversarial_cross_entropy", losses[4:].mean()),
        (tfrobust.objectives.awp("madry", gamma=1e-6), "adversarial_cross_entropy", losses.mean()),
        (tfrobust.objectives.awp("standard", gamma=1e-6), "clean_cross_entropy", losses.mean()),
    ):
        for v, value in zip(seeds, before, strict=True):
            v.assign(value)
        attack = None if objective.inner is None else TINY
        np.testing.assert_allclose(trained(tfrobust.expose(model), objective, attack)[name][0], expected, atol=1e-4)


def test_standard_training_takes_the_weights_of_keras():
    keras.utils.set_random_seed(1)
    model = network(
        layers.Rescaling(2.0), layers.RandomTranslation(0.3, 0.3, seed=4), inside=[layers.Dropout(0.3, seed=5)]
    )
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    twin.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    twin.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    trainer = tfrobust.AdversarialTrainer(tfrobust.expose(model), "standard")
    trainer.compile(keras.optimizers.SGD(0.1))
    trainer.fit(X, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_classifier_is_the_same_artefact(tmp_path):
    model = network(layers.Rescaling(2.0), layers.RandomTranslation(0.3, 0.3))
    classifier = tfrobust.expose(model)
    trained(classifier, rate=0.1)
    np.testing.assert_allclose(
        ops.softmax(classifier(X, training=False)["logits"]), model(X, training=False), atol=1e-6
    )
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_array_equal(loaded(X, training=False)["logits"], classifier(X, training=False)["logits"])
    assert [type(layer).__name__ for layer in loaded.layers][1:3] == ["Rescaling", "RandomTranslation"]


def test_resumed_is_uninterrupted(tmp_path):
    def make():
        keras.utils.set_random_seed(3)
        classifier = tfrobust.expose(network(layers.RandomTranslation(0.3, 0.3)))
        trainer = tfrobust.AdversarialTrainer(classifier, "trades", tfrobust.attacks.pgd(eps=0.05, steps=1))
        trainer.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        return trainer

    def fit(trainer, first, last, *callbacks):
        trainer.fit(X, Y, batch_size=4, initial_epoch=first, epochs=last, shuffle=False, verbose=0, callbacks=callbacks)

    whole, killed, resumed = make(), make(), make()
    fit(whole, 0, 2)
    fit(killed, 0, 1, tfrobust.callbacks.Checkpoints(killed, tmp_path))
    assert tfrobust.callbacks.Checkpoints(resumed, tmp_path).restore() == 1
    fit(resumed, 1, 2)
    for a, b in zip(whole.classifier.get_weights(), resumed.classifier.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# What cannot act once

LEFT = {
    "behind a convolution": lambda: network(inside=[layers.RandomFlip(name="late")]),
    "noise in the middle": lambda: network(inside=[layers.GaussianNoise(0.1, name="late")]),
    "behind a resizing": lambda: network(layers.Resizing(10, 10), layers.RandomFlip(name="late")),
    "a padding and a crop": lambda: network(layers.ZeroPadding2D(2), layers.RandomCrop(8, 8, name="late")),
    "a crop to another size": lambda: network(layers.RandomCrop(6, 6, name="late")),
    "behind what has no inverse": lambda: network(
        layers.Activation("relu6"), lambda x: x**2, layers.RandomFlip(name="late")
    ),
    "behind batch statistics": lambda: network(layers.BatchNormalization(), layers.RandomFlip(name="late")),
}


@pytest.mark.parametrize("make", LEFT.values(), ids=LEFT)
def test_what_cannot_act_once_is_warned_about(make):
    classifier = tfrobust.expose(make())
    with pytest.warns(UserWarning, match=r"'late' \(.*draw new random numbers.*`dataset.map`"):
        tfrobust.AdversarialTrainer(classifier, "trades", TINY)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tfrobust.AdversarialTrainer(classifier, "standard")  # one call a step


def test_layer_that_is_left_does_not_hinder_the_first():
    classifier = tfrobust.expose(
        network(layers.RandomFlip(name="early"), inside=[layers.GaussianNoise(0.1, name="late")])
    )
    with pytest.warns(UserWarning, match=r"^The layers 'late' \(GaussianNoise\) draw"):
        trainer = tfrobust.AdversarialTrainer(classifier, "trades", TINY)
    with trainer._augmentation.once(ops.convert_to_tensor(X)) as x:
        assert any((np.array(x) != images).any() for images in (X, X))
        np.testing.assert_array_equal(np.sort(np.ravel(x)), np.sort(np.ravel(X)))


def test_dropout_is_not_warned_about():
    for prefix in ([], [layers.Dropout(0.1)]):
        tfrobust.AdversarialTrainer(
            tfrobust.expose(network(*prefix, inside=[layers.Dropout(0.5), layers.SpatialDropout2D(0.5)])),
            "trades",
            TINY,
        )


def test_calls_are_given_back_when_a_step_fails():
    layer = layers.RandomFlip()
    trainer = tfrobust.AdversarialTrainer(tfrobust.expose(network(layer)), "trades", TINY)
    with contextlib.suppress(RuntimeError), trainer._augmentation.once(ops.convert_to_tensor(X)):
        assert "call" in vars(layer)
        raise RuntimeError
    assert "call" not in vars(layer)


# Elsewhere it is the identity: Keras' augmentation layers augment where a call says nothing of its mode


def test_evaluation_and_attacks_do_not_augment():
    classifier = tfrobust.expose(network(layers.RandomTranslation(0.3, 0.3)))
    expected = np.argmax(classifier(X, training=False)["logits"], axis=-1)
    report = tfrobust.evaluate(classifier, (X, expected), eps=1e-6, attacks=["fgsm"], probes=4, verbose=False)
    assert report.clean_accuracy == report.robust_accuracy == 1 and not [a for a in report.alarms if "random" in a]
    attack = tfrobust.attacks.pgd(eps=0.1, steps=2, start="none").maximizing(lambda views: -views.adv["logits"][:, 0])
    np.testing.assert_array_equal(attack(classifier, X, Y), attack(classifier, X, Y))
