"""Documents with a place for what a benchmark measured: between two marks; the rest is prose."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfrobust.utils.files import replacing
from tfrobust.utils.versions import versions

END = "<!-- end of figures -->"


def machine() -> dict[str, Any]:
    """Returns what the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = found.group(1) if found else platform.processor() or platform.machine()
    return {"processor": processor, "cores": os.cpu_count(), "system": platform.platform()}


def origin(module: str) -> dict[str, Any]:
    """Returns what came before the figures: the command, the machine, the versions."""
    command = " ".join([f"python -m {module}", *sys.argv[1:]])
    return {"command": command, "machine": machine(), "versions": versions()}


def signature(results: Mapping[str, Any], cores: str = "cores") -> str:
    """Returns the line that says where figures with an `origin` come from."""
    named = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    made_on = results["machine"]
    return f"`{results['command']}`: {made_on['processor']}, {made_on['cores']} {cores}; {named}."


def resident(field: str, process: int | str = "self") -> float:
    """Returns the memory of a process in MB: VmRSS, what it has now; VmHWM, the most that it had."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) / 1024


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
