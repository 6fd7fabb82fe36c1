"""Starting points of a search: functions `(ball, x, noise) -> z`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tfrobust.attacks.threat_model import Ball
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor

if TYPE_CHECKING:
    from tfrobust.utils.random import Noise

Start = Callable[[Ball, Tensor, "Noise"], Tensor]


def uniform(ball: Ball, x: Tensor, noise: Noise) -> Tensor:
    """Returns a point drawn uniformly from the ball (Madry et al. 2018)."""
    return ball.start(x, noise)


def normal(ball: Ball, x: Tensor, noise: Noise) -> Tensor:
    """Returns x + 0.001 * N(0, 1) pixel ranges, projected: the start of TRADES, whose loss has no gradient at x."""
    return ball.project(x + 0.001 * ball.width * noise.normal(x), x)


def clean(ball: Ball, x: Tensor, noise: Noise) -> Tensor:
    """Returns x itself."""
    return x


STARTS: dict[str, Start] = {"uniform": uniform, "normal": normal, "none": clean}


def get(start: str | Start | None) -> Start | None:
    """Returns the start for a name or a function; None for "auto", where an objective may choose it."""
    if start is None or callable(start):
        return start
    if start == "auto":
        return None
    if start not in STARTS:
        raise unknown("start", start, [*STARTS, "auto"])
    return STARTS[start]
