"""Shows how far an evaluation is, and how long it will still take."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """Shows a bar over the remaining forward and backward passes of the classifier, and lines above it.

    Work that is no longer needed, for images that are already fooled, is taken from the total, so that the rate and the
    remaining time are those of the work that is done.

    Args:
        verbose: whether anything is shown.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._bar: Any = None

    def line(self, text: str) -> None:
        """Prints a line above the bar."""
        if self._verbose:
            tqdm.write(text)

    def left(self, work: int, label: str) -> None:
        """Sets the work that is left at most, and the label of the bar."""
        if not self._verbose:
            return
        if self._bar is None:
            # A log gets a line a minute, a screen an update twice a second.
            often = 0.5 if sys.stderr.isatty() else 60.0
            self._bar = tqdm(total=0, unit="pass", unit_scale=True, mininterval=often, leave=False, dynamic_ncols=True)
        self._bar.total = self._bar.n + work
        self._bar.set_description(label, refresh=False)

    def done(self, work: int) -> None:
        """Counts the work of a batch as done."""
        if self._bar is not None:
            self._bar.update(work)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
