"""The planted problem, for tests and for the processes that they start."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuning import conclusion
from tuning.aims import ranked

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("planted.py")
spec = importlib.util.spec_from_file_location("planted", SCRIPT)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


@pytest.fixture(scope="session")
def planted():
    """The module."""
    return module


@pytest.fixture
def unwritten(monkeypatch):
    """Searches that pick their winner but write no page, which takes longer than all planted trials."""

    def conclude(config, path, store, aim, say):
        done = store.all()
        order = ranked([result for _, result in done], aim)
        if not order:
            raise ValueError("All trials failed")
        trial, result = done[order[0]]
        return SimpleNamespace(winner=SimpleNamespace(trial=trial, result=result))

    monkeypatch.setattr(conclusion, "conclude", conclude)


@pytest.fixture
def start_planted(start_process):
    """Starts the script in a process of its own: `start(*arguments, **variables)`, these of its environment."""

    def start(*arguments, **variables):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **variables}
        return start_process([sys.executable, SCRIPT, *map(str, arguments)], env=environment, stdout=subprocess.PIPE)

    return start
