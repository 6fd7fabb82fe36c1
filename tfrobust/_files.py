"""Files that are whole or absent: written beside, then renamed."""

from __future__ import annotations

import contextlib
import os
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
        if beside.is_dir():
            shutil.rmtree(beside, ignore_errors=True)
        else:
            beside.unlink(missing_ok=True)
