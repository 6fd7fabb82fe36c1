"""Documents with a place for what a benchmark measured: between two marks; the rest is prose."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

from tfrobust._files import replacing

END = "<!-- end of figures -->"


def machine() -> dict[str, Any]:
    """Returns what the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = found.group(1) if found else platform.processor() or platform.machine()
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.platform()}


def write(document: Path, begin: str, text: str) -> None:
    """Puts a benchmark's figures in place of the former ones.

    Args:
        document: has a line `begin` and, below, a line `END`.
        begin: the benchmark's mark.
        text: what stands between them afterwards.

    Raises:
        ValueError: for a document without the marks.
    """
    before, mark, rest = document.read_text().partition(begin)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"{document} has no place for the tables: expected a line {begin} and, below, a line {END}")
    with replacing(document) as beside:
        beside.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}")
