"""Walks along the decision boundary: projection, bisection and tests of predicted classes."""

from __future__ import annotations

import copy
from typing import Any

from keras import ops

from tfrobust import losses
from tfrobust.attacks.rows import column, pixels, where_rows
from tfrobust.attacks.threat_model import Ball
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Classify, Tensor

BLOCK = 4  # side of the blocks of coarse noise, in pixels
FLAT = 0.01  # share of its value by which a function with such a gradient could change: it counts as flat


class Walk:
    """Moves rows of a batch along the decision boundary.

    `x` and `y` are the clean pixels and labels of the whole batch, `rows` `(R,)` the indices of the rows that are
    moved. The ball gives the norm, the pixel range and the mask; its radius is not read.
    """

    def __init__(
        self, classify: Classify, ball: Ball, x: Tensor, y: Tensor, rows: Tensor, targeted: bool = False
    ) -> None:
        self.classify, self.targeted = classify, targeted
        self.ball = of_rows(ball, rows)
        self.x, self.y = ops.take(x, rows, axis=0), ops.take(y, rows)

    def take(self, rows: Tensor) -> Walk:
        """Returns the walk of some of its rows; a row may be repeated."""
        return Walk(self.classify, self.ball, self.x, self.y, rows, self.targeted)

    def hits(self, z: Tensor) -> Tensor:
        """Returns which points are adversaries, `(R,)`, by their predicted classes alone."""
        right = losses.correct(ops.cast(self.classify(z)["logits"], "float32"), self.y) > 0
        return right if self.targeted else ~right

    def at(self, z: Tensor, radius: Tensor) -> Tensor:
        """Returns the projections of the points onto balls of the given radii, `(R,)`."""
        smaller = copy.copy(self.ball)
        smaller.eps = column(radius, z)
        return smaller.project(z, self.x)

    def shrunk(self, z: Tensor, valid: Tensor, bisections: Any) -> Tensor:
        """Returns the projections of the points at the least radius, by bisection, at which they are still adversaries.

        Only the `valid` `(R,)` of the points are adversaries; for the others the image itself is returned.
        """

        def halve(_: Tensor, radii: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            least, most = radii
            middle = (least + most) / 2
            hit = self.hits(self.at(z, middle))
            return ops.where(hit, least, middle), ops.where(hit, middle, most)

        far = self.ball.distance(z, self.x)
        # An empty batch, or one without an adversary, costs no query.
        times = ops.where(ops.any(valid), bisections, 0)
        _, most = ops.fori_loop(0, times, halve, (ops.zeros_like(far), far))
        return where_rows(valid, self.at(z, most), self.x)


def of_rows(ball: Ball, rows: Tensor) -> Ball:
    """Returns the ball of some rows of a batch, with their masks if each image has a mask of its own."""
    if ball.mask is None or len(ball.mask.shape) != 4 or ball.mask.shape[0] == 1:
        return ball
    ball = copy.copy(ball)
    ball.mask = ops.take(ball.mask, rows, axis=0)
    return ball


def flat(value: Tensor, gradient: Tensor, ball: Ball) -> Tensor:
    """Returns for which images the gradient of a function is negligible, `(B,)`.

    It is negligible if the function would change by less than a hundredth of its value when every pixel of the mask
    crosses the whole range. A test for exactly zero would depend on the processor: a saturated softmax is 1 on some and
    0.99999994 on others. Values are `(B,)`, gradients `(B, H, W, C)`.
    """
    change = ball.width * ops.sum(ops.abs(ball.masked(gradient)), axis=pixels(gradient))
    return change <= FLAT * ops.abs(value)


def noise_images(x: Tensor, ball: Ball, noise: Noise, k: Any) -> Tensor:
    """Returns images of noise, shaped as x: fine for an even k, else coarse, for fine noise may all be of one class."""
    low, high = ball.bounds
    fine = (noise.uniform(x) + 1) / 2 * (high - low) + low
    height, width = x.shape[1:3]
    coarse = ops.repeat(ops.repeat(fine[:, ::BLOCK, ::BLOCK], BLOCK, axis=1), BLOCK, axis=2)
    return ops.where(k % 2 == 0, fine, coarse[:, :height, :width])


def margin(classify: Classify, y: Tensor) -> Any:
    """Returns the margin of a classifier and labels as a function `z -> (B,)`; see `losses.margin`."""
    return lambda z: losses.margin(ops.cast(classify(z)["logits"], "float32"), y)
