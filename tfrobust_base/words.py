"""Writes the sentences of errors that the library and its commands share."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, received: object, known: Iterable[str]) -> str:
    """Returns the sentence about a name that is not one of the known ones, with the nearest of these.

    Example:

    >>> unknown("norm", "linff", ["linf", "l2"])
    "Unknown norm: expected one of l2, linf. Received: 'linff'. Did you mean 'linf'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(received), known, n=3)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"Unknown {kind}: expected one of {', '.join(known)}. Received: {received!r}.{hint}"
