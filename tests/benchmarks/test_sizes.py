"""The benchmark of sizes: its count of arithmetic, its rows, its tables."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

import tfrobust
from benchmarks import documents, sizes
from benchmarks.floor import multiply_adds

ROOT = Path(__file__).parents[2]


def row(kind, pixels=32, classes=10, images=4, **changes):
    measured = {"seconds": 0.02, "floor": 0.016, "memory": 123.4, "flop": 5e8, "convolution": 100e9, **changes}
    return {"kind": kind, "pixels": pixels, "classes": classes, "images": images, **measured}


def results():
    found = {sizes._name(case): row(*case) for cases in sizes.CASES.values() for case in cases}
    evaluated = {name: {**kept, "evaluation": 7.0} for name, kept in found.items() if name.startswith("quick")}
    return {
        "command": "python -m benchmarks.sizes",
        "machine": {"processor": "a processor", "cores": 2, "system": "Linux"},
        "versions": {"tensorflow": "2.21.0"},
        "settings": {"repeats": 3, "filters": 16, "steps": sizes.STEPS, "batch": 4},
        "rows": {"peaks": {"matrix product": [40e9, 3e9], "convolution": [100e9, 5e9]}, **found, **evaluated},
    }


def test_multiplications_of_convolutions_and_dense_layers_are_counted():
    inputs = keras.Input((6, 8, 3))
    x = keras.layers.Conv2D(5, (3, 2), 2, padding="same")(inputs)  # 3 x 4 positions
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(x)
    x = keras.layers.Conv2D(4, 1)(x)
    outputs = tfrobust.layers.ClassActivationMap(units=7)(keras.layers.GlobalAveragePooling2D()(x), feature_map=x)
    by_hand = 12 * (3 * 2 * 3 * 5) + 12 * (3 * 3 * 5 * 2) + 12 * (10 * 4) + 4 * 7  # the map of each class is left out
    assert multiply_adds(keras.Model(inputs, outputs)) == by_hand


def test_a_layer_counts_as_often_as_it_is_called():
    inputs, dense = keras.Input((1, 1, 4)), keras.layers.Dense(4)
    flat = keras.layers.Flatten()(inputs)
    assert multiply_adds(keras.Model(inputs, {"logits": dense(dense(flat))})) == 2 * 16


def test_the_narrow_network_has_the_usual_shape():
    narrow = tfrobust.models.get("resnet18", filters=4, classes=3, input_shape=(16, 16, 3))
    assert narrow.output["features"].shape[-1] == 32 and narrow.output["feature_map"].shape[1:3] == (2, 2)
    with pytest.raises(ValueError, match="`filters`"):
        tfrobust.models.get("resnet18", filters=0)


def test_a_label_is_ahead_of_all_other_classes():
    case = sizes.Case("quick", 8, 3, 2)
    x, y = sizes._images(case)
    logits = sizes._ahead(case)(x)["logits"].numpy()
    np.testing.assert_array_equal(logits.argmax(axis=-1), y)
    assert np.all(logits[:, 0] - logits[:, 1:].max(axis=-1) > 0.9 * sizes.ALWAYS)


def test_rows_that_are_kept_are_not_measured_again(tmp_path):
    kept, calls = tmp_path / "deep" / "rows.json", []

    def measure(name):
        if name == "c" and len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(name)
        return {"value": len(calls)}

    measures = {name: (lambda name=name: measure(name)) for name in "abc"}
    with pytest.raises(KeyboardInterrupt):
        documents.resumed(kept, measures)
    calls.append("killed")
    assert documents.resumed(kept, measures) == {"a": {"value": 1}, "b": {"value": 2}, "c": {"value": 4}}
    assert calls == ["a", "b", "killed", "c"]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone tells it")
def test_growth_is_the_most_memory_that_a_function_takes():
    assert 60 < documents.growth(lambda: np.ones(64 * 2**20, "uint8")) < 90


def test_tables_hold_rates_and_ratios():
    text = sizes.tables(results())
    assert "| matrix product | 40 | 3 |" in text
    assert "Madry's step, PGD-2:" in text and "FAB-T, 3 steps to each of 9 classes:" in text
    assert "| 224x224 | 10 | 2 | 20.0 | 1.25 | 123 | 0.50 | 25 | 25 % |\n" in text
    assert "| 32x32 | 1000 | 4 | 20.0 | 1.25 | 123 | 0.50 | 25 | 25 % | 7 |" in text
    assert "`python -m benchmarks.sizes`" in text and "a processor, 2 cores" in text


def test_the_page_holds_the_figures_that_were_written():
    page, figures = ROOT / "docs" / "performance.md", ROOT / "benchmarks" / "results" / "sizes.json"
    block = page.read_text().partition(sizes.BEGIN)[2].partition(documents.END)[0].strip()
    assert block == (sizes.tables(json.loads(figures.read_text())) if figures.exists() else "Not measured yet.")


@pytest.mark.slow
def test_a_step_and_searches_are_measured():
    for kind, images in (("step", 2), ("quick", 5), ("FAB-T", 2), ("DeepFool", 2)):
        found = sizes.MEASURES.get(kind, sizes.search)(1, kind, 8, 3, images)
        assert (found["kind"], found["images"]) == (kind, images)
        assert found["seconds"] > 0 and found["floor"] > 0
    classifier = tfrobust.models.get("resnet18", filters=sizes.FILTERS, classes=3, input_shape=(8, 8, 3))
    assert sizes.step(1, "step", 8, 3, 2)["flop"] == 7 * 2 * multiply_adds(classifier)
