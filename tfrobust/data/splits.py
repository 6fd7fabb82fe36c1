"""Divides a source into disjoint train, validation and test splits, which are the same in every run."""

import functools
import os
from typing import NamedTuple

import numpy as np

from tfrobust.data import arrays
from tfrobust.data.sources import SPLITS, Source
from tfrobust.data.stored import Pictures, Stored, encoded
from tfrobust.utils.digest import digest_of
from tfrobust.utils.errors import invalid

# The share of train that becomes the test split if none is stored. It and the keys of the two choices define what
# "accuracy on the test split" means, so they never change.
TEST_FRACTION = 0.2
TEST_KEY = 20
VALIDATION_KEY = 10


class Split(NamedTuple):
    """The images of a split, `(N, H, W, C)`, and their labels, `(N,)` int32."""

    x: Stored
    y: np.ndarray


class Splits:
    """The splits of one source, each read at most once, when it is first requested; see `load` for the arguments."""

    def __init__(
        self, name: str, source: Source, validation: float, image_size: tuple[int, int] | None, on_error: str = "raise"
    ) -> None:
        self._name, self._source, self._image_size, self._on_error = name, source, image_size, on_error
        self._shares = {"test": TEST_FRACTION, "validation": validation}
        derived = [s for s, share in self._shares.items() if share and "train" in source.splits]
        self.names = [s for s in SPLITS if s in source.splits or s in derived]
        self._stored = functools.cache(self._read)
        self._images = functools.cache(self._decoded)

    def get(self, split: str) -> Split:
        """Returns one split.

        Raises:
            ValueError: for a split that the data set does not have, or that has no image.
        """
        stored, rows = self._rows(split)
        return Split(self._images(stored).of(rows), self._stored(stored)[1][rows])

    def sizes(self) -> dict[str, int]:
        """Returns the number of images in each split that has any."""
        return {split: len(self._rows(split)[1]) for split in self.names}

    def shape(self) -> tuple[int, int, int]:
        """Returns the shape of an image, (H, W, C)."""
        last = self.names[-1]
        _, height, width, channels = self._images(last if last in self._source.splits else "train").shape
        return height, width, channels

    def digest(self) -> str:
        """Returns a text that changes when the stored data do."""
        labels = [self._stored(split)[1] for split in self._source.splits]
        return digest_of(np.array([self._source.digest]), *labels)

    def skipped(self) -> tuple[str, ...]:
        """Returns the names of the files that are left out."""
        return tuple(name for split in self._source.splits for name in self._stored(split)[3])

    def class_names(self) -> tuple[str, ...]:
        """Returns the names of the classes in the order of the labels, or their numbers where there are no names."""
        return self._source.class_names or tuple(map(str, range(self._stored(next(iter(self._source.splits)))[2])))

    def _rows(self, split: str) -> tuple[str, np.ndarray]:
        """Returns the stored split that has the images of a split, and their numbers there."""
        if split not in self.names:
            why = f" with validation={self._shares[split]}" if split == "validation" else ""
            raise invalid(f"split of {self._name!r}", " or ".join(map(repr, self.names)), f"{split!r}{why}")
        stored = split if split in self._source.splits else "train"
        y = self._stored(stored)[1]
        rows = self._derived(y, split) if stored == "train" else np.arange(len(y))
        if not len(rows):
            received = f"{len(y)} images to choose from, with validation={self._shares['validation']}"
            raise invalid(f"split of {self._name!r}", f"at least one image for {split!r}", received)
        return stored, rows

    def _decoded(self, split: str) -> Stored:
        x = self._stored(split)[0]
        return encoded(x, self._image_size, f"{self._name!r} ({split})") if isinstance(x, Pictures) else x

    def _read(self, split: str) -> tuple[Stored | Pictures, np.ndarray, int, list[str]]:
        """Returns images, labels, the number of classes, and the names of the files that are left out."""
        where = f"{self._name!r} ({split})"
        names, first = self._source.class_names, next(iter(self._source.splits))
        # Without names the first split, train if there is one, determines the number of classes.
        classes = len(names) if names else None if split == first else self._stored(first)[2]
        x, y = self._source.splits[split]()
        if not isinstance(x, Pictures):
            x = arrays.images(x, self._image_size, where)
            return x, *arrays.labels(y, x.shape[0], classes, where), []
        y, classes = arrays.labels(y, len(x), classes, where)
        if self._on_error == "raise":
            return x, y, classes, []
        broken = x.sizes[:, 0] == 0
        return x.of(~broken), y[~broken], classes, list(map(os.fsdecode, x.names[broken]))

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
