"""What the walks along the decision boundary share: points of another class, and how near to the image they stay so."""

from __future__ import annotations

import copy
from typing import Any

from keras import ops

from tfrobust import losses
from tfrobust.attacks.base import Classify
from tfrobust.attacks.rows import column, pixels, where_rows
from tfrobust.attacks.threat_model import Ball

Tensor = Any

FLAT = 0.01  # share of a value by which a gradient that counts as none may change it


class Walk:
    """Numbered rows of a batch, each with its own point of another class.

    Args:
        classify: pixels -> dict of named outputs, `logits` `(B, C)` among them.
        ball: gives the norm, the pixel range and the mask; its radius is not read here.
        x: clean pixels of the whole batch, `(B, H, W, C)`.
        y: its labels, `(B,)`.
        rows: which of them walk, `(R,)`.
        targeted: the labels are the classes to reach.
    """

    def __init__(
        self, classify: Classify, ball: Ball, x: Tensor, y: Tensor, rows: Tensor, targeted: bool = False
    ) -> None:
        self.classify, self.targeted = classify, targeted
        self.ball = of_rows(ball, rows)
        self.x, self.y = ops.take(x, rows, axis=0), ops.take(y, rows)

    def of(self, rows: Tensor) -> Walk:
        """Returns the walk of some of its rows, each as often as it is numbered."""
        return Walk(self.classify, self.ball, self.x, self.y, rows, self.targeted)

    def hits(self, z: Tensor) -> Tensor:
        """Returns which points are adversaries, `(R,)`, by the class that is predicted there alone."""
        right = losses.correct(ops.cast(self.classify(z)["logits"], "float32"), self.y) > 0
        return right if self.targeted else ~right

    def at(self, z: Tensor, radius: Tensor) -> Tensor:
        """Returns the points brought to a radius `(R,)`: the projection onto a ball of that radius."""
        smaller = copy.copy(self.ball)
        smaller.eps = column(radius, z)
        return smaller.project(z, self.x)

    def shrunk(self, z: Tensor, valid: Tensor, bisections: Any) -> Tensor:
        """Returns the points at the least radius, by bisection, at which they still are adversaries.

        Args:
            z: points, `(R, H, W, C)`.
            valid: which of them are adversaries, `(R,)`; of another the image itself is returned.
            bisections: their number.
        """

        def halve(_: Tensor, radii: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            least, most = radii
            middle = (least + most) / 2
            hit = self.hits(self.at(z, middle))
            return ops.where(hit, least, middle), ops.where(hit, middle, most)

        far = self.ball.distance(z, self.x)
        # Nothing is asked of an empty batch, and of one without a single adversary.
        times = ops.where(ops.any(valid), bisections, 0)
        _, most = ops.fori_loop(0, times, halve, (ops.zeros_like(far), far))
        return where_rows(valid, self.at(z, most), self.x)


def of_rows(ball: Ball, rows: Tensor) -> Ball:
    """Returns the ball of some rows of a batch: where each image has a mask of its own, with theirs."""
    if ball.mask is None or len(ball.mask.shape) != 4 or ball.mask.shape[0] == 1:
        return ball
    ball = copy.copy(ball)
    ball.mask = ops.take(ball.mask, rows, axis=0)
    return ball


def flat(value: Tensor, gradient: Tensor, ball: Ball) -> Tensor:
    """Returns for which images a function has no gradient to speak of where a pixel may change, `(B,)`.

    By its gradient the function would change by less than a hundredth of its value if every pixel crossed its whole
    range. Not by a gradient of exactly zero: a saturated softmax is 1 on some processors and 0.99999994 on others.

    Args:
        value: of the function, `(B,)`.
        gradient: of it, `(B, H, W, C)`.
        ball: of the pixel range and the mask.
    """
    change = ball.width * ops.sum(ops.abs(ball.masked(gradient)), axis=pixels(gradient))
    return change <= FLAT * ops.abs(value)


def margin(classify: Classify, y: Tensor) -> Any:
    """Returns the margin `z -> (B,)` of a classifier and labels; see `losses.margin`."""
    return lambda z: losses.margin(ops.cast(classify(z)["logits"], "float32"), y)
