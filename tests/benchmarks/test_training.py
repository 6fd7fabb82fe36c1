"""The benchmark of training: its floors, its tables, its parts that need no other library."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import tfrobust
from benchmarks import documents, training
from benchmarks.floor import Floor, network, step_function
from benchmarks.steps import LIBRARIES, Bench, Ours, Settings
from commands.cli import Misuse

ROOT = Path(__file__).parents[2]
TINY = Settings(batch_size=4, image_size=8, repeats=1, threads=1, steps=2)
SECONDS = {"gradients_10": 1000.0, "forward": 100.0, "update_of_1_forward": 1.0, "update_of_2_forwards": 2.0}
RESULTS = {
    "command": "python -m benchmarks.training --repeats=3",
    "machine": {"processor": "a processor", "cores": 2, "system": "Linux"},
    "versions": {"tensorflow": "2.21.0", "torch": "2.13.0"},
    "settings": {"batch_size": 100, "image_size": 32, "repeats": 3, "threads": 2, "steps": 10},
    "differences": {"torch madry": [0.0001, 0.02], "art madry": [0.0002, 0.01]},
    "seconds": {"tfrobust madry": 2.1, "torch madry": 3.15, "tfrobust pgd": 1.8},
    "floors": {"madry": 2.0, "pgd": 2.0},
    "scaling": {"1": 1.9, "2": 2.0},
    "pipeline": 0.021,
    "profile": {"Conv2D": 0.75, "Mul": 0.25},
    "memory": {"torch madry": 123.4},
}


@pytest.mark.parametrize(
    ("objective", "steps", "floor"),
    [("standard", 10, 1.0), ("madry", 10, 1001.0), ("madry", 4, 401.0), ("trades", 10, 1102.0), ("awp", 10, 1002.0)],
)
def test_a_floor_is_gradients_and_the_forwards_that_are_read(objective, steps, floor):
    attack = tfrobust.attacks.pgd(eps=0.1, steps=steps)
    assert Floor.of(tfrobust.objectives.get(objective), attack, SECONDS, network(8)) == floor


def test_a_step_returns_the_loss_of_its_own_batch_and_weights():
    bench = Bench(TINY)
    data = tf.constant(bench.x), tf.constant(bench.y)
    classifier, fresh = bench.classifier(), bench.classifier()
    step = step_function(classifier, "standard", None, data, learning_rate=0.1)
    first = step()
    fresh.set_weights(classifier.get_weights())
    second = step()
    assert second < first
    np.testing.assert_allclose(step_function(fresh, "standard", None, data)(), second, rtol=1e-6)


def test_a_search_stays_in_the_ball():
    bench = Bench(TINY)
    assert 0 < np.abs(Ours(bench, "madry").search() - bench.x).max() <= TINY.eps + 1e-6


@pytest.fixture
def eagerly():
    """Functions run eagerly in the test: a single step takes less time than its tracing."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.mark.parametrize(
    ("library", "dtype"), [("tfrobust_search_bfloat16", "float32"), ("tfrobust_mixed_bfloat16", "bfloat16")]
)
def test_steps_in_16_bits_take_the_same_step(library, dtype, eagerly):
    bench = Bench(TINY)
    single, half = (LIBRARIES[name](bench, "madry", checked=True) for name in ("tfrobust", library))
    assert half.step() == pytest.approx(single.step(), rel=training.SAME_IN_BFLOAT16)
    found, expected = half.search(), single.search()
    assert found.dtype == np.float32 and np.abs(found - bench.x).max() <= TINY.eps + 1e-6
    assert 0 < np.abs(found - expected).mean() < TINY.eps / 2  # another search, of nearly the same images
    classifier = bench.classifier(LIBRARIES[library].policy)
    assert classifier(bench.x)["features"].dtype == dtype


def test_tables_hold_ratios_of_what_was_measured():
    text = training.tables(RESULTS)
    assert "| Madry, PGD-10 | floor | 2000 | 50.0 | 1 | |" in text
    assert "| Madry, PGD-10 | tfrobust | 2100 | 47.6 | 1.050 |  |" in text
    assert "| Madry, PGD-10 | PyTorch loop | 3150 | 31.7 | 1.575 | 1.50 times |" in text
    assert "| PGD-10 alone | tfrobust | 1800 | 55.6 | 0.900 |  |" in text
    assert "TRADES" not in text  # not measured
    assert "of 1, on the same cores | 0.950 |" in text
    assert "| its share of Madry's step | 1.00 % |" in text
    assert "Madry, PGD-10, PyTorch loop | 123 MB |" in text
    assert "first 2 steps, away from ours at most by | 0.020, 2.000 % |" in text
    assert "Conv2D 75 %, Mul 25 %" in text
    assert RESULTS["command"] in text and "torch 2.13.0" in text


def test_rows_in_16_bits_stand_beside_the_others_and_the_fastest_are_compared():
    seconds = {**RESULTS["seconds"], "tfrobust_search_bfloat16 madry": 1.2, "torch_autocast madry": 1.8}
    text = training.tables({**RESULTS, "seconds": seconds})
    assert "| Madry, PGD-10 | tfrobust, searches in bfloat16 | 1200 | 83.3 | 0.600 |  |" in text
    assert (
        "| Madry, PGD-10 | PyTorch loop, channels last, autocast to bfloat16 | 1800 | 55.6 | 0.900 | 0.86 times |"
        in text
    )
    of = "PyTorch loop, channels last, autocast to bfloat16"
    assert f"the fastest of PyTorch ({of}) over tfrobust, searches in bfloat16 | 1.50 times |" in text


class Uncompilable:
    def __init__(self, bench, method):
        raise RuntimeError("no working C++ | compiler\nwas found")


def test_a_row_says_why_a_compiled_loop_does_not_build(monkeypatch):
    monkeypatch.setattr(training, "bench_of", Bench)
    monkeypatch.setitem(LIBRARIES, "torch_compile", Uncompilable)
    reason = training.unbuilt(TINY, "torch_compile")
    assert reason == "RuntimeError: no working C++ / compiler was found"
    assert training.unbuilt(TINY, "tfrobust") == ""
    monkeypatch.undo()
    text = training.tables({**RESULTS, "unbuilt": {"torch_compile": reason}})
    row = f"| Madry, PGD-10 | PyTorch loop, channels last, compiled | | | | does not build here: {reason} |"
    assert row in text


def test_every_library_has_a_title_and_says_whether_it_computes_in_16_bits():
    assert set(LIBRARIES) <= set(training.TITLES)
    assert {name for name, library in LIBRARIES.items() if library.bfloat16} == {
        name for name in LIBRARIES if "bfloat16" in training.TITLES[name]
    }


def test_tables_take_their_place_in_a_document_and_nothing_else_changes(tmp_path):
    document = tmp_path / "page.md"
    document.write_text(f"Before.\n{training.BEGIN}\nold\n{documents.END}\nAfter.\n")
    for text in ("one", "two"):
        documents.write(document, training.BEGIN, text)
        assert document.read_text() == f"Before.\n{training.BEGIN}\n\n{text}\n\n{documents.END}\nAfter.\n"


@pytest.mark.parametrize("text", ["no marks", training.BEGIN, f"{documents.END}{training.BEGIN}"])
def test_a_document_without_a_place_is_left_alone(text, tmp_path):
    document = tmp_path / "page.md"
    document.write_text(text)
    with pytest.raises(ValueError, match="has no place for the tables: expected a line"):
        documents.write(document, training.BEGIN, "one")
    assert document.read_text() == text


def test_the_page_has_a_place_and_holds_the_figures_that_were_written():
    page, figures = ROOT / "docs" / "performance.md", ROOT / "benchmarks" / "results" / "training.json"
    block = page.read_text().partition(training.BEGIN)[2].partition(documents.END)[0].strip()
    assert block == (training.tables(json.loads(figures.read_text())) if figures.exists() else "Not measured yet.")


class Half(Ours):
    """Takes half of the steps."""

    def __init__(self, bench, method, checked):
        settings = bench.settings
        bench.settings = settings._replace(steps=settings.steps // 2)
        super().__init__(bench, method, checked)
        bench.settings = settings


def test_another_method_is_told_from_the_same(monkeypatch):
    monkeypatch.setattr(training, "bench_of", Bench)
    monkeypatch.setattr(training, "METHODS", ("madry",))
    monkeypatch.setattr(Ours, "methods", ("madry",))
    monkeypatch.setitem(training.LIBRARIES, "same", Ours)
    monkeypatch.setitem(training.LIBRARIES, "half", Half)
    with pytest.raises(ValueError, match="half does not take the same step of madry: expected losses within"):
        training.differences(TINY._replace(eps=0.1, step_size=0.05, peers=("same", "half")))


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        ("jax", f"Invalid value for --peers: expected some of {', '.join(list(LIBRARIES)[1:])}. Received: jax"),
        (
            "tfrobust",
            f"Invalid value for --peers: expected some of {', '.join(list(LIBRARIES)[1:])}. Received: tfrobust",
        ),
        ("nobody", r"nobody is not installed: expected pip install 'tfrobust\[peers\]', or --peers= for none."),
    ],
)
def test_libraries_that_are_not_there_are_refused_before_anything_runs(peer, text, monkeypatch):
    if peer == "nobody":
        monkeypatch.setitem(training.LIBRARIES, peer, SimpleNamespace(module=peer))
    with pytest.raises(Misuse, match=text):
        training.settings_of(SimpleNamespace(peers=[peer]))


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.training", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_one_command_measures_everything_and_writes_it(tmp_path):
    figures, document = tmp_path / "figures.json", tmp_path / "page.md"
    document.write_text(f"{training.BEGIN}\n{documents.END}\n")
    done = command("--peers=", "--batch_size=4", "--image_size=8", "--repeats=1", "--threads=1", f"--out={figures}")
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(figures.read_text())
    assert {"tfrobust madry", "tfrobust trades", "tfrobust pgd", "gradients_10"} <= set(results["seconds"])
    assert set(results["floors"]) == {"madry", "trades", "pgd"}
    assert set(results["scaling"]) == {"1", "2"} and results["pipeline"] > 0
    assert results["differences"] == {} and any("Conv2D" in kind for kind in results["profile"])
    assert results["versions"]["tfrobust"] == tfrobust.__version__ and results["settings"]["batch_size"] == 4
    assert command(f"--out={figures}", f"--write={document}").returncode == 0
    assert training.tables(results) in document.read_text()
