"""Every network by name: what it gives, its size worked by hand, its file."""

import keras
import numpy as np
import pytest

from tfrobust import models

# Convolution k*k*in*out + out, dense in*out + out.
SIZES = [
    (
        "digits",
        {},
        (9 * 1 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 128) + (9 * 128 * 256 + 256) + (256 * 10 + 10),
    ),
    (
        "digits",
        {"input_shape": (9, 7, 3), "classes": 4, "features": 24},
        (9 * 3 * 3 + 3) + (9 * 3 * 6 + 6) + (9 * 6 * 12 + 12) + (9 * 12 * 24 + 24) + (24 * 4 + 4),
    ),
    ("fpr_mnist", {}, (25 * 32 + 32) + (25 * 32 * 64 + 64) + (7 * 7 * 64 * 1024 + 1024) + (1024 * 10 + 10)),
    (
        "fpr_mnist",
        {"input_shape": (9, 9, 3), "classes": 2},  # 9 -> 5 -> 3
        (25 * 3 * 32 + 32) + (25 * 32 * 64 + 64) + (3 * 3 * 64 * 1024 + 1024) + (1024 * 2 + 2),
    ),
]
SHAPES = {
    "digits": {"logits": (10,), "features": (256,), "feature_map": (2, 2, 256), "cam": (2, 2, 10)},
    "fpr_mnist": {"logits": (10,), "features": (1024,)},
}


@pytest.mark.parametrize(("name", "options", "count"), SIZES)
def test_parameters_by_hand(name, options, count):
    assert models.get(name, **options).count_params() == count


def test_every_name_is_tested():
    assert set(models.names()) == set(SHAPES) == {name for name, _, _ in SIZES}


@pytest.mark.parametrize("name", SHAPES)
def test_contract(name, tmp_path):
    classifier = models.get(name)
    x = np.random.default_rng(0).uniform(0, 1, (2, *classifier.input_shape[1:])).astype("float32")
    outputs = classifier(x)
    assert {key: tuple(t.shape[1:]) for key, t in outputs.items()} == SHAPES[name]
    assert list(outputs) == list(classifier.output) == list(SHAPES[name])
    assert models.expose(classifier) is classifier and models.get(classifier) is classifier
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    for key, tensor in loaded(x).items():
        np.testing.assert_array_equal(tensor, outputs[key])


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 1}, r"Invalid value for `classes`: expected a whole number >= 2\. Received: classes=1"),
        ({"classes": 2.5}, "`classes`"),
        ({"input_shape": (8, 8)}, r"Invalid value for `input_shape`: expected \(height, width, channels\)"),
        ({"input_shape": (8, 0, 1)}, "`input_shape`"),
        ({"input_shape": 8}, "`input_shape`"),
        ({"class": 3}, "Unknown argument of model"),
    ],
)
def test_wrong_options(name, options, words):
    with pytest.raises(ValueError, match=words):
        models.get(name, **options)


def test_width_of_digits():
    with pytest.raises(ValueError, match="`features`"):
        models.get("digits", features=7)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"Unknown model.*Did you mean 'digits'"):
        models.get("digit")


def test_a_members_own_function():
    @models.register
    def tiny_of_the_test(classes: int = 3) -> keras.Model:
        inputs = keras.Input((4, 4, 1))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(inputs))
        return models.expose(keras.Model(inputs, keras.layers.Dense(classes)(x)))

    try:
        assert models.get("tiny_of_the_test", classes=5).output["cam"].shape == (None, 2, 2, 5)
    finally:
        del models.registry.MODELS._factories["tiny_of_the_test"]
