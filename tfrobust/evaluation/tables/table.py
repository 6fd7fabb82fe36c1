"""Holds figures by row and column, with all settings that are needed to repeat the measurement."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrobust.utils.errors import invalid
from tfrobust.utils.files import replacing
from tfrobust.utils.registry import unknown
from tfrobust.utils.versions import versions

ACCURACY = "accuracy"


@dataclasses.dataclass(frozen=True)
class Table:
    """Figures by row and column; `print(table)` shows them, accuracies in percent.

    Args:
        title: title of the table.
        rows: names of the rows.
        columns: names of the columns.
        figures: one tuple of numbers for each row; accuracies lie in [0, 1], None was not measured.
        settings: settings of the measurement.
        images: number of images.
        seed: seed of the random numbers.
        versions: versions of tensorflow, keras and tfrobust.
        measure: the quantity: "accuracy", or another one in words.
        notes: sentences on how to read the table.

    Example:

    >>> table = tfrobust.evaluation.Table("shifts", ("none", "left"), ("clean",), ((1.0,), (0.25,)), {}, 4, 0, {})
    >>> table["left", "clean"]
    0.25
    >>> print(table)
    shifts, 4 images
            clean
    none   100.00
    left    25.00
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    figures: tuple[tuple[float | None, ...], ...]
    settings: dict[str, Any]
    images: int
    seed: int
    versions: dict[str, str]
    measure: str = ACCURACY
    notes: tuple[str, ...] = ()

    @classmethod
    def from_rows(
        cls, title: str, figures: Mapping[str, Any], images: int, seed: int, columns: Any = None, **more: Any
    ) -> Table:
        """Returns the table of rows by name, with the versions in use.

        A row is a mapping column -> figure, with the same columns in all rows, or a sequence in the order of `columns`.
        Further fields of the table are in `more`.
        """
        if columns is None:
            columns = next(iter(figures.values()))
            figures = {name: row.values() for name, row in figures.items()}
        cells = tuple(tuple(None if f is None else float(f) for f in row) for row in figures.values())
        names = tuple(figures), tuple(columns)
        return cls(title, *names, cells, images=images, seed=int(seed), versions=versions(), **more)

    def __getitem__(self, names: tuple[str, str]) -> float | None:
        """Returns the figure of a row and a column.

        Raises:
            ValueError: for a name that the table does not have.
        """
        row, column = names
        if row not in self.rows:
            raise unknown("row", row, self.rows)
        if column not in self.columns:
            raise unknown("column", column, self.columns)
        return self.figures[self.rows.index(row)][self.columns.index(column)]

    def flat(self) -> dict[str, float | None]:
        """Returns the figures by "row column", or by "row" if there is one column."""
        single = len(self.columns) == 1
        return {
            row if single else f"{row} {column}": figure
            for row, figures in zip(self.rows, self.figures, strict=True)
            for column, figure in zip(self.columns, figures, strict=True)
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the table as JSON; the file is replaced only when it is complete."""
        with replacing(path) as beside:
            text = json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False)
            beside.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Table:
        """Returns the table that `save` wrote.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the file is not a table.
        """
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            saved["figures"] = tuple(map(tuple, saved["figures"]))
            return cls(**{**saved, **{key: tuple(saved[key]) for key in ("rows", "columns", "notes")}})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise invalid("table", "a file that Table.save wrote", path) from error

    def __str__(self) -> str:
        percent = self.measure == ACCURACY
        cells = [[_shown(figure, percent) for figure in row] for row in self.figures]
        head = max(map(len, self.rows), default=0)
        widths = [max([8, len(column), *(len(row[i]) for row in cells)]) for i, column in enumerate(self.columns)]
        what = "" if percent else f", {self.measure}"
        lines = [f"{self.title}{what}, {self.images} images", _line("", self.columns, head, widths)]
        lines += [_line(name, row, head, widths) for name, row in zip(self.rows, cells, strict=True)]
        return "\n".join([*lines, *self.notes])


def mean(figures: Sequence[float | None]) -> float | None:
    """Returns the mean of the figures that were measured; None if there are none."""
    measured = [figure for figure in figures if figure is not None]
    return float(np.mean(measured)) if measured else None


def _shown(figure: float | None, percent: bool) -> str:
    if figure is None:
        return "-"
    return f"{100 * figure:.2f}" if percent else f"{figure:.4g}"


def _line(name: str, cells: Sequence[str], head: int, widths: Sequence[int]) -> str:
    return "  ".join([f"{name:{head}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))])
