"""Hashes arrays; the hash is the same in every process and on every machine."""

import hashlib

import numpy as np

from tfrobust.utils.spilled import release

ROWS = 4096  # rows that are hashed at a time, so that an array in a file is not read whole into memory


def digest_of(*arrays: np.ndarray) -> str:
    """Returns the SHA-256 of arrays, their dtypes and shapes, in hexadecimal."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype}{array.shape}".encode())
        rows = np.atleast_1d(array)
        for first in range(0, len(rows), ROWS):
            found.update(np.ascontiguousarray(rows[first : first + ROWS]).data)
            release(array)
    return found.hexdigest()
