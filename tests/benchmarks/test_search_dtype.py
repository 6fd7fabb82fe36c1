"""The benchmark of searches in 16 bits: its cases, its table, its place in the documents. No training."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import documents, search_dtype
from commands.cli import Misuse

ROOT = Path(__file__).parents[2]


def runs(robust, seconds):
    return [{"clean": 0.9, "robust": share, "seconds": seconds} for share in robust]


RESULTS = {
    "command": "python -m benchmarks.search_dtype --cases=digits-madry",
    "machine": {"processor": "a processor", "cores": 2, "system": "Linux"},
    "versions": {"tensorflow": "2.21.0"},
    "suite": "standard",
    "images": 200,
    "units": True,
    "cases": {
        "digits-madry": {
            **search_dtype.CASES["digits-madry"]._asdict(),
            "runs": {"float32": runs([0.8, 0.7], 2.0), "bfloat16": runs([0.79, 0.73], 1.5)},
        }
    },
}


def test_a_table_holds_means_differences_of_the_same_seed_and_times():
    text = search_dtype.tables(RESULTS)
    assert "| digits-madry | float32 | 2 | 90.0 ± 0.0 | 75.0 ± 7.1 | 1.00 |" in text
    assert "| digits-madry | bfloat16 | 2 | 90.0 ± 0.0 | 76.0 ± 4.2 | 0.75 |" in text
    assert "- digits-madry, eps 0.15, 40 epochs: bfloat16 changes the worst case by 1.0 ± 2.8 points." in text
    assert RESULTS["command"] in text and "at most 200 test images" in text


def test_emulated_times_are_left_out_and_said_to_be():
    text = search_dtype.tables({**RESULTS, "units": False})
    assert "| bfloat16 | 2 | 90.0 ± 0.0 | 76.0 ± 4.2 |  |" in text and "emulates them: times are left out" in text
    untimed = {**RESULTS["cases"]["digits-madry"], "runs": {d: runs([0.8], None) for d in search_dtype.DTYPES}}
    assert "| bfloat16 | 1 | 90.0 | 80.0 |  |" in search_dtype.tables({**RESULTS, "cases": {"a": untimed}})


def test_flags_choose_cases_epochs_and_seeds(monkeypatch):
    given = SimpleNamespace(cases=["mnist-madry"], epochs=0, seeds=2)
    monkeypatch.setattr(search_dtype.flags, "FLAGS", given)
    assert search_dtype.chosen_cases() == {"mnist-madry": search_dtype.CASES["mnist-madry"]._replace(seeds=2)}
    given.cases = ["mnist"]
    with pytest.raises(Misuse, match=r"Unknown case: expected one of .* Received: 'mnist'"):
        search_dtype.chosen_cases()


def test_the_seconds_of_a_resumed_training_are_added_and_first_epochs_are_not(tmp_path):
    for already in (0, 2):
        clock = search_dtype.clock_of(tmp_path / "seconds.json")
        assert len(clock.seconds) == already
        for epoch in range(3):
            clock.on_epoch_end(epoch)
    assert len(json.loads((tmp_path / "seconds.json").read_text())) == 4


def test_the_page_has_a_place_and_holds_the_figures_that_were_written():
    page, figures = ROOT / "docs" / "performance.md", ROOT / "benchmarks" / "results" / "search_dtype.json"
    block = page.read_text().partition(search_dtype.BEGIN)[2].partition(documents.END)[0].strip()
    assert block == (search_dtype.tables(json.loads(figures.read_text())) if figures.exists() else "Not measured yet.")
