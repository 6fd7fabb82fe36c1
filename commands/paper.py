"""Prints a paper's figures beside the measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfrobust.evaluation import Report


def beside_paper(report: Report, paper: Mapping[str, float]) -> str:
    """Returns `beside` of an evaluation whose attacks are labelled as the paper's columns."""
    return beside(_measured(report), paper)


def best_and_worst(reports: Sequence[Report], paper: Mapping[str, float]) -> str:
    """Returns `beside` of the best and the worst of several runs of a row, which differ in their seeds.

    The best run is that of the greatest robust accuracy; the figures of the worst one are labelled "worst run ...".
    """
    ordered = sorted(reports, key=lambda report: report.robust_accuracy)
    worst = {f"worst run {label}": figure for label, figure in _measured(ordered[0]).items()}
    return beside({**_measured(ordered[-1]), **worst}, paper)


def _measured(report: Report) -> dict[str, float | None]:
    return {"clean": report.clean_accuracy, **{result.name: result.accuracy for result in report.attacks}}


def beside_found(measured: Mapping[str, float | None], paper: Mapping[str, float], percent: bool = True) -> str:
    """Returns `beside` for those of the paper's figures that were measured."""
    return beside(measured, {label: figure for label, figure in paper.items() if label in measured}, percent)


def beside(measured: Mapping[str, float | None], paper: Mapping[str, float], percent: bool = True) -> str:
    """Returns the table "paper / measured", column -> figure, empty if the paper has no figures.

    Measured accuracies lie in [0, 1], the paper's are in percent; with `percent=False` the figures are no accuracies.
    """
    if not paper:
        return ""
    unit, factor = (" %", 100) if percent else ("", 1)
    width = max(28, *(len(column) + 1 for column in paper))
    lines = [f"{'':{width}}{'paper':>9}{'measured':>10}"]
    for column, figure in paper.items():
        ours = measured.get(column)
        shown = "-" if ours is None else f"{factor * ours:8.2f}{unit}"
        lines.append(f"{column:{width}}{figure:{9 - len(unit)}.2f}{unit}{shown:>10}")
    return "\n".join(lines) + "\n"
