"""Pictures of a page as data URIs: curves by matplotlib's own objects (no pyplot, no state), images pixel by pixel."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Okabe and Ito's palette: told apart by colour-blind readers too.
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#555555"

LARGEST = 256  # pixels a side of an embedded image; more are thinned out


class Mark(NamedTuple):
    """A point that stands beside a curve."""

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

    Args:
        points: (x, share in [0, 1]), in the order of x.
        title: above the chart.
        x_label: of the horizontal axis, with its unit.
        label: of the curve.
        mark: a point beside it, its `y` a share too.
        logarithmic: the horizontal axis by doubling from 1 on; x of 0 stands before it.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    x, y = np.asarray(points, "float64").T
    with rc_context({"svg.hashsalt": "tfrobust", "svg.fonttype": "path"}):
        figure = Figure(figsize=(4.8, 3.3), layout="constrained")
        axes: Any = figure.subplots()
        axes.plot(x, 100 * y, color=BLUE, marker="o", markersize=4, label=label)
        if mark is not None:
            axes.plot(mark.x, 100 * mark.y, color=VERMILION, marker="D", linestyle="none", label=mark.label)
        if logarithmic:
            axes.set_xscale("symlog", base=2, linthresh=1)
            axes.set_xticks(x, [f"{value:g}" for value in x])
            axes.minorticks_off()
        axes.set(title=title, xlabel=x_label, ylabel="accuracy (%)", ylim=(-3, 103))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if mark is not None:
            axes.legend(frameon=False, fontsize="small")
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return _uri("image/svg+xml", written.getvalue())


def image(pixels: np.ndarray) -> str:
    """Returns an image `(H, W, C)` with values in [0, 1] as a PNG data URI.

    Three channels are colours and one is gray; of any other number it is their mean. Sides of more than 256 pixels
    are thinned out, and what lies outside [0, 1] is clipped.
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
    """Returns the k of "every k-th pixel is shown" for an image `(H, W, C)`."""
    return -(-max(pixels.shape[:2]) // LARGEST)


def _uri(kind: str, written: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(written).decode('ascii')}"
