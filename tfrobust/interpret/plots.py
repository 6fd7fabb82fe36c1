"""Draws each result as a matplotlib figure: `figure.savefig("map.png")` writes it, a notebook shows it.

In all functions, `title` is the text above the chart and `names` are the names of the classes (None: their numbers).
Colours are those of Okabe and Ito, cividis and PuOr, which colour-blind readers can distinguish; lines differ in their
marks too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrobust.utils import charts
from tfrobust.utils.charts import GREY, LEGEND, style
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.html import interval

if TYPE_CHECKING:
    from tfrobust.evaluation import Table
    from tfrobust.interpret.embedding import Embedding
    from tfrobust.interpret.hard_classes import HardClasses
    from tfrobust.interpret.relevance import Relevance

Figure = Any

GAP = 1  # pixels between images of a row
NUMBERED = 12  # rows of a table of colours whose cells still have room for a number


def grid(rows: Mapping[str, Any], title: str = "", captions: Sequence[str] = ()) -> Figure:
    """Draws rows of N pictures or maps, one column for each image.

    Args:
        rows: label -> pictures `(N, H, W, C)` in [0, 1] (3 channels are colours; of any other number the mean is
            drawn), or maps `(N, H, W)`. The maps of a row share one scale, which is drawn beside them: from 0 if they
            are never negative, else around 0.
        title: text above all rows.
        captions: texts above the columns.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: for arrays of another number of dimensions.

    Example:

    >>> x = np.random.default_rng(0).random((4, 8, 8, 1))
    >>> figure = tfrobust.interpret.plots.grid({"image": x, "map": x[..., 0] - 0.5}, "maps")
    >>> [axes.get_ylabel() for axes in figure.axes[::2]]
    ['image', 'map']
    """
    parts = {label: np.asarray(part) for label, part in rows.items()}
    if wrong := [part.shape for part in parts.values() if part.ndim not in (3, 4)]:
        raise InvalidArgument(f"Expected pictures (N, H, W, C) or maps (N, H, W). Received: shape {wrong[0]}")
    first = next(iter(parts.values()))
    count, (height, width) = len(first), first.shape[1:3]
    cell = 0.8
    size = (1.7 + cell * count, 0.7 + 1.1 * cell * len(parts) * height / width)
    with charts.figure(size, len(parts), 2, squeeze=False, width_ratios=(count, 0.12)) as (figure, axes):
        for place, ((ax, scale), (label, part)) in enumerate(zip(axes, parts.items(), strict=True)):
            _row(ax, scale, part)
            ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize="small")
            ax.set(xticks=(), yticks=(), anchor="E")
            ax.spines[:].set_visible(False)
            if place == 0 and len(captions):
                step = (part[0, :: charts.thinning(part[0][..., None])].shape[0] * width / height) + GAP
                ax.set_xticks(step * (np.arange(count) + 0.5) - 0.5, captions, fontsize="x-small")
                ax.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
        figure.suptitle(title, x=0.01, ha="left")  # a narrow screen shows the left side first
    return figure


def gradient_map_test(tables: Mapping[str, Table]) -> Figure:
    """Draws the accuracies of gradient-map tests, split -> table, with their 95 % intervals (Clopper and Pearson)."""
    first = next(iter(tables.values()))
    series = [(split, form) for split in tables for form in first.columns]
    with charts.figure((5.6, 1.4 + 0.2 * len(series) * (0.5 + len(first.rows)))) as (figure, axes):
        for number, (split, form) in enumerate(series):
            table = tables[split]
            shares = np.array([table[row, form] for row in table.rows], "float64")
            bounds = np.array([interval(share, table.images) for share in shares.tolist()]).T
            y = np.arange(len(shares)) + 0.8 / len(series) * (number - (len(series) - 1) / 2)
            marks = {**style(number), "linestyle": "none"}
            error = np.abs(bounds - shares)
            axes.errorbar(100 * shares, y, xerr=100 * error, capsize=2, label=f"{split}, {form}", **marks)
        axes.set_yticks(range(len(first.rows)), first.rows)
        axes.set(title="Gradient-map test", xlabel="accuracy of the judge on gradient maps (%)")
        axes.invert_yaxis()
        charts.plain(axes)
        figure.legend(**LEGEND, loc="outside lower center", ncols=2)
    return figure


def relevance(found: Mapping[str, Relevance], title: str = "Attention by robustness") -> Figure:
    """Draws mean attention weights by robustness rank, with the rank correlation of each line.

    Args:
        found: label -> `Relevance`, all with the same number of positions.
        title: text above the chart.
    """
    positions = len(next(iter(found.values())).attention)
    with charts.figure((5.6, 3.9 + 0.2 * len(found))) as (figure, axes):
        for number, (label, of) in enumerate(found.items()):
            text = f"{label}: {of.correlation:.2f} [{of.low:.2f}, {of.high:.2f}]"
            axes.plot(of.attention, label=text, markersize=3, **style(number))
        axes.axhline(1 / positions, color=GREY, linestyle=":", linewidth=1, label="even attention")
        axes.set(title=title, xlabel="robustness rank of the position (0: moved least)", ylabel="mean attention weight")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        charts.plain(axes)
        figure.legend(**LEGEND, loc="outside lower center", title="rank correlation, 95 % interval")
    return figure


def hard_classes(found: HardClasses, names: Sequence[str] | None = None, title: str = "After an attack") -> Figure:
    """Draws the predictions for the fooled images of each class, in percent of these images."""
    shares = 100 * found.shares
    np.fill_diagonal(shares, np.nan)
    named = list(range(len(shares))) if names is None else names
    return _colours(shares, named, named, title, ("taken for", "true class"), "share of fooled images (%)", "{:.0f}")


def agreement(
    shares: Any,
    predictor: Any,
    title: str = "Hard classes and prototypes",
    measure: str = "cosine of the two prototypes",
) -> Figure:
    """Draws the share of fooled images that class i loses to j against what predicts it.

    Args:
        shares: `HardClasses.shares`, `(C, C)`.
        predictor: `prototype_cosines` or `mean_probabilities`, `(C, C)`.
        title: text above the chart.
        measure: text below the chart: what the predictor is.
    """
    shares, predictor = np.asarray(shares), np.asarray(predictor)
    cells = ~np.eye(len(shares), dtype=bool) & ~np.isnan(shares)
    with charts.figure((4.8, 3.3)) as (figure, axes):
        axes.plot(predictor[cells], 100 * shares[cells], "o", color=charts.BLUE, markersize=4, alpha=0.7)
        even = 100 / max(len(shares) - 1, 1)
        axes.axhline(even, color=GREY, linestyle=":", linewidth=1, label=f"even spread, {even:.1f} %")
        axes.set(title=title, xlabel=measure, ylabel="share of fooled images (%)")
        charts.plain(axes)
        axes.legend(**LEGEND)
    return figure


def weight_norms(norms: Mapping[str, Any], names: Sequence[str] | None = None) -> Figure:
    """Draws the norms of the classes' weight vectors, with marks of one kind for each classifier.

    Args:
        norms: classifier -> `weight_norms`, `(C,)`.
        names: names of the classes.
    """
    classes = len(next(iter(norms.values())))
    with charts.figure((5.6, 3.6)) as (figure, axes):
        for number, (label, values) in enumerate(norms.items()):
            axes.plot(values, label=label, **{**style(number), "linestyle": "none"})
        if classes <= 2 * NUMBERED:
            _class_ticks(axes, range(classes) if names is None else names)
        axes.set(title="Weight norms of the classes", xlabel="class", ylabel="L2 norm of the weights")
        axes.set_ylim(0, 1.1 * max(np.max(values) for values in norms.values()))
        charts.plain(axes)
        figure.legend(**LEGEND, loc="outside lower center", ncols=2)
    return figure


def embedding(found: Embedding, names: Sequence[str] | None = None, title: str = "Features (t-SNE)") -> Figure:
    """Draws the map of features, clean and attacked images side by side; hollow marks are wrong predictions."""
    sides = [("clean", ~found.attacked), ("after attack", found.attacked)][: 1 + bool(found.attacked.any())]
    present = np.unique(found.labels).tolist()
    size, shared = (0.9 + 3.6 * len(sides), 3.8), {"sharex": True, "sharey": True}
    with charts.figure(size, 1, len(sides), squeeze=False, **shared) as (figure, axes):
        for ax, (side, chosen) in zip(axes[0], sides, strict=True):
            for label in present:
                marks = style(label)
                for right, face in ((True, marks["color"]), (False, "none")):
                    rows = chosen & (found.labels == label) & ((found.predicted == found.labels) == right)
                    name = (label if names is None else names[label]) if right and ax is axes[0, 0] else None
                    # One scatter for each kind: its legend entry stands even where there is no point of it.
                    ax.scatter(*found.points[rows].T, 14, marker=marks["marker"], label=name, facecolors=face,
                               edgecolors=marks["color"], linewidths=0.8)  # fmt: skip
            ax.set(title=side, xticks=(), yticks=(), xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
        figure.suptitle(title, x=0.01, ha="left")
        if len(present) <= 2 * NUMBERED:
            figure.legend(**LEGEND, loc="outside right center", title="true class")
    return figure


def coverage(table: Table) -> Figure:
    """Draws a table of `coverage`, the share of pixels whose gradient exceeds a threshold, as a line by classifier."""
    unit = "share of the image's greatest gradient" if table.settings["normalized"] else "loss per pixel range"
    return _lines(table, "Coverage of the gradient", f"threshold ({unit})", "pixels above it (%)")


def attack_strength(table: Table, title: str = "Attack strength and iterations") -> Figure:
    """Draws a table of `attack_strength`, the accuracy under attacks by their iterations."""
    return _lines(table, title, "iterations (number)", "accuracy (%)", doubling=True)


def dra_success(table: Table) -> Figure:
    """Draws a table of `dra_success`, the success of DRA by p."""
    title = f"DRA at eps = {table.settings['eps']:.4g} (mean absolute change)"
    return _lines(table, title, "p (share of the values that change)", "success (% of the images that were right)")


def perturbation_distances(table: Table, title: str = "Distances between adversaries") -> Figure:
    """Draws a table of `perturbation_distances`, the distances between the adversaries of attacks."""
    unit = "mean L2 distance (pixel range)"
    return _colours(np.array(table.figures), table.columns, table.rows, title, ("", ""), unit, "{:.3g}")


def _row(axes: Any, scale: Any, part: np.ndarray) -> None:
    """Draws one row of a grid as one picture (axes for each image would take seconds), and its scale on the second."""
    stride = charts.thinning(part[0] if part.ndim == 4 else part[0][..., None])
    part = part[:, ::stride, ::stride].astype("float64")
    gaps = [(0, 0), (0, 0), (0, GAP)]
    if part.ndim == 4:
        part = np.clip(part if part.shape[-1] == 3 else part.mean(axis=-1, keepdims=True).repeat(3, axis=-1), 0.0, 1.0)
        axes.imshow(np.concatenate(np.pad(part, [*gaps, (0, 0)], constant_values=1.0), axis=1), interpolation="nearest")
        scale.set_axis_off()
        return
    most = float(np.nanmax(np.abs(part), initial=0.0)) or 1.0
    signed = bool((part < 0).any())
    colours = {"vmin": -most if signed else 0.0, "vmax": most, "cmap": "PuOr" if signed else "cividis"}
    joined = np.concatenate(np.pad(part, gaps, constant_values=np.nan), axis=1)
    shown = axes.imshow(joined, interpolation="nearest", **colours)
    axes.figure.colorbar(shown, cax=scale).ax.tick_params(labelsize="x-small")


def _class_ticks(axes: Any, names: Sequence[Any]) -> None:
    axes.set_xticks(range(len(names)), names, rotation=45 if max(len(str(name)) for name in names) > 3 else 0)


def _lines(table: Table, title: str, x_label: str, y_label: str, *, doubling: bool = False) -> Figure:
    """Draws a table's rows, in percent, against its columns, which are numbers."""
    x = list(map(float, table.columns))
    with charts.figure((4.8, 3.5)) as (figure, axes):
        for number, (row, figures) in enumerate(zip(table.rows, table.figures, strict=True)):
            axes.plot(x, [np.nan if f is None else 100 * f for f in figures], label=row, markersize=4, **style(number))
        if doubling:
            charts.doubling(axes, x)
        axes.set(title=title, xlabel=x_label, ylabel=y_label, ylim=(-3, 103))
        charts.plain(axes)
        axes.legend(**LEGEND)
    return figure


def _colours(
    values: np.ndarray,
    columns: Sequence[Any],
    rows: Sequence[Any],
    title: str,
    labels: tuple[str, str],
    unit: str,
    number: str,
) -> Figure:
    """Draws a table of colours, with its numbers where there is room for them."""
    roomy = len(rows) <= NUMBERED
    side = 1.4 + (0.3 * max(len(rows), 6) if roomy else 3.2)
    with charts.figure((side + 0.8, side)) as (figure, axes):
        shown = axes.imshow(values, cmap="cividis", vmin=0)
        figure.colorbar(shown, ax=axes, label=unit)
        if roomy:
            _class_ticks(axes, columns)
            axes.set_yticks(range(len(rows)), rows)
            middle = np.nanmax(values, initial=0.0) / 2
            for (i, j), value in np.ndenumerate(values):
                if not np.isnan(value):
                    ink = "black" if value > middle else "white"
                    axes.text(j, i, number.format(value), ha="center", va="center", fontsize="small", color=ink)
        axes.set(title=title, xlabel=labels[0], ylabel=labels[1])
    return figure
