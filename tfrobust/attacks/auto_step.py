"""The step rule of Auto-PGD: the step halves where it stops helping, and goes on from the best point."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrobust.attacks.rows import column, where_rows, zeros
from tfrobust.attacks.steps import Sign
from tfrobust.utils.validation import check_integer

Tensor = Any


class State(NamedTuple):
    """What `AutoStep` remembers: the iteration, the clean pixels, and of each image what its search has met."""

    iteration: Tensor
    x: Tensor
    last: Tensor  # the point that the step before was made from
    last_value: Tensor  # where that step led from, as it was found: going back to the best point is no rise
    best: Tensor  # the point with the greatest value so far
    best_gradient: Tensor
    best_value: Tensor
    size: Tensor  # of a step, as a fraction of eps
    rises: Tensor  # steps since the last control point in which the value rose
    checked_value: Tensor  # the best value at the last control point
    halved: Tensor  # whether the step was halved there


class AutoStep:
    """z + a * (p - z) + (1 - a) * (z - z_last) with p = project(z + size * direction(g)); the size finds itself.

    The first step has size `first` * eps and a = 1. At control points the size is halved where the value rose in at
    most the share `rising` of the steps since the one before, or where it was not halved there and the best value has
    not changed since; the search then goes on from the best point and its gradient. Croce and Hein 2020 (Reliable
    Evaluation of Adversarial Robustness), algorithm 1 with its conditions 1 and 2.

    Args:
        rule: the step rule whose direction it takes, `Sign` in the Linf ball and `Normalized` in the L2 ball.
        steps: iterations of the search, which the control points divide.
        first: first step size as a fraction of eps.
        momentum: a.
        rising: share of steps that must raise the value for the size to stay.
    """

    def __init__(
        self, rule: Sign, steps: int, *, first: float = 2.0, momentum: float = 0.75, rising: float = 0.75
    ) -> None:
        self.rule = rule
        self.first = first
        self.momentum = momentum
        self.rising = rising
        points = control_points(steps)
        self._intervals = np.zeros(steps + 1, "float32")  # at a control point the steps since the one before, else 0
        self._intervals[points] = np.diff(points, prepend=0)

    def init(self, x: Tensor) -> State:
        pixels, rows = ops.zeros_like(x), zeros(x)
        infinite = rows + float("inf")
        return State(
            iteration=ops.convert_to_tensor(0, "int32"),
            x=x,
            last=pixels,
            last_value=infinite,  # the start is no rise
            best=pixels,
            best_gradient=pixels,
            best_value=-infinite,
            size=rows + self.first,
            rises=rows,
            checked_value=-infinite,  # the first control point has no best value to compare with
            halved=rows > 0,
        )

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: State) -> tuple[Tensor, State]:
        z, gradient, state = self._checked(z, gradient, _noted(z, gradient, value, state))
        size = column(state.size * ball.radius, z)
        step = ball.project(z + size * self.rule.direction(gradient), state.x) - z
        a = ops.where(ops.equal(state.iteration, 0), 1.0, self.momentum)
        moved = z + a * step + (1.0 - a) * (z - state.last)
        return moved, state._replace(iteration=state.iteration + 1, last=z)

    def _checked(self, z: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Returns where to go on from, its gradient, and the state after a control point, if this is one."""
        interval = ops.take(self._intervals, state.iteration)
        control = interval > 0
        unsteady = state.rises <= self.rising * interval
        stuck = ~state.halved & (state.best_value <= state.checked_value)
        halve = control & (unsteady | stuck)
        z, gradient = where_rows(halve, state.best, z), where_rows(halve, state.best_gradient, gradient)
        return (
            z,
            gradient,
            state._replace(
                size=ops.where(halve, state.size / 2, state.size),
                rises=ops.where(control, 0.0, state.rises),
                checked_value=ops.where(control, state.best_value, state.checked_value),
                halved=ops.where(control, halve, state.halved),
            ),
        )


def _noted(z: Tensor, gradient: Tensor, value: Tensor, state: State) -> State:
    """Returns the state that knows of one point more."""
    higher = value > state.best_value
    kept = higher | ops.equal(state.iteration, 0)  # also where its value is not a number
    return state._replace(
        last_value=value,
        best=where_rows(kept, z, state.best),
        best_gradient=where_rows(kept, gradient, state.best_gradient),
        best_value=ops.where(higher, value, state.best_value),
        rises=state.rises + ops.cast(value > state.last_value, state.rises.dtype),
    )


def control_points(steps: int) -> list[int]:
    """Returns the iterations before which the step size may be halved.

    The first lies at 22 % of the steps; from one to the next the interval shrinks by 3 % of them, to no less than 6 %.

    Args:
        steps: iterations of the search, at least 1.

    Example:

    >>> control_points(100)
    [22, 41, 57, 70, 80, 87, 93, 99]
    """
    interval, shrink, least = (max(percent * check_integer("steps", steps) // 100, 1) for percent in (22, 3, 6))
    points, point = [], interval
    while point <= steps:
        points.append(point)
        interval = max(interval - shrink, least)
        point += interval
    return points
