"""Auto-PGD and its step rule, which halves its step size when the loss stops rising."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrobust import losses
from tfrobust.attacks import threat_model
from tfrobust.attacks.base import ranked_target
from tfrobust.attacks.gradient import GradientAttack
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.rows import column, where_rows, zeros
from tfrobust.attacks.steps import Sign
from tfrobust.attacks.threat_model import L2, Ball
from tfrobust.attacks.view_losses import Loss, adversarial_cross_entropy, margin
from tfrobust.schedules import Schedule
from tfrobust.utils.random import Noise
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_integer
from tfrobust.views import Views

MOMENTUM = 0.75  # a
RISING = 0.75  # share of the steps above which the size is kept


class Maximized(NamedTuple):
    """Holds a loss, the fewest classes that it is defined for, and whether it reaches for wrong classes in turn."""

    loss: Loss
    least_classes: int = 2
    targets: bool = False


def dlr(views: Views) -> Tensor:
    """Computes DLR(x', y), `(B,)`."""
    return losses.dlr(views.adv["logits"], views.y)


def dlr_targeted(views: Views) -> Tensor:
    """Computes DLR(x', y, t), `(B,)`, where t is the class that the run reaches for."""
    return losses.dlr_targeted(views.adv["logits"], views.y, views.target)


def dlr_to_the_label(views: Views) -> Tensor:
    """Computes -DLR(x', j, y), `(B,)`, where j is the likeliest class beside y: a targeted search descends it.

    DLR(x', y) itself is constant where y is the third likeliest class.
    """
    logits = views.adv["logits"]
    return -losses.dlr_targeted(logits, ranked_target(logits, views.y, 0), views.y)


LOSSES = {
    "ce": Maximized(adversarial_cross_entropy),
    "dlr": Maximized(dlr, least_classes=3),
    "dlr_targeted": Maximized(dlr_targeted, least_classes=4, targets=True),
    "margin": Maximized(margin),
}
TARGETED = {"ce": LOSSES["ce"], "dlr": Maximized(dlr_to_the_label, least_classes=4), "margin": LOSSES["margin"]}


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

    The direction is that of `rule`, `Sign` in the Linf ball and `Normalized` in the L2 ball; the control points divide
    the `steps` of the search.
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

    The first lies at 22 % of the steps; from one to the next the interval shrinks by 3 % of them, to no less than 6 %:
    for 100 steps 22, 41, 57, 70, 80, 87, 93 and 99.
    """
    interval, shrink, least = (max(percent * check_integer("steps", steps) // 100, 1) for percent in (22, 3, 6))
    points, point = [], interval
    while point <= steps:
        points.append(point)
        interval = max(interval - shrink, least)
        point += interval
    return points


@register
def apgd(
    eps: Schedule = EPS,
    steps: int = 100,
    *,
    loss: str = "ce",
    norm: str = "linf",
    targets: int = 9,
    restarts: int = 1,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> GradientAttack:
    """Runs Auto-PGD: PGD with momentum that starts on the surface of the ball and adapts its step size (`AutoStep`).

    It returns the first iterate that fools the classifier, else the one with the greatest loss. The step in the L2 ball
    is size * g / ||g||_2 however short g is. Croce and Hein 2020 (Reliable Evaluation of Adversarial Robustness with an
    Ensemble of Diverse Parameter-free Attacks), algorithm 1.

    Args:
        {{eps_schedule}}
        steps: Number of iterations.
        loss: "ce", "dlr", "margin", or "dlr_targeted", which reaches for one wrong class after the other in runs of
            their own (any misclassification counts).
        {{norm}}
        targets: How many wrong classes "dlr_targeted" reaches for, the likeliest of the clean image first.
        restarts: Number of independent searches (for each class that is reached for).
        targeted: The labels are the classes to reach; with "ce", "dlr" (in its targeted form) or "margin".
        {{ball}}

    {{returns_gradient_attack}}

    Example:

    >>> tfrobust.attacks.apgd(eps=0.15, loss="dlr_targeted").runs(classes=10)
    9
    """
    known = TARGETED if targeted else LOSSES
    if loss not in known:
        raise unknown(f"loss of apgd(targeted={targeted})", loss, known)
    maximized = known[loss]
    ball = threat_model.ball(norm, eps, bounds, mask, attack="apgd")
    step = AutoStep(ball.steepest(1.0), check_integer("steps", steps))
    targets = check_integer("targets", targets) if maximized.targets else 0
    search: dict[str, Any] = {"start": _on_the_surface, "restarts": restarts, "early_stop": True, "targeted": targeted}
    least = maximized.least_classes
    return GradientAttack(ball, step, steps, loss=maximized.loss, targets=targets, least_classes=least, **search)


def _on_the_surface(ball: Ball, x: Tensor, noise: Noise) -> Tensor:
    """Returns a start at distance eps from x: uniform numbers (Linf) or normal ones (L2), scaled."""
    delta = ball.masked(noise.normal(x) if isinstance(ball, L2) else noise.uniform(x))
    size = column(ball.distance(delta, ops.zeros_like(delta)), x)
    return ball.project(x + ball.radius * delta / ops.maximum(size, 1e-12), x)
