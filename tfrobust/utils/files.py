"""Files that are whole or absent: written beside, then renamed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `path` to write a file or a folder to; renames it over `path` if the block succeeds.

    A block that fails, or a process that is killed in it, leaves the previous file as it was. A folder is renamed
    into place only where none stands yet.

    Args:
        path: where the result shall stand. Its folder is made if it is missing; the ending is kept.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{uuid.uuid4().hex[:8]}-{target.name}")
    try:
        yield beside
        os.replace(beside, target)
    finally:
        _delete(beside)


def sweep(folder: str | os.PathLike[str]) -> None:
    """Deletes what writers that were killed have left in a folder; nobody may be writing there."""
    for path in Path(folder).glob(".*"):
        if re.match(r"\.[0-9a-f]{8}-", path.name):
            _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
