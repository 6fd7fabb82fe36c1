"""Computes the content of a search's page, which `tfrobust/templates/search.html` lays out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras_tuner

from tfrobust.utils import charts
from tfrobust.utils.text import short
from tuning.aims import Aim, front
from tuning.outcome import Entry, Outcome
from tuning.spaces import Dimension

LETTERS = 16  # of a value in a figure
DIGITS = 3  # significant digits of a float
TICKS = (0.0, 0.25, 0.5, 0.75, 1 - 1e-9)  # on a dimension's axis, in KerasTuner's unit: [0, 1)


def context(config: Mapping[str, Any], space: Sequence[Dimension], outcome: Outcome) -> dict[str, Any]:
    """Returns the variables of the template for an outcome, which may lack a winner."""
    entries, search = outcome.entries, config["search"]
    done = [entry for entry in entries if not entry.result.failed]
    on_front = front([entry.result for entry in done])
    best = next((entry for entry in entries if entry.winner), None)
    trade_off = ""
    if done:
        trade_off = charts.trade_off(
            [_accuracies(entry) for entry in done],
            [str(entry.number) for entry in done],
            front=on_front,
            best=next((index for index, entry in enumerate(done) if entry is best), None),
            least=outcome.aim.min_clean_accuracy,
        )
    return {
        "rows": [
            {
                "entry": entry,
                "values": _texts(entry, space),
                "remarks": ". ".join(_remarks(entry, outcome.aim, [done[index] for index in on_front])),
            }
            for entry in entries
        ],
        "aim": outcome.aim,
        "best": best,
        "best_values": _texts(best, space) if best else [],
        "folder": outcome.path,
        "fields": [dimension.field for dimension in space],
        "space": [(dimension.field, _values(dimension)) for dimension in space],
        "facts": [
            ("objective", config["objective"].get("name", "")),
            ("data", config["data"]["name"]),
            ("tuner", search["tuner"] if isinstance(search["tuner"], str) else search["tuner"].get("name", "")),
            ("sought", _sought(outcome.aim)),
            ("epochs of a whole training", config["epochs"]),
            ("seed", config["seed"]),
        ],
        "judged": any(entry.report for entry in entries),
        "front": [done[index].number for index in on_front],
        "failed": outcome.failed,
        "trade_off": trade_off,
        "parallel": _parallel(space, entries, best),
    }


def _values(dimension: Dimension) -> str:
    """Returns the range or the choices of a dimension, in words."""
    _, *rest = dimension
    return ", ".join(
        f"{name} {short(value, 200, DIGITS)}" for name, value in zip(dimension._fields[1:], rest, strict=True)
    )


def _texts(entry: Entry, space: Sequence[Dimension]) -> list[str]:
    return [short(entry.trial.values[dimension.field], LETTERS, DIGITS) for dimension in space]


def _remarks(entry: Entry, aim: Aim, on_front: Sequence[Entry]) -> Iterator[str]:
    result = entry.result
    if entry.winner:
        yield "The best"
    if entry in on_front:
        yield "On the Pareto front"
    if not result.failed and not aim.meets(result):
        yield "Below the least clean accuracy"
    if result.message:
        yield f"Failed: {result.message}" if result.failed else result.message


def _sought(aim: Aim) -> str:
    w = aim.clean_weight
    sought = f"{w:g} * clean + {1 - w:g} * robust accuracy" if w else "robust accuracy"
    least = aim.min_clean_accuracy
    return sought if least is None else f"{sought}, of a clean accuracy of at least {100 * least:g} %"


def _parallel(space: Sequence[Dimension], entries: Sequence[Entry], best: Entry | None) -> str:
    """Returns the parallel coordinates of values and accuracies, as SVG; KerasTuner scales the values."""
    declared = keras_tuner.HyperParameters()
    for dimension in space:
        dimension.declare(declared)
    low, high = _ends([share for entry in entries for share in _accuracies(entry) if not math.isnan(share)])
    percents = [(tick, f"{100 * (low + tick * (high - low)):.0f}") for tick in TICKS[::2]]
    coordinates = [
        *(
            charts.Coordinate(dimension.field.replace(".", ".\n"), _ticks(dimension, drawn))
            for dimension, drawn in zip(space, declared.space, strict=True)
        ),
        *(charts.Coordinate(f"{name}\naccuracy (%)", percents) for name in ("clean", "robust")),
    ]
    lines = [
        [
            *(each.value_to_prob(entry.trial.values[each.name]) for each in declared.space),
            *((share - low) / (high - low) for share in _accuracies(entry)),
        ]
        for entry in entries
    ]
    index = next((index for index, entry in enumerate(entries) if entry is best), None)
    return charts.parallel(coordinates, lines, [line[-1] for line in lines], best=index)


def _ticks(dimension: Dimension, drawn: Any) -> list[tuple[float, str]]:
    values = dict.fromkeys(drawn.prob_to_value(tick) for tick in TICKS)
    return [(drawn.value_to_prob(value), short(dimension.value(value), LETTERS, DIGITS)) for value in values]


def _ends(shares: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of an axis for the accuracies, at whole tenths; 0 and 1 without accuracies."""
    low = math.floor(10 * min(shares, default=0.0)) / 10
    return min(low, 0.9), max(math.ceil(10 * max(shares, default=1.0)) / 10, low + 0.1)


def _accuracies(entry: Entry) -> tuple[float, float]:
    """Returns clean and robust accuracy, NaN if the trial failed."""
    clean, robust = entry.result.clean_accuracy, entry.result.robust_accuracy
    return math.nan if clean is None else clean, math.nan if robust is None else robust
