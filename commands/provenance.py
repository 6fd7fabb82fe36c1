"""Records the versions and the commit that trained a run, so that an export can be traced back to its code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import tfrobust
from commands.workdir import read_json
from tfrobust.utils.files import replacing
from tfrobust.utils.versions import versions


def record(path: str | Path) -> None:
    """Adds the running code to the file if it differs from the last entry: a run may resume after an update."""
    path = Path(path)
    known = read(path)
    if now() not in known[-1:]:
        with replacing(path) as beside:
            beside.write_text(json.dumps([*known, now()], indent=2) + "\n")


def read(path: str | Path) -> list[dict[str, Any]]:
    """Returns the recorded entries in their order; none if the run has no such file."""
    return read_json(Path(path)) if Path(path).exists() else []


def now() -> dict[str, Any]:
    """Returns the versions of the packages and the commit of this library; None if it is not a checkout."""
    return {"commit": _commit(Path(tfrobust.__file__).parent), "versions": versions()}


def _commit(folder: Path) -> str | None:
    git = ["git", "-C", str(folder)]
    try:
        # An installed library may lie inside another project's repository, which does not track its files.
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=True)
        # The commit ends in "-dirty" if files were changed since.
        described = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(described, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # git is not installed, or there is no repository
        return None
