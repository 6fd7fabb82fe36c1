"""The step rule of Auto-PGD, which halves its step size when the loss stops rising."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrobust.attacks.rows import column, where_rows, zeros
from tfrobust.attacks.steps import Sign
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_integer

MOMENTUM = 0.75  # a
RISING = 0.75  # share of the steps above which the size is kept


class State(NamedTuple):
    """Holds the state of `AutoStep`: the iteration, the clean pixels, and the progress of each image."""

    iteration: Tensor
    x: Tensor
    last: Tensor  # the point before the last step
    last_value: Tensor  # the value of the last iterate: a return to the best point does not count as a rise
    best: Tensor  # the point with the greatest value so far
    best_gradient: Tensor
    best_value: Tensor
    size: Tensor  # step size as a fraction of eps
    rises: Tensor  # number of steps since the last control point in which the value rose
    checked_value: Tensor  # the best value at the last control point
    halved: Tensor  # whether the step size was halved at the last control point


class AutoStep:
    """Moves to z + a * (p - z) + (1 - a) * (z - z_last), p = project(z + size * direction(g)), and adapts the size.

    The first step has size `first` * eps and a = 1, the later ones a = 3/4. At a control point the size is halved if
    the value rose in at most 3/4 of the steps since the last one, or if the size was not halved there and the best
    value has not changed since; the search then continues from the best point and its gradient. Croce and Hein 2020
    (Reliable Evaluation of Adversarial Robustness), algorithm 1 with its conditions 1 and 2.

    Args:
        rule: The step rule whose direction is used, `Sign` in the Linf ball and `Normalized` in the L2 ball.
        steps: Number of iterations of the search, which the control points divide.
        first: First step size as a fraction of eps.
    """

    def __init__(self, rule: Sign, steps: int, *, first: float = 2.0) -> None:
        self.rule = rule
        self.first = first
        points = control_points(steps)
        self._intervals = np.zeros(steps + 1, "float32")  # at control points: steps since the last one
        self._intervals[points] = np.diff(points, prepend=0)

    def init(self, x: Tensor) -> State:
        pixels, rows = ops.zeros_like(x), zeros(x)
        infinite = rows + float("inf")
        return State(
            iteration=ops.convert_to_tensor(0, "int32"),
            x=x,
            last=pixels,
            last_value=infinite,  # the start does not count as a rise
            best=pixels,
            best_gradient=pixels,
            best_value=-infinite,
            size=rows + self.first,
            rises=rows,
            checked_value=-infinite,  # so that the first control point sees a change
            halved=rows > 0,
        )

    def __call__(self, z: Tensor, gradient: Tensor, value: Tensor, ball: Any, state: State) -> tuple[Tensor, State]:
        z, gradient, state = self._halved(z, gradient, _updated(z, gradient, value, state))
        size = column(state.size * ball.radius, z)
        step = ball.project(z + size * self.rule.direction(gradient), state.x) - z
        a = ops.where(ops.equal(state.iteration, 0), 1.0, MOMENTUM)
        moved = z + a * step + (1.0 - a) * (z - state.last)
        return moved, state._replace(iteration=state.iteration + 1, last=z)

    def _halved(self, z: Tensor, gradient: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Returns the point to continue from, its gradient, and the state, halved where a control point demands it."""
        interval = ops.take(self._intervals, state.iteration)
        control = interval > 0
        few_rises = state.rises <= RISING * interval
        stuck = ~state.halved & (state.best_value <= state.checked_value)
        halve = control & (few_rises | stuck)
        z, gradient = where_rows(halve, state.best, z), where_rows(halve, state.best_gradient, gradient)
        state = state._replace(
            size=ops.where(halve, state.size / 2, state.size),
            rises=ops.where(control, 0.0, state.rises),
            checked_value=ops.where(control, state.best_value, state.checked_value),
            halved=ops.where(control, halve, state.halved),
        )
        return z, gradient, state


def _updated(z: Tensor, gradient: Tensor, value: Tensor, state: State) -> State:
    """Returns the state with the value of one more point."""
    higher = value > state.best_value
    kept = higher | ops.equal(state.iteration, 0)  # also if its value is NaN
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
