"""Figures of `tfrobust interpret` as rows beside the accuracies of benchmarks.papers."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from benchmarks.claims import DEVIATIONS, share_error

# column -> (value in [-1, 1], its standard error)
Row = dict[str, tuple[float, float]]


class Study(NamedTuple):
    """A study of some rows' classifiers: sections and flags of `tfrobust interpret`, and the row that is the judge."""

    rows: tuple[str, ...]
    sections: tuple[str, ...]
    judge: str = ""
    options: tuple[str, ...] = ()


def rows_of(numbers: Mapping[str, Any]) -> dict[str, Row]:
    """Returns the rows of a study's numbers, "MEASUREMENT of CLASSIFIER" -> the figures."""
    found: dict[str, Row] = {}
    if table := numbers.get("attacks", {}).get("dra"):
        found.update({f"success of DRA on {name}": row for name, row in _shares(table, "p = ").items()})
    for split, table in numbers.get("gradient_map_test", {}).items():
        for name, row in _shares(table, f"{split}, ").items():
            found.setdefault(f"gradient maps of {name}", {}).update(row)
    for name, splits in numbers.get("relevance", {}).items():
        found[f"distance and attention of {name}"] = {
            f"{split}, {block}": (part["correlation"], (part["high"] - part["low"]) / (2 * DEVIATIONS))
            for split, blocks in splits.items()
            for block, part in blocks.items()
        }
    for name, part in numbers.get("hard_classes", {}).items():
        found[f"hard classes of {name}"] = _hard_classes(part)
    return found


def _shares(table: Mapping[str, Any], prefix: str) -> dict[str, Row]:
    """Returns the rows of a table of shares of images."""
    return {
        name: {f"{prefix}{column}": (share, share_error(share, table["images"])) for column, share in row.items()}
        for name, row in table["figures"].items()
    }


def _hard_classes(part: Mapping[str, Any]) -> Row:
    """Returns the shares of the fooled images of each class by the predicted class, and what explains them."""
    row: Row = {}
    for label, counts in enumerate(part["counts"]):
        wrong = {other: count for other, count in enumerate(counts) if other != label}
        fooled = sum(wrong.values())
        for other, count in wrong.items() if fooled else ():
            row[f"{label} for {other}"] = (count / fooled, share_error(count / fooled, fooled))
    cells = len(part["counts"]) * (len(part["counts"]) - 1)
    for predictor, agreement in part["agreement"].items():
        row[f"rank correlation with {predictor}"] = (agreement["correlation"], 1 / math.sqrt(cells - 1))
    if norms := part.get("weight_norms"):
        row["spread of the weight norms"] = (max(norms) / min(norms) - 1, 0.0)
    return row
