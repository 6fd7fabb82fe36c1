"""Every drawing has a title, units and scales, tells lines apart without colour, and is the same twice."""

import base64

import numpy as np
import pytest

from tfrobust.evaluation import Table
from tfrobust.interpret import Embedding, Relevance, hard_classes_of, plots
from tfrobust.utils import charts


def table(columns, figures, **settings):
    rows = tuple(f"model {i}" for i in range(len(figures)))
    return Table("t", rows, columns, figures, settings, 50, 0, {})


def relevance(correlation):
    return Relevance(np.linspace(0.1, 0, 16), np.linspace(0, 1, 16), correlation, -0.7, -0.5, 20, 0)


COUNTS = [[5, 30, 0], [15, 5, 15], [0, 0, 9]]
RNG = np.random.default_rng(0)
SOME = RNG.random((3, 8, 8, 3))
FOUND = Embedding(RNG.normal(size=(24, 2)), np.arange(24) % 3, np.arange(24) % 2, np.arange(24) >= 12)
FIGURES = {
    "grid": lambda: plots.grid(
        {"image": SOME, "map": SOME[..., 0], "signed": SOME[..., 0] - 0.3},
        "Maps",
        ["a", "b", "$c_1"],
    ),
    "gradient_map_test": lambda: plots.gradient_map_test(
        dict.fromkeys(("train", "test"), table(("raw", "clipped"), ((0.2, 0.3), (0.0, 1.0))))
    ),
    "relevance": lambda: plots.relevance({"one": relevance(-0.6), "two": relevance(-0.2)}),
    "hard_classes": lambda: plots.hard_classes(hard_classes_of(COUNTS), ["cat", "dog", "$car_1"]),
    "agreement": lambda: plots.agreement(hard_classes_of(COUNTS).shares, np.eye(3)),
    "weight_norms": lambda: plots.weight_norms({"one": np.arange(1.0, 4), "two": np.ones(3)}, ["cat", "dog", "car"]),
    "embedding": lambda: plots.embedding(FOUND),
    "coverage": lambda: plots.coverage(table(("0.1", "0.5"), ((0.4, 0.1), (0.3, 0.2)), normalized=True)),
    "attack_strength": lambda: plots.attack_strength(table(("0", "1", "10"), ((0.9, 0.5, 0.1), (0.9, 0.6, 0.2)))),
    "dra_success": lambda: plots.dra_success(table(("0.1", "1"), ((0.4, None), (0.3, 0.2)), eps=1 / 255)),
    "perturbation_distances": lambda: plots.perturbation_distances(table(("a", "b"), ((0.0, 1.0), (1.0, 0.0)))),
}


def test_every_drawing_is_tested():
    drawings = {name for name, value in vars(plots).items() if getattr(value, "__module__", "") == plots.__name__}
    assert {name for name in drawings if not name.startswith("_")} == set(FIGURES)


@pytest.fixture(scope="module")
def figures():
    return {name: draw() for name, draw in FIGURES.items()}


@pytest.mark.parametrize("name", FIGURES)
def test_drawings_say_what_they_show(figures, name):
    figure = figures[name]
    axes = figure.axes
    assert figure.get_suptitle() or axes[0].get_title()
    if name == "grid":
        assert [ax.get_ylabel() for ax in axes[::2]] == ["image", "map", "signed"]
        assert [ax.axison for ax in axes[1::2]] == [False, True, True]  # scales of the maps alone
        assert [text.get_text() for text in axes[0].get_xticklabels()] == ["a", "b", "$c_1"]
    elif name == "perturbation_distances":
        assert axes[1].get_ylabel() == "mean L2 distance (pixel range)"
    else:
        assert axes[0].get_xlabel() and (axes[0].get_ylabel() or name == "gradient_map_test")
    looks = [(line.get_color(), line.get_marker()) for line in axes[0].get_lines() if len(line.get_xdata()) > 2]
    for part in (0, 1):
        assert len({look[part] for look in looks}) == len(looks)
    uri = charts.uri(FIGURES[name]())
    assert uri == charts.uri(FIGURES[name]())
    assert base64.b64decode(uri.partition(",")[2]).startswith(b"<?xml")


def test_a_row_of_maps_has_one_scale(figures):
    _, positive, signed = figures["grid"].axes[::2]
    (shown,), (around,) = positive.get_images(), signed.get_images()
    assert shown.get_clim()[0] == 0.0 and shown.get_cmap().name == "cividis"
    low, high = around.get_clim()
    assert low == -high and around.get_cmap().name == "PuOr"
    assert shown.get_array().shape == (8, 27)
    with pytest.raises(ValueError, match=r"Received: shape \(3, 8\)"):
        plots.grid({"flat": np.zeros((3, 8))})
