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


@contextlib.contextmanager
def locked(folder: str | os.PathLike[str], wait: bool = True) -> Iterator[bool]:
    """Locks a folder, which is made if it is missing, and yields whether the system has such locks.

    The lock is no file, and ends with its process, however that ends.

    Args:
        folder: the folder.
        wait: whether to wait until another process unlocks the folder.

    Raises:
        BlockingIOError: if another process has locked the folder, with `wait=False`.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            has_locks = True
        except BlockingIOError:
            raise
        except OSError:  # some network file systems lock no folder
            has_locks = False
        yield has_locks
    finally:
        os.close(opened)


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
