"""Attacks of other libraries: what they return is brought back; tests/peers runs the real ones."""

import sys

import numpy as np
import pytest
from keras import ops

from tfrobust import attacks
from tfrobust.attacks.foreign import Foreign, ball_of

X = np.full((4, 2, 2, 1), 0.5, "float32")
Y = np.array([0, 1, 0, 1], "int32")
MASK = np.array([[[1], [0]], [[1], [1]]])


def classify(z):
    score = ops.sum(z - 0.5, axis=(1, 2, 3))
    return {"logits": ops.stack([-score, score], axis=-1)}


def foreign(attacked, eps=0.1, norm="linf", mask=None, kind="white box"):
    settings = {"steps": 3, "eps": eps, "norm": norm, "bounds": (0.0, 1.0)}
    return Foreign("theirs.attack", settings, attacked, ball_of(eps, norm, (0.0, 1.0), mask), kind)


def test_it_is_given_logits_and_labels():
    asked = {}

    def attacked(logits, classes, x, y):
        asked.update(logits=np.asarray(logits(np.asarray(x, "float64"))), classes=classes, y=np.asarray(y))
        return x

    np.testing.assert_array_equal(foreign(attacked)(classify, X, Y), X)
    np.testing.assert_array_equal(asked["logits"], classify(X)["logits"])
    assert asked["classes"] == 2 and (asked["y"] == Y).all()


def test_what_lies_outside_is_not_found():
    moves = np.array([0.05, 0.1 + 5e-7, 0.11, np.nan], "float32")[:, None, None, None]
    z = np.asarray(foreign(lambda logits, classes, x, y: np.asarray(x) + moves)(classify, X, Y))
    np.testing.assert_allclose(z, X + np.array([0.05, 0.1, 0.0, 0.0])[:, None, None, None], atol=1e-7)
    in_l2 = foreign(lambda logits, classes, x, y: np.asarray(x) + moves, eps=0.2, norm="l2")
    np.testing.assert_allclose(in_l2(classify, X, Y), z, atol=1e-6)
    any_size = foreign(lambda logits, classes, x, y: np.asarray(x) + 7 * moves, eps=None)
    np.testing.assert_allclose(np.asarray(any_size(classify, X, Y))[:3, 0, 0, 0], [0.85, 1.0, 1.0], atol=1e-6)


def test_masked_pixels_stay():
    z = np.asarray(foreign(lambda logits, classes, x, y: np.asarray(x) + 0.1, mask=MASK)(classify, X, Y))
    np.testing.assert_allclose(z, X + 0.1 * MASK, atol=1e-7)


def test_what_a_report_reads():
    one = foreign(lambda *_: X, kind="black box")
    assert (one.name, one.kind) == ("theirs.attack", "black box")
    assert one.get_config() == {
        "name": "theirs.attack", "steps": 3, "eps": 0.1, "norm": "linf", "bounds": (0.0, 1.0)
    }  # fmt: skip
    assert repr(one) == "theirs.attack(steps=3, eps=0.1, norm='linf', bounds=(0.0, 1.0))"
    with pytest.raises(ValueError, match="Did you mean 'white box'"):
        foreign(lambda *_: X, kind="whitebox")


@pytest.mark.parametrize(("make", "library"), [(attacks.from_foolbox, "foolbox"), (attacks.from_art, "art")])
def test_a_missing_library_is_named(monkeypatch, make, library):
    for module in [*sys.modules, library]:
        if module.split(".")[0] == library:
            monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{make.__name__} needs {library}: .*pip install tfrobust\[peers\]"):
        make(object(), eps=0.1)
