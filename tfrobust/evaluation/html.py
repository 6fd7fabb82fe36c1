"""Collects the contents of a report's page; `tfrobust/templates/report.html` holds its layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrobust.utils import charts as _figures
from tfrobust.utils.errors import invalid_value
from tfrobust.utils.html import duration, interval, render
from tfrobust.utils.text import short

if TYPE_CHECKING:
    from tfrobust.evaluation.report import Report, Result

CLASSES = 20  # greatest number of classes that are shown, the hardest ones
PAIRS = 10
WORST = 12
NAME = 32  # greatest length of the name of a class
SETTING = 60  # greatest length of a value of an attack
BYTES = 3_000_000  # greatest size of all embedded images before compression
ELSEWHERE = ("name", "norm", "bounds")  # settings of an attack that other columns show


def page(report: Report, class_names: Sequence[str] | None = None) -> str:
    """Returns the page of a report: alarms, figures, attacks, curves, worst images, classes, confusion, how to repeat.

    Sections for which the report has no data are replaced by a sentence.

    Args:
        report: report of `tfrobust.evaluate`.
        class_names: one name for each class, in the order of the labels; None: their numbers.

    Raises:
        ValueError: if the numbers of names and classes differ.
    """
    return render("report.html", **context(report, class_names))


def context(report: Report, class_names: Sequence[str] | None = None) -> dict[str, Any]:
    """Returns the values that the template reads."""
    if class_names is not None and len(class_names) != report.classes:
        raise invalid_value("class_names", f"{report.classes} names", len(class_names))
    named = [short(name, NAME) for name in (range(report.classes) if class_names is None else class_names)]
    adversaries = report.adversaries
    try:
        _ = adversaries is None or adversaries.y  # read from the file beside a report that was loaded
    except FileNotFoundError:
        adversaries = None
    ball = f"{report.norm} ball of eps = {_radius(report)}"
    classes = None if adversaries is None else _by_class(adversaries, named)
    return {
        "report": report,
        "summary": f"{report.images} images, {report.classes} classes, {ball}",
        "accuracies": _accuracies(report),
        "how": _how(report),
        "attacks": [
            {"part": part, "result": result, "settings": _settings(result, report)}
            for part, result in _rows(report.attacks)
        ],
        "charts": _charts(report),
        "absent": [name for name in ("eps", "steps") if not report.curves.get(name)],
        "adversaries": adversaries is not None,
        "worst": None if adversaries is None else _worst(report, adversaries, named),
        "classes": classes,
        "confusion": None if classes is None else _confusion(adversaries, named, classes),
        "facts": _facts(report),
        "call": _call(report),
        "settings": json.dumps([_with_parts(result) for result in report.attacks], indent=2, default=str),
    }


def _accuracies(report: Report) -> list[dict[str, Any]]:
    shares = {
        "Clean accuracy": (report.clean_accuracy, "right on the images as they are"),
        "Robust accuracy": (report.robust_accuracy, "right also on every adversary that any attack found"),
        "Robust accuracy, 8 bits": (report.robust_accuracy_8bit, "the same with the adversaries saved as 8-bit images"),
    }
    return [
        {
            "label": label,
            "share": share,
            "meaning": meaning,
            "right": None if share is None else round(share * report.images),
            "interval": None if share is None else interval(share, report.images),
        }
        for label, (share, meaning) in shares.items()
    ]


def _how(report: Report) -> str:
    """Returns a sentence on the column of accuracies: in order, or each attack on all images that were right."""
    right = round(report.clean_accuracy * report.images)
    if len(report.attacks) > 1 and all(result.attacked == right for result in report.attacks):
        return (
            f"Each attack started from all {right} images that were right; accuracy is what it left by itself. Robust "
            "accuracy is the worst of all attacks per image."
        )
    return "Each attack ran on the images that were still right; accuracy is what it and all before it left."


def _rows(results: Sequence[Result], part: bool = False) -> Iterator[tuple[bool, Result]]:
    for result in results:
        yield part, result
        yield from _rows(result.parts, part=True)


def _settings(result: Result, report: Report) -> str:
    shown = {
        key: value
        for key, value in result.settings.items()
        if key not in ELSEWHERE and value not in (None, False) and not (key == "eps" and value == report.eps)
    }
    return ", ".join(f"{key}={short(value, SETTING)}" for key, value in shown.items())


def _charts(report: Report) -> list[dict[str, Any]]:
    probed = f"by the gradient probe on {report.probe_images} images"
    width = report.bounds[1] - report.bounds[0]
    evaluated = _figures.Mark(report.eps / width, report.robust_accuracy, f"all attacks, {report.images} images")
    kinds = {
        "eps": ("Accuracy and size of the ball", "eps (fraction of the pixel range)", evaluated),
        "steps": (f"Accuracy and steps at eps = {_radius(report)}", "steps of the attack (number)", None),
    }
    charts = []
    for name, (title, x_label, mark) in kinds.items():
        unit = width if name == "eps" else 1
        points = sorted((at / unit, accuracy) for at, accuracy in report.curves.get(name) or ())
        if not points:
            continue
        uri = _figures.curve(points, title, x_label, label=probed, mark=mark, logarithmic=name == "steps")
        caption = f"Accuracy {probed}" + ("; the mark is the evaluation's own robust accuracy." if mark else ".")
        charts.append({"uri": uri, "title": title, "x_label": x_label, "caption": caption, "points": points})
    return charts


def _worst(report: Report, adversaries: Any, named: Sequence[str]) -> dict[str, Any] | None:
    """Returns fooled images, one for each confusion before a second of any, the most frequent confusion first."""
    fooled = np.flatnonzero(np.asarray(adversaries.fooled_by) >= 0)
    if not len(fooled):
        return None
    pairs: dict[tuple[int, int], list[int]] = {}
    for number in fooled.tolist():
        pairs.setdefault((int(adversaries.y[number]), int(adversaries.predicted[number])), []).append(number)
    by_count = sorted(pairs.items(), key=lambda item: (-len(item[1]), item[0]))
    turns = [(turn, rank, n) for rank, (_, numbers) in enumerate(by_count) for turn, n in enumerate(numbers[:WORST])]
    low, high = report.bounds
    shape = adversaries.x.shape[1:]
    thinning = _figures.thinning(np.empty(shape, "bool"))
    fits = BYTES * thinning**2 // (9 * shape[0] * shape[1])
    chosen = [n for _, _, n in sorted(turns)][: int(np.clip(fits, 3, WORST))]
    x, z = ((np.asarray(part[chosen], "float32") - low) / (high - low) for part in (adversaries.x, adversaries.z))
    factor = _round_down(0.5 / max(float(np.abs(z - x).max()), 1e-6))
    attacks = report.flat
    images = [
        {
            "number": n,
            "clean": _figures.image(clean),
            "change": _figures.image(0.5 + factor * (attacked - clean)),
            "attacked": _figures.image(attacked),
            "true": _name(named, adversaries.y[n]),
            "before": _name(named, adversaries.clean_predicted[n]),
            "after": _name(named, adversaries.predicted[n]),
            "by": attacks[int(adversaries.fooled_by[n])].name,
            "size": _size(attacked - clean, report.norm),
        }
        for n, clean, attacked in zip(chosen, x, z, strict=True)
    ]
    return {"images": images, "fooled": len(fooled), "factor": factor, "channels": shape[-1], "thinning": thinning}


def _by_class(adversaries: Any, named: Sequence[str]) -> dict[str, Any]:
    """Returns the accuracies of each class; of more than 20 classes those of the hardest."""
    y, fooled_by = np.asarray(adversaries.y), np.asarray(adversaries.fooled_by)
    images, clean, robust = (
        np.bincount(y, weights=chosen, minlength=len(named)) for chosen in (y >= 0, fooled_by != -2, fooled_by == -1)
    )
    present = np.flatnonzero(images)
    if limited := len(present) > CLASSES:
        hardness = np.lexsort((present, clean[present] / images[present], robust[present] / images[present]))
        shown = present[hardness[:CLASSES]]
    else:
        shown = present
    rows = [
        {"name": named[c], "images": int(images[c]), "clean": clean[c] / images[c], "robust": robust[c] / images[c]}
        for c in shown
    ]
    return {"rows": rows, "shown": shown, "limited": limited, "of": len(present)}


def _confusion(adversaries: Any, named: Sequence[str], classes: dict[str, Any]) -> dict[str, Any]:
    """Returns the counts label -> prediction of the classes shown, and the most frequent mistakes of all."""
    known = np.asarray(adversaries.predicted) >= 0
    y, predicted = np.asarray(adversaries.y)[known], np.asarray(adversaries.predicted)[known]
    images = np.bincount(y, minlength=len(named))
    wrong = np.stack([y, predicted], axis=-1)[y != predicted]
    mistakes, counts = np.unique(wrong, axis=0, return_counts=True)
    first = np.argsort(-counts, kind="stable")[:PAIRS]
    pairs = [
        {"true": named[t], "taken": named[p], "count": int(count), "share": count / images[t]}
        for (t, p), count in zip(mistakes[first], counts[first], strict=True)
    ]
    shown = classes["shown"]
    columns = [named[c] for c in shown]
    place = np.full(len(named), len(shown))  # of a class in the table; the last place is for all that are not shown
    place[shown] = np.arange(len(shown))
    table = np.zeros((len(shown) + 1, len(shown) + 1), int)
    np.add.at(table, (place[y], place[predicted]), 1)
    if table[:-1, -1].any():
        columns.append("others")
    table = table[:-1, : len(columns)]
    rows = [
        {
            "name": named[c],
            "cells": [
                {"count": int(count), "share": count / max(images[c], 1), "right": column == row}
                for column, count in enumerate(table[row])
            ],
        }
        for row, c in enumerate(shown)
    ]
    return {"pairs": pairs, "columns": columns, "rows": rows, "upright": max(map(len, columns)) > 6}


def _facts(report: Report) -> list[tuple[str, str]]:
    return [
        ("norm", report.norm),
        ("eps", f"{_radius(report)} of the pixel range"),
        ("bounds", f"pixels in [{report.bounds[0]:g}, {report.bounds[1]:g}]"),
        ("images", str(report.images)),
        ("classes", str(report.classes)),
        ("seed", str(report.seed)),
        ("batch size", str(report.batch_size)),
        ("draws", f"{report.draws} passes voted on each prediction" if report.draws > 1 else "1"),
        ("time", duration(report.seconds)),
        ("versions", ", ".join(f"{name} {version}" for name, version in report.versions.items())),
    ]


def _call(report: Report) -> str:
    return (
        f"tfrobust.evaluate(classifier, data, eps={report.eps!r}, norm={report.norm!r}, bounds={report.bounds!r},\n"
        f"                  seed={report.seed}, batch_size={report.batch_size}, draws={report.draws},\n"
        "                  attacks=...)  # settings: below"
    )


def _with_parts(result: Result) -> dict[str, Any]:
    parts = {"parts": [_with_parts(part) for part in result.parts]} if result.parts else {}
    return {"name": result.name, "settings": result.settings, **parts}


def _name(named: Sequence[str], predicted: int) -> str:
    return named[predicted] if predicted >= 0 else "none (NaN)"


def _size(change: np.ndarray, norm: str) -> float:
    magnitude = np.abs(change.astype("float64"))
    if norm == "l2":
        return float(np.sqrt(np.square(magnitude).sum()))
    return float(magnitude.max() if norm == "linf" else magnitude.mean())


def _round_down(value: float) -> float:
    """Returns the greatest number of two digits that is at most the value, so that no amplified pixel is clipped."""
    unit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(f"{np.floor(value / unit + 1e-6) * unit:.2g}")


def _radius(report: Report) -> str:
    """Returns eps as a fraction of the pixel range, as k/255 if it is a whole number of levels."""
    eps = report.eps / (report.bounds[1] - report.bounds[0])
    level = eps * 255
    return f"{level:.0f}/255" if level >= 1 and abs(level - round(level)) < 1e-3 else f"{eps:.4g}"
