"""The order of the packages: imports point one way, and through the door of a package."""

import ast
import pathlib

import pytest

import tfrobust

ROOT = pathlib.Path(tfrobust.__file__).parent.parent

# A package or module may import those before it. ARCHITECTURE.md says what is in each.
ORDER = [
    "tfrobust_base",
    "tfrobust.utils",
    "tfrobust.schedules",
    "tfrobust.losses",
    "tfrobust.layers",
    "tfrobust.models",
    "tfrobust.classifiers",
    "tfrobust.views",
    "tfrobust.data",
    "tfrobust.attacks",
    "tfrobust.objectives",
    "tfrobust.training",
    "tfrobust.trainer",
    "tfrobust.evaluation",
    "tfrobust.interpret",
    "tfrobust.callbacks",
    "tfrobust",
    "commands",
    "export",
    "trainers",
    "tuning",
]
TOPS = {name.split(".")[0] for name in ORDER}
# The modules of these are imported by their own names.
OPEN = {"tfrobust_base", "tfrobust.utils", "tfrobust.training", "commands"}


def files():
    found = [path for top in sorted(TOPS) for path in (ROOT / top).rglob("*.py")]
    assert len(found) > 200
    return found


def package_of(dotted):
    """Returns the longest entry of ORDER that a dotted name begins with."""
    return max((name for name in ORDER if f"{dotted}.".startswith(f"{name}.")), key=len)


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """Yields each `from X import Y` of the project's own modules as (line, X, Y)."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in TOPS:
            for alias in node.names:
                yield node.lineno, node.module, alias.name


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_imports_point_one_way(path):
    here = package_of(module_of(path))
    for line, module, name in imports(path):
        there = package_of(f"{module}.{name}")
        assert ORDER.index(there) <= ORDER.index(here), f"{path}:{line}: {here} imports {module}.{name}"


@pytest.mark.parametrize("path", files(), ids=module_of)
def test_a_package_is_entered_by_its_door(path):
    here = package_of(module_of(path))
    for line, module, name in imports(path):
        there = package_of(f"{module}.{name}")
        inside = f"{module}.{name}".removeprefix(there).strip(".").split(".")[0]
        if not inside or there == here or there in OPEN or not (ROOT / there.replace(".", "/")).is_dir():
            continue
        door = ast.parse((ROOT / there.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
        listed = [
            ast.literal_eval(node.value)
            for node in door.body
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
        ]
        assert listed and inside in listed[0], f"{path}:{line}: {module}.{name} is not listed in {there}/__init__.py"
