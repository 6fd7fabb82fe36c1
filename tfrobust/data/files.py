"""Finds what data files hold without reading all of it: arrays are mapped, records and pictures are listed."""

import mmap
import os
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrobust.data.stored import Pictures
from tfrobust.utils.digest import digest_of
from tfrobust.utils.errors import invalid
from tfrobust.utils.types import Tensor

Record = Callable[[int], bytes]


def members(path: Path) -> dict[str, int]:
    """Returns the names of the arrays in an .npz file, each with its checksum.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is of another format.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Expected an .npz file. Received: {str(path)!r}, which does not exist")
    try:
        with zipfile.ZipFile(path) as file:
            found = {entry.filename: entry.CRC for entry in file.infolist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise invalid(f"file {str(path)!r}", "NumPy's .npz format, several named arrays", error) from error
    return {name.removesuffix(".npy"): checksum for name, checksum in found.items() if name.endswith(".npy")}


def member(path: Path, name: str) -> np.ndarray:
    """Returns an array of an .npz file: mapped from the file, or read whole if it is compressed."""
    with zipfile.ZipFile(path) as file, file.open(f"{name}.npy") as content:
        entry = file.getinfo(f"{name}.npy")
        if entry.compress_type != zipfile.ZIP_STORED or not entry.file_size:
            return np.lib.format.read_array(content, allow_pickle=False)
    with path.open("rb") as plain:
        plain.seek(entry.header_offset)
        header = plain.read(30)  # of the entry, before its name and further fields of given lengths
        start = entry.header_offset + len(header) + sum(struct.unpack("<HH", header[26:]))
    return _mapped(path, start)


def array(path: Path) -> np.ndarray:
    """Returns the array of an .npy file, mapped from the file."""
    return _mapped(path, 0)


def _mapped(path: Path, start: int) -> np.ndarray:
    with path.open("rb") as file:
        file.seek(start)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or 0 in shape:
            file.seek(start)
            return np.lib.format.read_array(file, allow_pickle=False)
        return np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def listing(root: Path, paths: Sequence[str]) -> np.ndarray:
    """Returns the names below a folder and the sizes of files, as an array."""
    return np.array([f"{os.path.relpath(path, root)} {os.stat(path).st_size}" for path in paths])


def pictures(paths: Sequence[str], decode: Callable[[Tensor], Tensor]) -> Pictures:
    """Returns the pictures of files, of which nothing is known yet."""
    keys = np.array([os.fsencode(path) for path in paths])
    changed = [(found.st_mtime_ns, found.st_size) for found in map(os.stat, paths)]
    return Pictures(keys, decode, (None, None, None), keys, digest_of(keys, np.array(changed)))


def tfrecords(paths: Sequence[str]) -> Record:
    """Returns a function that reads the numbered record of TFRecord files.

    A record is its length in 8 bytes, a checksum of 4, the content, and a checksum of 4.
    """
    places: list[tuple[int, int, int]] = []
    for number, path in enumerate(paths):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            at = 0
            while at < len(content):
                (length,) = struct.unpack_from("<Q", content, at)
                places.append((number, at + 12, length))
                at += length + 16
    table = np.array(places)

    def record(number: Any) -> bytes:
        file, offset, length = table[number]
        with open(paths[file], "rb") as content:
            content.seek(offset)
            return content.read(length)

    return record


def array_records(paths: Sequence[str]) -> Record:
    """Returns a function that reads the numbered record of ArrayRecord files."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    source = ArrayRecordDataSource(paths)
    return lambda number: source[int(number)]


RECORDS: dict[str, Callable[[Sequence[str]], Record]] = {"tfrecord": tfrecords, "array_record": array_records}
