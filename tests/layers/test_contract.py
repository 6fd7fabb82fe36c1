"""What every layer keeps: config and file round trips, mixed precision, shape errors in words. A row for each."""

import functools

import keras
import numpy as np
import pytest

from tfrobust import layers

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (2, 5, 4, 3)).astype("float32")
VECTORS = RNG.normal(size=(3, 6)).astype("float32")
OTHERS = RNG.normal(size=(3, 5)).astype("float32")
MAPS = RNG.normal(size=(3, 4, 5, 6)).astype("float32")
LABELS = np.array([1, 0, 1], "int32")

HEAD = r"expected shape \(batch, "
WRONG_MAPS = [(MAPS, MAPS), (VECTORS[0], MAPS), (VECTORS, VECTORS), (VECTORS, MAPS[..., :5])]
ATTENTION = r"(expected shape \(batch, height, width, .* last convolution|`global_feature` .* expected shape \(batch, )"
WRONG_ATTENTION = [(VECTORS, VECTORS), (MAPS[0], VECTORS), (MAPS, MAPS), (MAPS, VECTORS[0]), (MAPS, VECTORS[:2])]


def head(units, bias, form):
    return layers.ClassActivationMap(keras.layers.Dense(units, use_bias=bias), form=form)


# Layer, makes one, arguments of its call, such that it refuses before and after it is built, the words of the refusal.
TABLE = [
    *(
        ("ClassActivationMap", functools.partial(head, units, bias, form), (VECTORS, MAPS), WRONG_MAPS, HEAD)
        for form in ("clipped", "signed", "grad_cam")
        for units in (1, 4)
        for bias in (True, False)
    ),
    ("ClassActivationMap", functools.partial(head, 4, True, "clipped"), (VECTORS,), [(MAPS,)], HEAD),
    (
        "ClassActivationMap",
        functools.partial(head, 4, True, "clipped"),
        (VECTORS, MAPS, LABELS),
        [(VECTORS, MAPS, LABELS[None]), (VECTORS, MAPS, VECTORS[:, 0])],
        r"expected integers of shape \(batch,\)",
    ),
    *(
        ("LinearAttention", functools.partial(layers.LinearAttention, form), (MAPS, g), WRONG_ATTENTION, ATTENTION)
        for form in ("sum", "dot")
        for g in (VECTORS, OTHERS)
    ),
    *(
        ("NonlinearAttention", functools.partial(layers.NonlinearAttention, 7), (MAPS, g), WRONG_ATTENTION, ATTENTION)
        for g in (VECTORS, OTHERS)
    ),
    *(
        ("NormalizedCosineSoftmax", functools.partial(layers.NormalizedCosineSoftmax, 4, scale), inputs, wrong, HEAD)
        for scale in (5.0, None)
        for inputs in ((VECTORS,), (VECTORS, MAPS))
        for wrong in ([(MAPS,), (VECTORS[0],)],)
    ),
    (
        "Standardize",
        layers.Standardize,
        (IMAGES,),
        [(IMAGES[0],), (IMAGES[0, 0],), (IMAGES[None],)],
        r"\(batch, height, width, channels\)",
    ),
]


@pytest.mark.parametrize(("name", "make", "inputs", "wrong", "words"), TABLE)
def test_keeps_the_contract(check_layer, name, make, inputs, wrong, words):
    assert type(make()).__name__ == name
    check_layer(make, inputs, wrong, words)


def test_every_layer_has_a_row():
    assert {name for name, *_ in TABLE} == {*layers.__all__} - {"last"}
    public = {name for name in dir(layers) if isinstance(getattr(layers, name), type)}
    assert public == {*layers.__all__} - {"last"}
