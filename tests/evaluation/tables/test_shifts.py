"""Shifts of known images, and accuracy on them, clean and attacked."""

import keras
import numpy as np
import pytest

from tfrobust import attacks
from tfrobust.evaluation import evaluate, shift
from tfrobust.evaluation.tables import shifts

DIRECTIONS = ("left", "right", "up", "down")


def halves():
    """A classifier of 6x6 images: 0 where the left half is brighter, 1 where the right half is."""
    inputs = keras.Input((6, 6, 1))
    dense = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(inputs, {"logits": dense(keras.layers.Flatten()(inputs))})
    left = np.tile(np.repeat([1.0, -1.0], 3), 6)
    dense.set_weights([np.stack([left, -left], axis=-1).astype("float32")])
    return model


def stripes():
    """Images with one bright column each, a little dimmer from image to image, and their classes."""
    columns = np.array([0, 1, 4, 5])
    x = np.zeros((4, 6, 6, 1), "float32")
    x[np.arange(4), :, columns] = np.array([1.0, 0.9, 0.8, 0.7])[:, None, None]
    return x, (columns > 2).astype("int32")


def test_a_shift_moves_a_known_image_and_fills_with_background():
    x = np.arange(1, 10, dtype="float32").reshape(1, 3, 3, 1)
    moved = {direction: np.asarray(shift(x, direction, 1, fill=-1.0))[0, :, :, 0].tolist() for direction in DIRECTIONS}
    assert moved == {
        "left": [[2, 3, -1], [5, 6, -1], [8, 9, -1]],
        "right": [[-1, 1, 2], [-1, 4, 5], [-1, 7, 8]],
        "up": [[4, 5, 6], [7, 8, 9], [-1, -1, -1]],
        "down": [[-1, -1, -1], [1, 2, 3], [4, 5, 6]],
    }


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_shift_is_numpys_roll_where_nothing_wraps(direction):
    x = np.random.default_rng(0).random((2, 7, 5, 3), "float32")
    inner = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    axis, way = {"left": (2, -1), "right": (2, 1), "up": (1, -1), "down": (1, 1)}[direction]
    np.testing.assert_array_equal(shift(inner, direction, 2), np.roll(inner, 2 * way, axis=axis))
    there_and_back = shift(shift(inner, direction, 2), DIRECTIONS[DIRECTIONS.index(direction) ^ 1], 2)
    np.testing.assert_array_equal(there_and_back, inner)


def test_accuracy_on_shifted_images_is_the_closed_form():
    x, y = stripes()
    table = shifts(halves(), (x, y), pixels=2, verbose=False)
    assert table.rows == ("unshifted", "shifted left", "shifted right", "shifted up", "shifted down")
    # To the left column 4 becomes 2: wrong; 0 and 1 are gone, and the tie of an empty image is class 0; 5 becomes 3. To
    # the right column 1 becomes 3: wrong; 4 and 5 are gone: wrong.
    np.testing.assert_allclose(list(table.flat().values()), [1, 0.75, 0.25, 1, 1])
    assert table.flat()["shifted left"] == 0.75


def test_attacked_columns_are_evaluations_of_the_shifted_images():
    x, y = stripes()
    attack = {"FGSM": "fgsm", "PGD-3": {"name": "pgd", "steps": 3, "start": "uniform"}}
    table = shifts(halves(), (x, y), pixels=1, attack=attack, eps=0.22, verbose=False)
    assert table.columns == ("clean", "FGSM", "PGD-3", "worst case")
    for direction in ("left", "down"):
        moved = np.asarray(shift(x, direction, 1))
        report = evaluate(halves(), (moved, y), attacks=attack, eps=0.22, probes=0, verbose=False)
        assert table[f"shifted {direction}", "clean"] == report.clean_accuracy
        assert table[f"shifted {direction}", "PGD-3"] == report.attacks[1].accuracy
        assert table[f"shifted {direction}", "worst case"] == report.robust_accuracy
    # 18 pixels of 0.22 outweigh a column of 6 whose brightness less 0.22 is below 0.66: the two dimmest images.
    assert table["unshifted", "FGSM"] == 0.5


@pytest.mark.parametrize(
    "attack",
    [{"name": "fgsm"}, *(pytest.param(form, marks=pytest.mark.slow) for form in (["fgsm"], attacks.fgsm(0.05)))],
    ids=["config", "list", "instance"],
)
def test_one_attack_is_given_in_any_form(attack):
    table = shifts(halves(), stripes(), pixels=1, attack=attack, eps=0.05, verbose=False)
    assert table.columns == ("clean", "fgsm")


def test_what_is_no_shift_is_refused():
    x, y = stripes()
    for pixels in (0, 6, -1, 1.5):
        with pytest.raises(ValueError, match=r"^Invalid value for `pixels`: expected an integer of at least 1"):
            shifts(halves(), (x, y), pixels=pixels, verbose=False)
    with pytest.raises(
        ValueError, match=r"^Unknown direction: expected one of down, left, right, up. Received: 'north'"
    ):
        shift(x, "north", 1)
    with pytest.raises(ValueError, match=r"^`attack` needs `eps`"):
        shifts(halves(), (x, y), pixels=1, attack="fgsm", verbose=False)
