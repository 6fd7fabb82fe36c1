"""Writes files that are complete or absent: they are written beside their place and then renamed."""

import contextlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `path`, with the same ending, for a file or a folder; it is renamed if the block succeeds.

    If the block fails or its process is killed, the previous file stays as it was. The folder of `path` is made if it
    is missing. A folder cannot replace another one.
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
    """Deletes the incomplete files that killed processes have left in a folder, to which no process may be writing."""
    for path in Path(folder).glob(".*"):
        if re.match(r"\.[0-9a-f]{8}-", path.name):
            _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
