"""By what code a run was trained: kept beside it, so that what is shipped can be traced back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import tfrobust
from tfrobust.utils.files import replacing
from tfrobust.utils.versions import versions


def record(path: str | Path) -> None:
    """Adds the code that runs now to the file, if it is not the last there: a run may go on after an update."""
    path = Path(path)
    known = read(path)
    if now() not in known[-1:]:
        with replacing(path) as beside:
            beside.write_text(json.dumps([*known, now()], indent=2) + "\n")


def read(path: str | Path) -> list[dict[str, Any]]:
    """Returns what was recorded, the first first; of a run without such a file nothing."""
    return json.loads(Path(path).read_text()) if Path(path).exists() else []


def now() -> dict[str, Any]:
    """Returns the versions of what runs, and the commit of this library: None where it is no checkout of its own."""
    return {"commit": _commit(Path(tfrobust.__file__).parent), "versions": versions()}


def _commit(folder: Path) -> str | None:
    git = ["git", "-C", str(folder)]
    try:
        # A library that was installed may lie in somebody else's repository, which does not know its files.
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=True)
        # With "-dirty" behind it where files were changed since.
        described = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(described, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git here, or no repository
        return None
