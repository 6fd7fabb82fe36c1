"""Every example of the docstrings and of the documents runs."""

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from absl import flags

import tfrobust
import tfrobust_base
import tuning
from commands import cli
from commands.console import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
MODULES = [
    *(
        found.name
        for package in (tfrobust_base, tfrobust, tuning)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ),
]


@pytest.mark.filterwarnings("ignore:The moving statistics")
@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    names = {"tfrobust": tfrobust, "np": np, "keras": keras, **vars(module)}
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in finder.find(module, name, globs=names):
        runner.run(test)
    assert runner.failures == 0


def blocks(document):
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


LONG = ("docs/training.md", "docs/distributed.md")  # they train several times
PAGES = ["README.md", "EXTENDING.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/*.md")))]

COMMAND_PAGES = [*PAGES, "trainers/configs/README.md"]


@pytest.mark.parametrize(
    "document", [pytest.param(page, marks=pytest.mark.slow) if page in LONG else page for page in PAGES]
)
def test_the_documents_code_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("keras.utils.Progbar.update", lambda *_, **__: None)
    registries = [
        importlib.import_module(f"tfrobust.{name}")
        for name in ("objectives.objective", "attacks.registry", "models.registry")
    ]
    kept = [dict(_registry(r)._factories) for r in registries]
    load = tfrobust.data.load
    monkeypatch.setattr(tfrobust.data, "load", lambda *args, **kwargs: load(*args, **kwargs).take(1))  # a batch will do
    names = {}
    try:
        for block in blocks(document):
            exec(compile(block, document, "exec"), names)
    finally:
        for registry, factories in zip(registries, kept, strict=True):
            _registry(registry)._factories = factories
    if "classifier" in names:
        assert names["classifier"].output["logits"].shape[-1] in (3, 10)


def _registry(module):
    return next(v for v in vars(module).values() if type(v).__name__ == "Registry")


def commands(document):
    """Yields the command and the flags of each `tfrobust COMMAND` in the blocks of a document."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
    for block in (block for language, block in found if language in ("", "bash")):
        for line in block.replace("\\\n", " ").splitlines():
            if command := re.match(r"[^#]*?\btfrobust (\w+)([^#&]*)", line):
                yield command[1], re.findall(r" --([\w-]+)", command[2])


@pytest.mark.parametrize(("command", "names"), [each for page in COMMAND_PAGES for each in commands(page)])
def test_the_documents_commands_have_their_flags(command, names):
    before = set(flags.FLAGS)
    try:
        cli._define_common_flags()
        importlib.import_module(COMMANDS[command].module).define_flags()
        assert set(names) <= set(flags.FLAGS) - before
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)


FAMILIES = ["attacks", "objectives", "models"]
MEMBERS = [(family, name) for family in FAMILIES for name in getattr(tfrobust, family).names()]


@pytest.mark.parametrize(("family", "name"), MEMBERS)
def test_every_member_is_documented_in_full(family, name):
    member = getattr(importlib.import_module(f"tfrobust.{family}"), name, None) or _factory(family, name)
    _check_documented(member)


MEASURES = [name for name in tfrobust.interpret.__all__ if inspect.isfunction(getattr(tfrobust.interpret, name))]


@pytest.mark.parametrize("name", MEASURES)
def test_every_function_of_interpret_is_documented_in_full(name):
    _check_documented(getattr(tfrobust.interpret, name))


def _check_documented(member):
    text = inspect.getdoc(member)
    for argument in inspect.signature(member).parameters:
        assert re.search(rf"^ +{argument}: ", text, re.MULTILINE), f"{member.__name__} does not explain {argument}"
    assert "Returns:" in text and ">>>" in text


def _factory(family, name):
    module = importlib.import_module(f"tfrobust.{family}.{name}")
    return getattr(module, name)
