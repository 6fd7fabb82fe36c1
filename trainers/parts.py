"""Numbers the parts of an evaluation, each of which has a process of its own, and finds the files of their states."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from commands import cli

PART = re.compile(r"\.(\d+)-of-(\d+)\.state$")  # how the name of a part's file ends


def parse(text: str) -> tuple[int, int]:
    """Returns (k, n) of the text K/N; of `auto`, the place of this worker among those that TF_CONFIG lists.

    Example:

    >>> parse("2/8")
    (2, 8)
    """
    if text == "auto":
        return _of_worker()
    numbers = re.fullmatch(r"(\d+)/(\d+)", text)
    k, n = map(int, numbers.groups()) if numbers else (0, 0)
    if not 1 <= k <= n:
        raise cli.Misuse(f"Expected --shard=K/N, K from 1 to N, or --shard=auto. Received: --shard={text}")
    return k, n


def _of_worker() -> tuple[int, int]:
    from commands.strategies import check_cluster

    text = os.environ.get("TF_CONFIG")
    check_cluster(text)
    config = json.loads(text or "")
    chiefs, workers = (len(config["cluster"].get(kind, [])) for kind in ("chief", "worker"))
    before = chiefs if config["task"]["type"] == "worker" else 0
    return before + config["task"]["index"] + 1, chiefs + workers


def state_of(output: Path, shard: tuple[int, int] | None) -> Path:
    """Returns the file of a part's state beside the report, or that of the whole for None.

    Example:

    >>> state_of(Path("runs/a/evaluation.json"), (2, 8)).name
    'evaluation.2-of-8.state'
    """
    return output.with_suffix(".state" if shard is None else f".{shard[0]}-of-{shard[1]}.state")


def states_of(output: Path) -> list[Path]:
    """Returns the files of the states of all parts beside the report.

    Raises:
        Mistake: if there are none, if some are missing, or if they are of several divisions.
    """
    found = {}
    for file in output.parent.glob(f"{output.stem}.*.state"):
        if (numbers := PART.search(file.name)) and file.name.removesuffix(numbers.group()) == output.stem:
            found[int(numbers[1]), int(numbers[2])] = file
    expected = (
        f"Expected the states of all parts, {output.stem}.K-of-N.state in {output.parent}, as --shard=K/N leaves them"
    )
    if not found:
        raise cli.Mistake(f"{expected}. Received: none")
    counts = sorted({n for _, n in found})
    if len(counts) > 1:
        raise cli.Mistake(f"{expected}. Received: parts of {' and of '.join(map(str, counts))}")
    if missing := [str(k) for k in range(1, counts[0] + 1) if (k, counts[0]) not in found]:
        raise cli.Mistake(f"{expected}. Missing of {counts[0]}: {', '.join(missing)}")
    return [found[part] for part in sorted(found)]
