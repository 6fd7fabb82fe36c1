"""Takes and writes the figures of a benchmark: memory, origin, JSON file, and their place in a document."""

import json
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from tfrobust.utils.files import replacing
from tfrobust.utils.versions import versions

END = "<!-- end of figures -->"


def define_flags(name: str) -> None:
    """Defines the flags that `publish` reads."""
    flags.DEFINE_string("out", f"benchmarks/results/{name}.json", "Where the figures are written.")
    flags.DEFINE_string("write", None, "A document that gets the tables of --out; nothing is measured.")


def publish(begin: str, measure: Callable[[], Mapping[str, Any]], tables: Callable[[Mapping[str, Any]], str]) -> None:
    """Measures, writes the figures to --out and prints their tables; with --write only `write`s the tables of --out."""
    out = Path(flags.FLAGS.out)
    if flags.FLAGS.write:
        write(Path(flags.FLAGS.write), begin, tables(json.loads(out.read_text())))
        return
    results = measure()
    with replacing(out) as beside:
        beside.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{tables(results)}\n\nThe figures are in {out}")


def resumed(kept: Path, measures: Mapping[str, Callable[[], Any]], label: str = "") -> dict[str, Any]:
    """Returns the result of each function by its name, and keeps the results in a file, from which a next run goes on.

    A function whose result the file has is not called. Results are what JSON can hold.
    """
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for name in tqdm([name for name in measures if name not in results], desc=label):
        results[name] = measures[name]()
        with replacing(kept) as beside:
            beside.write_text(json.dumps(results))
    return {name: results[name] for name in measures}


def write(document: Path, begin: str, text: str) -> None:
    """Puts a benchmark's figures between the lines `begin`, which is its mark, and `END` of a document."""
    before, mark, rest = document.read_text().partition(begin)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"{document} has no place for the tables: expected a line {begin} and, below, a line {END}")
    with replacing(document) as beside:
        beside.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown."""
    lines = (f"| {' | '.join(cells)} |" for cells in (heads, *rows))
    return "\n".join([next(lines), "|---" * len(heads) + "|", *lines])


def percent(shares: Sequence[float]) -> str:
    """Returns mean and sample standard deviation in percent."""
    spread = f" ± {100 * statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{100 * statistics.mean(shares):.1f}{spread}"


def origin(module: str) -> dict[str, Any]:
    """Returns the command, the machine and the versions by which figures are measured."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    processor = found.group(1) if found else platform.processor() or platform.machine()
    return {
        "command": " ".join([f"python -m {module}", *sys.argv[1:]]),
        "machine": {"processor": processor, "cores": os.cpu_count(), "system": platform.platform()},
        "versions": versions(),
    }


def signature(results: Mapping[str, Any], settings: str = "", cores: str = "cores") -> str:
    """Returns the line that names the origin of figures, after some settings of the measurement."""
    named = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    machine = results["machine"]
    return f"`{results['command']}`: {settings}{machine['processor']}, {machine['cores']} {cores}; {named}."


def resident(field: str, process: int | str = "self") -> float:
    """Returns the memory of a process in MB: its present memory, "VmRSS", or the most that it had, "VmHWM"."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found.group(1)) / 1024


def growth(function: Callable[[], Any]) -> float | None:
    """Runs a function and returns by how many MB this process grew at most meanwhile; None where only Linux says it."""
    marks = Path("/proc/self/clear_refs")
    if not marks.exists():
        function()
        return None
    before = resident("VmRSS")
    marks.write_text("5")  # the high-water mark begins anew
    function()
    return resident("VmHWM") - before
