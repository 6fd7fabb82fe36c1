"""The command `tfrobust`: its list, what it runs, and a folder of one's own that has the name of a package."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setuptools

from commands import imports
from commands.console import COMMANDS
from trainers.configs import digits

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
SCRIPT = """
import sys
from commands.console import main
try:
    main()
finally:
    assert "tensorflow" not in sys.modules
"""


@pytest.fixture
def tfrobust(tmp_path):
    """Starts the script as an installation writes it, without TensorFlow: exit code, stdout, stderr."""
    script = tmp_path / "bin/tfrobust"
    script.parent.mkdir()
    script.write_text(SCRIPT)

    def start(*arguments, folder=tmp_path):
        return ended(sys.executable, str(script), *arguments, folder=folder)

    return start


def ended(*command, folder):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_the_list_of_commands(tfrobust):
    code, out, err = tfrobust("--help")
    assert code == 0 and err == ""
    assert re.findall(r"^  ([\w-]+)  +\w", out, re.MULTILINE) == list(COMMANDS)
    assert tfrobust()[0] == 2


def test_an_unknown_command_has_the_nearest_one(tfrobust):
    code, out, err = tfrobust("trian")
    assert (code, out) == (2, "") and "Received: 'trian'. Did you mean 'train'?" in err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_parts(name):
    module = importlib.import_module(COMMANDS[name].module)
    assert callable(module.main) and callable(module.define_flags)


def test_every_module_that_is_a_command_has_a_name():
    files = [file for top in ("export", "trainers", "tuning") for file in (ROOT / top).rglob("*.py")]
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files if "cli.run(main" in file.read_text()
    }
    assert modules == {command.module for command in COMMANDS.values()}


def test_flags_mistakes_and_exit_codes_are_those_of_the_module(tfrobust):
    code, out, err = tfrobust("train", "--help")
    assert code == 0 and "--workdir: Folder of the run" in out and "--import: MODULE" in out and err == ""
    code, out, err = tfrobust("evaluate")
    assert (code, out) == (2, "") and err == "Expected one of --workdir=DIR and --model=FILE. Received: neither\n"


def test_a_packaged_config_is_found_by_its_name(tfrobust):
    code, out, err = tfrobust("train", "--config=digits:trades", "--list_fields")
    assert code == 0 and "--config.objective.beta=6.0" in out.splitlines(), err
    assert "--config.epochs=10" in tfrobust("search", "--config=digits:mart", "--list_fields")[1].splitlines()
    assert "--config.data.name=cifar10" in tfrobust("search", "--config=fpr_v2_t2:at_reg", "--list_fields")[1]
    code, _, err = tfrobust("train", "--config=digit:trades", "--workdir=x")
    assert code == 2 and "Did you mean 'digits'?" in err and len(err.splitlines()) == 1
    code, _, err = tfrobust("train", "--config=digits:trade", "--workdir=x")
    assert code == 2 and "Unknown row of digits.py" in err and len(err.splitlines()) == 1


def test_a_folder_with_the_name_of_a_package_does_not_matter(tfrobust, tmp_path):
    for name in ("export", "tfrobust", "trainers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    assert tfrobust("train", "--list_fields")[0] == 0


@pytest.mark.parametrize("name", ["export", "tfrobust", "tuning"])
def test_where_it_hides_the_package_a_command_ends_before_it_computes(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    code, out, err = ended(sys.executable, "-m", "trainers.train", "--workdir=run", folder=tmp_path)
    assert (code, out) == (1, "") and len(err.splitlines()) == 1
    assert f"Expected the package {name} in {ROOT}" in err and f"{tmp_path / name}, which hides it" in err
    assert not (tmp_path / "run").exists()


def test_code_of_ones_own_is_found_in_the_folder(tfrobust, tmp_path):
    (tmp_path / "mine.py").write_text("print('imported')")
    code, out, err = tfrobust("train", "--import=mine", "--list_fields")
    assert code == 0 and out.startswith("imported\n"), err


def test_an_installation_has_all_packages_and_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tool = project["tool"]["setuptools"]
    found = set(setuptools.find_packages(str(ROOT), include=tool["packages"]["find"]["include"]))
    assert {*imports.PACKAGES, "trainers.configs", "tuning.configs"} <= found
    patterns = tool["package-data"]["trainers"]
    assert any(digits.WRITTEN.match(f"trainers/{pattern}") for pattern in patterns)
    module, _, function = project["project"]["scripts"]["tfrobust"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.slow
def test_nothing_new_is_imported_when_a_training_ends(tmp_path):
    """A command imports before it computes the modules that it uses at its end."""
    script = tmp_path / "late.py"
    script.write_text(LATE)
    code, out, err = ended(sys.executable, str(script), folder=tmp_path)
    assert code == 0, err
    assert out.splitlines()[-1] == "[]"


LATE = """
import sys
import keras
from trainers import train
from trainers.configs import digits

def tops():
    return {name.partition(".")[0] for name in sys.modules}

def fit(config, path):
    before.update(tops())
    return trained(config, path)

before, trained, train.fit = set(), train.fit, None
train.fit = fit
config = digits.get_config("standard").to_dict()
config["data"]["steps_per_epoch"] = config["epochs"] = 1
config["evaluation"] = {"attacks": ["fgsm"], "eps": 0.1, "norm": "linf"}
train.run(config, "run")
ours = {"export", "tfrobust", "matplotlib", "PIL", "jinja2", "scipy", "sklearn", "tensorflow_serving", "grpc"}
print(sorted((tops() - before) & ours))
"""
