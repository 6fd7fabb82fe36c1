"""Prints a paper's figures beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfrobust.evaluation import Report


def beside_paper(report: Report, paper: Mapping[str, float]) -> str:
    """Returns the table "paper / measured" of a config's figures, empty if the config has none.

    Args:
        report: an evaluation whose attacks are labelled as the paper's columns.
        paper: column -> percent.
    """
    return beside(
        {"clean": report.clean_accuracy, **{result.name: result.accuracy for result in report.attacks}}, paper
    )


def beside(measured: Mapping[str, float | None], paper: Mapping[str, float], percent: bool = True) -> str:
    """Returns the table "paper / measured", empty if the paper has no figures.

    Args:
        measured: column -> figure; accuracies lie in [0, 1].
        paper: column -> figure, accuracies in percent.
        percent: whether the figures are accuracies.
    """
    if not paper:
        return ""
    unit, factor = (" %", 100) if percent else ("", 1)
    lines = [f"{'':28}{'paper':>9}{'measured':>10}"]
    for column, figure in paper.items():
        ours = measured.get(column)
        shown = "-" if ours is None else f"{factor * ours:8.2f}{unit}"
        lines.append(f"{column:28}{figure:{9 - len(unit)}.2f}{unit}{shown:>10}")
    return "\n".join(lines) + "\n"
