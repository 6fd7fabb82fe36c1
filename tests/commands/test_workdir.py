"""The folder of a run belongs to one training at a time."""

import re

import pytest

from commands.cli import Mistake
from commands.workdir import Workdir


def test_a_second_training_in_a_folder_is_refused_until_the_first_ends(tmp_path):
    with Workdir(tmp_path / "run").held():
        refused = f"Received: {re.escape(str(tmp_path / 'run'))}, where a training runs"
        with pytest.raises(Mistake, match=refused), Workdir(tmp_path / "run").held():
            pass
        with Workdir(tmp_path / "other").held():
            pass
    with Workdir(tmp_path / "run").held():
        pass
    assert not list((tmp_path / "run").iterdir())  # the lock is no file
