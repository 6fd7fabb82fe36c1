"""How far an evaluation is, and how long it will still take."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """A bar over the work that is left, forwards and backwards of the classifier, and lines above it.

    Work that falls away, for images that were fooled before, leaves the total: the rate, and with it the remaining
    time, are then those of work that is really done.

    Args:
        verbose: False: nothing is shown.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._bar: Any = None

    def line(self, text: str) -> None:
        """Prints a line above the bar."""
        if self._verbose:
            tqdm.write(text)

    def left(self, work: int, what: str) -> None:
        """Says how much work is left at most, and what comes next."""
        if not self._verbose:
            return
        if self._bar is None:
            # Into a log a line now and then, on a screen twice a second.
            often = 0.5 if sys.stderr.isatty() else 60.0
            self._bar = tqdm(total=0, unit="pass", unit_scale=True, mininterval=often, leave=False, dynamic_ncols=True)
        self._bar.total = self._bar.n + work
        self._bar.set_description(what, refresh=False)

    def done(self, work: int) -> None:
        """Says that a batch's work has been done."""
        if self._bar is not None:
            self._bar.update(work)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
