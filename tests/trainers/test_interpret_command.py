"""`tfrobust interpret`: a page for several runs, and mistakes in one line."""

import json
import subprocess
import sys

import pytest

import tfrobust
from commands.config import GRADIENT_MAPS
from tfrobust.interpret import Study
from tfrobust.interpret.sections import Section
from trainers import interpret

PAPER = dict(zip(GRADIENT_MAPS, (27.1, 26.78, 28.6, 28.72), strict=True))
CONFIG = {
    "data": {"name": "digits", "validation": 0.1, "image_size": None},
    "objective": {"name": "standard"},
    "evaluation": {"attacks": "", "norm": None, "eps": 0.15},
}


def command(*arguments, timeout=300):
    line = [sys.executable, "-m", "trainers.interpret", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=timeout)


def workdir(path, classifier=None, **changes):
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    if classifier is None:
        (path / "classifier.keras").write_bytes(b"PK\x05\x06" + bytes(18))  # an empty archive
    else:
        classifier.save(path / "classifier.keras")
    return path


@pytest.mark.slow
def test_two_runs_make_one_page(tmp_path):
    small = tfrobust.models.get("digits", features=8)
    runs = [workdir(tmp_path / "one", small, paper=PAPER), workdir(tmp_path / "two", small)]
    done = command(*(f"--workdir={run}" for run in runs), "--images=20")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(runs[0] / "interpretation.html")
    page = (runs[0] / "interpretation.html").read_text()
    numbers = json.loads((runs[0] / "interpretation.json").read_text())
    assert numbers["settings"]["classifiers"] == ["one", "two"] and "one, two" in page
    assert numbers["settings"]["images"] == {"train": 20, "test": 20} and numbers["settings"]["eps"] == 0.15
    assert (
        numbers["gradient_map_test"]["test"]["figures"]["one"] == numbers["gradient_map_test"]["test"]["figures"]["two"]
    )
    measured = numbers["gradient_map_test"]
    expected = [measured[split]["figures"]["one"][form] for form in ("clipped", "raw") for split in ("train", "test")]
    assert beside("\n".join(done.stdout.splitlines()[-7:])) == {"one": [f"{100 * figure:.2f}" for figure in expected]}
    assert numbers["settings"]["judge"] == str(runs[0]) and numbers["settings"]["data"] == "digits"
    assert "attention" in " ".join(numbers["left_out"]["attention_maps"])


def test_the_papers_gradient_maps_stand_beside_the_measured_ones(tmp_path, run_command, monkeypatch):
    runs = [workdir(tmp_path / "madry", paper={"clean": 80.0, **PAPER}), workdir(tmp_path / "own")]
    forms = ("raw", "clipped", "raw, negated", "clipped, negated")
    numbers = {
        split: {"figures": {run.name: dict(zip(forms, figures, strict=True)) for run in runs}}
        for split, figures in (("train", (0.1, 0.2, 0.9, 0.8)), ("test", (0.3, 0.4, 0.7, 0.6)))
    }
    study = Study({"gradient_map_test": Section("", "", numbers=numbers)}, {"classifiers": [run.name for run in runs]})
    monkeypatch.setattr(interpret, "interpret_workdirs", lambda *_, **__: study)
    code, printed, _ = run_command(interpret, *(f"--workdir={run}" for run in runs))
    assert code == 0 and beside(printed) == {"madry": ["20.00", "40.00", "10.00", "30.00"]}


def beside(printed):
    """Returns classifier -> measured figures, which stand beside those of `PAPER` in the order of `GRADIENT_MAPS`."""
    found, lines = {}, iter(printed.splitlines())
    for name in lines:
        if "paper" in next(lines, ""):
            rows = [next(lines) for _ in GRADIENT_MAPS]
            assert {row[:28].strip(): float(row[28:].split()[0]) for row in rows} == PAPER
            found[name] = [row.split()[-2] for row in rows]
    return found


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "Expected --workdir=DIR, as often as there are classifiers. Received: none"),
        (["--workdir={tmp}/a", "--workdir={tmp}/a"], 2, "Expected different runs"),
        (["--workdir={tmp}/a", "--output=page.json"], 2, "Expected --output=FILE.html"),
        (["--workdir={tmp}/a", "--images=1"], 2, "--images=1"),
        (["--workdir={tmp}/nowhere"], 1, "where no file is"),
        (["--workdir={tmp}/a", "--judge={tmp}/nowhere"], 1, "where no file is"),
        (["--workdir={tmp}/a", "--workdir={tmp}/other"], 1, "Expected runs of the same data as"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, code, words):
    workdir(tmp_path / "a")
    workdir(tmp_path / "other", data={**CONFIG["data"], "name": "mnist"})
    done = command(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help_comes_without_tensorflow():
    hidden = "import runpy, sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; sys.argv = ['x', '--help'];"
    line = [sys.executable, "-c", hidden + "runpy.run_module('trainers.interpret', run_name='__main__')"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--workdir" in done.stdout and "--judge" in done.stdout
