"""Draws figures by matplotlib's objects, without pyplot and its state, and encodes pictures as data URIs."""

import base64
import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

# Okabe and Ito's palette, which colour-blind readers can distinguish.
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
PALETTE = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "black")
MARKERS, DASHES = "osD^vPX*<>", ("-", "--", "-.", ":")
LEGEND = {"frameon": False, "fontsize": "small"}

# The text of a tick has a pale background, because lines cross it.
TICK = {"fontsize": "small", "va": "center", "bbox": {"color": "white", "alpha": 0.7, "pad": 0.5}, "zorder": 4}

TEXT = {"svg.hashsalt": "tfrobust", "svg.fonttype": "path", "text.parse_math": False}
LARGEST = 256  # pixels of a side of an embedded image; larger ones are subsampled


class Coordinate(NamedTuple):
    """A vertical axis of parallel coordinates: its label, and (position in [0, 1], text) of its ticks."""

    label: str
    ticks: Sequence[tuple[float, str]]


class Mark(NamedTuple):
    """A labelled point next to a curve."""

    x: float
    y: float
    label: str


def curve(
    points: Sequence[Sequence[float]],
    title: str,
    x_label: str,
    *,
    label: str,
    mark: Mark | None = None,
    logarithmic: bool = False,
) -> str:
    """Returns a chart of shares (in percent, from 0 to 100) as an SVG data URI; equal input gives equal text.

    The points are (x, share in [0, 1]) in the order of x, and the `y` of a mark is a share, too. A logarithmic axis
    has a linear part from 0 to 1.
    """
    x, y = np.asarray(points, "float64").T
    with figure((4.8, 3.3)) as (drawn, axes):
        axes.plot(x, 100 * y, color=BLUE, marker="o", markersize=4, label=label)
        if mark is not None:
            axes.plot(mark.x, 100 * mark.y, color=VERMILION, marker="D", linestyle="none", label=mark.label)
        if logarithmic:
            doubling(axes, x)
        axes.set(title=title, xlabel=x_label, ylabel="accuracy (%)", ylim=(-3, 103))
        plain(axes)
        if mark is not None:
            axes.legend(**LEGEND)
    return uri(drawn)


def trade_off(
    points: Sequence[Sequence[float]],
    labels: Sequence[str],
    *,
    front: Iterable[int],
    best: int | None = None,
    least: float | None = None,
) -> str:
    """Returns a chart of robust against clean accuracy (in percent) as an SVG data URI.

    Args:
        points: (clean, robust), shares in [0, 1].
        labels: one label for each point; equal points share one text.
        front: indices of the points that are joined as the Pareto front.
        best: index of the best point.
        least: clean accuracy at which a line is drawn.
    """
    places: dict[tuple[float, ...], list[str]] = {}
    for point, label in zip(points, labels, strict=True):
        places.setdefault(tuple(100 * share for share in point), []).append(label)
    joined = np.array(sorted({tuple(100 * share for share in points[place]) for place in front})).reshape(-1, 2)
    with figure((5.6, 4.2)) as (drawn, axes):
        if least is not None:
            axes.axvline(100 * least, color=GREY, linestyle="--", linewidth=1, label="least clean accuracy")
        axes.plot(*np.array(list(places)).reshape(-1, 2).T, "o", color=GREY, markersize=5, label="trial")
        axes.plot(*joined.T, "o-", color=BLUE, markersize=6, linewidth=1, label="Pareto front")
        if best is not None:
            x, y = points[best]
            axes.plot(100 * x, 100 * y, "D", color=VERMILION, markersize=8, label="best")
        for place, names in places.items():
            axes.annotate(", ".join(names), place, (5, 5), textcoords="offset points", fontsize="small")
        axes.margins(0.12)
        axes.set(xlabel="clean accuracy (%)", ylabel="robust accuracy (%)")
        axes.ticklabel_format(useOffset=False)
        plain(axes)
        drawn.legend(**LEGEND, loc="outside upper center", ncols=4)  # outside, so that it hides no point
    return uri(drawn)


def parallel(
    coordinates: Sequence[Coordinate],
    lines: Sequence[Sequence[float]],
    shades: Sequence[float],
    best: int | None = None,
) -> str:
    """Returns parallel coordinates as an SVG data URI: an axis for each coordinate, a line for each point.

    Args:
        coordinates: the axes, from left to right.
        lines: positions in [0, 1] on each axis; NaN if a line ends.
        shades: shades of the lines in [0, 1] from pale to dark; NaN: dotted.
        best: index of the line that is marked.
    """
    from matplotlib import colormaps

    columns = np.arange(len(coordinates))

    def style(number: int) -> dict[str, Any]:
        if number == best:
            return {"color": VERMILION, "linewidth": 2.5, "zorder": 3}
        if np.isnan(shades[number]):
            return {"color": GREY, "linestyle": ":"}
        return {"color": colormaps["Blues"](0.3 + 0.7 * shades[number])}

    with figure((1.2 + 1.5 * len(coordinates), 3.6)) as (drawn, axes):
        for number, line in enumerate(lines):
            axes.plot(columns, line, marker="o", markersize=3, clip_on=False, **style(number))
        for column, (_, ticks) in enumerate(coordinates):
            axes.axvline(column, color="black", linewidth=0.8)
            for place, text in ticks:
                axes.annotate(text, (column, place), (6, 0), textcoords="offset points", **TICK)
        axes.set_xticks(columns, [coordinate.label for coordinate in coordinates])
        axes.set(ylim=(-0.03, 1.03), xlim=(-0.1, len(coordinates) - 0.6), yticks=())
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return uri(drawn)


def image(pixels: np.ndarray) -> str:
    """Returns an image `(H, W, C)` with values in [0, 1] as a PNG data URI.

    Three channels are colours and one is gray; of any other number it is their mean. Sides of more than 256 pixels
    are subsampled, and values outside [0, 1] are clipped.
    """
    from matplotlib.image import imsave

    stride = thinning(pixels)
    shown = np.clip(pixels[::stride, ::stride], 0.0, 1.0)
    if shown.shape[-1] != 3:
        shown = np.repeat(shown.mean(axis=-1, keepdims=True), 3, axis=-1)
    written = io.BytesIO()
    imsave(written, np.ascontiguousarray(shown), format="png")
    return _uri("image/png", written.getvalue())


def thinning(pixels: np.ndarray) -> int:
    """Returns the stride by which an image `(H, W, C)` is subsampled."""
    return -(-max(pixels.shape[:2]) // LARGEST)


def style(number: int) -> dict[str, Any]:
    """Returns colour, marker and dashes of the n-th line of a chart, so that lines differ not only in colour."""
    marks = {"marker": MARKERS[number % len(MARKERS)], "linestyle": DASHES[number % len(DASHES)]}
    return {"color": PALETTE[number % len(PALETTE)], **marks}


def plain(axes: Any) -> None:
    """Gives axes a pale grid and removes their upper and right frame."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def doubling(axes: Any, x: Sequence[float] | np.ndarray) -> None:
    """Gives axes a horizontal scale that is logarithmic from 1 on, with ticks at x."""
    axes.set_xscale("symlog", base=2, linthresh=1)
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.minorticks_off()


@contextlib.contextmanager
def figure(size: tuple[float, float], rows: int = 1, columns: int = 1, **more: Any) -> Iterator[tuple[Any, Any]]:
    """Yields a matplotlib figure of a size in inches, and its axes, on which the block draws.

    `more` are arguments of matplotlib's `Figure.subplots`. A `$` in a text is a dollar.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(TEXT):
        drawn = Figure(figsize=size, layout="constrained")
        yield drawn, drawn.subplots(rows, columns, **more)


def svg(figure: Any) -> bytes:
    """Returns a figure as an SVG file; equal drawings give equal text."""
    from matplotlib import rc_context

    with rc_context(TEXT):
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


def uri(figure: Any) -> str:
    """Returns a figure as an SVG data URI."""
    return _uri("image/svg+xml", svg(figure))


def _uri(kind: str, written: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(written).decode('ascii')}"
