"""Divides a source into disjoint train, validation and test splits, which are the same in every run."""

import functools
from typing import NamedTuple

import numpy as np

from tfrobust.data import arrays
from tfrobust.data.sources import SPLITS, Source
from tfrobust.utils.errors import invalid

# The share of train that becomes the test split if none is stored. It and the keys of the two choices define what
# "accuracy on the test split" means, so they never change.
TEST_FRACTION = 0.2
TEST_KEY = 20
VALIDATION_KEY = 10


class Split(NamedTuple):
    """Some rows of stored images: x `(N, H, W, C)`, y `(N,)` int32, and increasing numbers of rows `(n,)`."""

    x: np.ndarray
    y: np.ndarray
    rows: np.ndarray


class Splits:
    """The splits of one source, each read at most once, when it is first requested; see `load` for the arguments."""

    def __init__(self, name: str, source: Source, validation: float, image_size: tuple[int, int] | None) -> None:
        self._name, self._source, self._image_size = name, source, image_size
        self._shares = {"test": TEST_FRACTION, "validation": validation}
        derived = [s for s, share in self._shares.items() if share and "train" in source.splits]
        self.names = [s for s in SPLITS if s in source.splits or s in derived]
        self._stored = functools.cache(self._read)

    def get(self, split: str) -> Split:
        """Returns one split.

        Raises:
            ValueError: for a split that the data set does not have, or that has no image.
        """
        if split not in self.names:
            why = f" with validation={self._shares[split]}" if split == "validation" else ""
            raise invalid(f"split of {self._name!r}", " or ".join(map(repr, self.names)), f"{split!r}{why}")
        x, y, _ = self._stored(split if split in self._source.splits else "train")
        rows = np.arange(len(y)) if split != "train" and split in self._source.splits else self._derived(y, split)
        if not len(rows):
            received = f"{len(y)} images to choose from, with validation={self._shares['validation']}"
            raise invalid(f"split of {self._name!r}", f"at least one image for {split!r}", received)
        if 2 * len(rows) < len(y):  # a small split must not keep all images in memory
            x, y, rows = x[rows], y[rows], np.arange(len(rows))
        return Split(x, y, rows)

    def sizes(self) -> dict[str, int]:
        """Returns the number of images in each split that has any."""
        return {split: len(self.get(split).rows) for split in self.names}

    def class_names(self) -> tuple[str, ...]:
        """Returns the names of the classes in the order of the labels, or their numbers where there are no names."""
        return self._source.class_names or tuple(map(str, range(self._stored(next(iter(self._source.splits)))[2])))

    def _read(self, split: str) -> tuple[np.ndarray, np.ndarray, int]:
        where = f"{self._name!r} ({split})"
        names, first = self._source.class_names, next(iter(self._source.splits))
        # Without names the first split, train if there is one, determines the number of classes.
        classes = len(names) if names else None if split == first else self._stored(first)[2]
        raw, y = self._source.splits[split]()
        x = arrays.images(raw, self._image_size, where)
        return x, *arrays.labels(y, len(x), classes, where)

    def _derived(self, y: np.ndarray, split: str) -> np.ndarray:
        """Returns the rows of the stored train split that remain for train, or were chosen for `split`."""
        rows = np.arange(len(y))
        for other, key in (("test", TEST_KEY), ("validation", VALIDATION_KEY)):
            if other in self._source.splits:
                continue
            taken = arrays.held_out(y[rows], self._shares[other], key)
            if split == other:
                return rows[taken]
            rows = rows[~taken]
        return rows
