"""Keeps arrays that are too large for memory in temporary files, which are mapped."""

import mmap
import os
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

IN_MEMORY = 2**28  # bytes up to which an array is kept in memory
ROWS = 256  # rows that are copied at a time

Folder = str | os.PathLike[str] | None


class Rows:
    """Collects float32 rows as one array: in memory, or beyond `IN_MEMORY` bytes in a temporary file of the folder.

    The file has no name, so that nothing remains of it when the process ends, however that ends.
    """

    def __init__(self, folder: Folder = None) -> None:
        self._folder = folder
        self._parts: list[np.ndarray] = []
        self._file: IO[bytes] | None = None
        self._count = self._size = 0

    def append(self, rows: np.ndarray) -> None:
        """Adds rows, `(n, ...)`.

        Raises:
            OSError: if the file does not fit onto its disk.
        """
        self._parts.append(rows)
        self._count += len(rows)
        self._size += rows.nbytes
        if self._size > IN_MEMORY:
            self._spill()

    def array(self) -> np.ndarray:
        """Returns all rows, `(N, ...)`."""
        if self._file is None:
            return np.concatenate(self._parts)
        with self._file as file:
            file.flush()
            return np.memmap(file, "float32", "r+", shape=(self._count, *self._shape))

    def _spill(self) -> None:
        self._shape = self._parts[0].shape[1:]
        if self._folder is not None:
            Path(self._folder).mkdir(parents=True, exist_ok=True)
        try:
            self._file = self._file or tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115, `array` closes it
            for part in self._parts:
                self._file.write(np.ascontiguousarray(part).data)
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise OSError(
                error.errno,
                f"Expected room in {where} for images that do not fit into memory. Received: {error.strerror} after "
                f"{self._size / 2**30:.1f} GiB. TMPDIR, or the folder of `state` in an evaluation, is where they go",
            ) from error
        self._parts = []


def taken(x: np.ndarray, numbers: np.ndarray, folder: Folder = None) -> np.ndarray:
    """Returns a copy of the numbered rows of x, in memory or in a temporary file of the folder."""
    rows = Rows(folder)
    for first in range(0, len(numbers), ROWS):
        rows.append(x[numbers[first : first + ROWS]])
        release(x)
    return rows.array()


def release(x: np.ndarray) -> None:
    """Frees the memory that a mapped array has taken; its file keeps the values, and is read again when needed."""
    mapping: Any = x.base
    if isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # Windows does not have it
        mapping.madvise(mmap.MADV_DONTNEED)
