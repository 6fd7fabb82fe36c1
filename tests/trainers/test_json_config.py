"""`--config=FILE.json`: the fields of a Python config, their order, overrides, and what is no config."""

import importlib
import json
import os
import subprocess
import sys
import warnings

import pytest
from absl import flags

from commands import cli
from commands.config_flag import define_config
from commands.workdir import Workdir
from trainers.configs import digits
from trainers.train import CONFIGS

DEFAULT = str(CONFIGS / "digits.py")

ROWS = [("digits", "trades"), ("digits", "aelfs"), ("aelf_t2", "aelfs"), ("fpr_v2_t2", "madry"), ("thesis_t4_3", "dra")]


def parsed(file, *overrides):
    """The config as a command makes it of its flags."""
    values = flags.FlagValues()
    arguments = ["command", *([f"--config={file}"] if file else []), *(f"--config.{text}" for text in overrides)]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(sys, "argv", arguments)  # where ml_collections looks for overrides
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it loads a Python file
        define_config(DEFAULT, CONFIGS, flag_values=values)
        values(arguments)
    return values.config


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "best.json"
    path.write_text(json.dumps(digits.get_config("trades").to_dict()))
    return path


@pytest.mark.parametrize(("module", "row"), ROWS)
def test_a_config_comes_back_as_it_was_written(module, row, tmp_path):
    written = json.dumps(importlib.import_module(f"trainers.configs.{module}").get_config(row).to_dict())
    (tmp_path / "config.json").write_text(written)
    assert json.dumps(parsed(tmp_path / "config.json").to_dict()) == written


def test_a_file_that_is_older_than_a_field_gets_its_default(file):
    written = json.loads(file.read_text())
    del written["weight_decay_on"], written["data"]["image_size"]
    file.write_text(json.dumps(written))
    assert parsed(file).to_dict() == digits.get_config("trades").to_dict()
    folder = Workdir(file.parent)
    folder.config.write_text(json.dumps(written))
    folder.check(digits.get_config("trades").to_dict())  # the run goes on


def test_any_field_is_overridden(file):
    config = parsed(file, "objective.beta=3", "data.image_size=(16,16)", "search.min_clean_accuracy=0.8", "epochs=2")
    assert (config.objective.beta, config.data.image_size, config.epochs) == (3.0, (16, 16), 2)
    assert config.search.min_clean_accuracy == 0.8 and config.data.steps_per_epoch is None
    space = [{"field": "objective.beta", "values": [1.0, 2.0]}]
    assert parsed(file, f"search.space={tuple(space)}").search.space == tuple(space)
    assert parsed(file, "evaluation.norm=l2").evaluation.norm == "l2"
    assert parsed(file, "attack.eps=8/255", "attack.step_size=2/255").attack.eps == 8 / 255


def test_phases_of_a_json_config_are_overridden(tmp_path):
    (tmp_path / "two.json").write_text(json.dumps(digits.get_config("aelfs").to_dict()))
    assert parsed(tmp_path / "two.json", "phases[0].epochs=3").phases[0]["epochs"] == 3


def test_python_configs_and_the_default_are_read_as_before():
    assert parsed(f"{DEFAULT}:mart").objective.name == "mart"
    assert parsed(None).to_dict() == digits.get_config().to_dict()
    assert parsed(None, "objective.label_smoothing=0.5").objective.label_smoothing == 0.5


@pytest.mark.parametrize("override", ["objective.gamma=3", "epoch=3"])
def test_an_unknown_field_is_refused(file, override):
    with pytest.raises((AttributeError, KeyError), match=override.split("=")[0].split(".")[-1]):
        parsed(file, override)


@pytest.mark.parametrize(
    ("text", "received"),
    [
        (None, "best.json, where no file is"),
        ('{"seed": 0,', "Expecting property name"),
        ("", "Expecting value"),
        ("[1, 2]", "expected a config as JSON, its fields and their values. Received: list"),
    ],
)
@pytest.mark.parametrize("command", ["trainers.train", "tuning.search"])
def test_what_is_no_config_is_one_line(text, received, command, tmp_path):
    path = tmp_path / "best.json"
    if text is not None:
        path.write_text(text)
    arguments = [f"--config={path}", "--config.epochs=3", f"--workdir={tmp_path / 'run'}"]
    environment = {**os.environ, "TFROBUST_TRACEBACK": ""}
    done = subprocess.run(
        [sys.executable, "-m", command, *arguments], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == cli.MISUSE and done.stdout == ""
    assert received in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()
