"""A paper's figures beside our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfrobust.evaluation import Report


def beside_paper(report: Report, paper: Mapping[str, float]) -> str:
    """Returns the table "paper / measured" of a config's figures, empty where it has none.

    Args:
        report: of an evaluation whose attacks are labelled as the paper's columns.
        paper: column -> percent.
    """
    if not paper:
        return ""
    measured = {"clean": report.clean_accuracy, **{result.name: result.accuracy for result in report.attacks}}
    lines = [f"{'':28}{'paper':>9}{'measured':>10}"]
    for column, figure in paper.items():
        ours = f"{100 * measured[column]:8.2f} %" if column in measured else "-"
        lines.append(f"{column:28}{figure:7.2f} %{ours:>10}")
    return "\n".join(lines) + "\n"
