"""A walk along the decision boundary, for classifiers without gradients at their images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfrobust.attacks import threat_model
from tfrobust.attacks.base import Attack
from tfrobust.attacks.gradients import Exact, Gradients
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.rows import column, iterate, where_rows
from tfrobust.attacks.walks import Walk, flat, margin, noise_images
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Classify, Tensor

STARTS = 12  # most points tried in search of one of another class
TRIES = 3  # lengths of a step, each half of the one before


@register
def boundary(
    eps: float = EPS,
    steps: int = 30,
    *,
    norm: str = "linf",
    bisections: int = 10,
    restarts: int = 4,
    flat_only: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> Boundary:
    """Walks from a point of another class to the decision boundary and along it towards the image.

    The start is the inverted image, grey or noise: the first that is of another class. Bisection over the radius brings
    it to the boundary; a step of d / sqrt(t + 1) along the gradient of the margin there (d the distance, t the
    iteration; halved up to twice until the class is another one) leads away from it, and so on. A classifier whose
    softmax is saturated has no gradient at its images, but has one at its boundary. After HopSkipJump (Chen et al.
    2020, algorithm 2) with the classifier's own gradient in place of an estimate; starts and counts are a **choice**.

    Args:
        {{eps}}
        steps: Number of iterations.
        {{norm}}
        bisections: Number of bisections of the radius in an iteration.
        restarts: Number of independent runs, with other random numbers.
        flat_only: Attack only images at which the margin has no gradient (see `walks.flat`), and return the others.
        {{ball}}

    {{returns}}

    Example:

    >>> tfrobust.attacks.boundary(eps=0.15).runs(classes=10)
    4
    """
    ball = threat_model.ball(norm, eps, bounds, mask, attack="boundary")
    return Boundary(ball, steps, bisections, flat_only, restarts=restarts, gradients=Exact())


@keras.saving.register_keras_serializable(package="tfrobust")
@dataclasses.dataclass(eq=False, repr=False)
class Boundary(Attack):
    """Implements `boundary`."""

    steps: int
    bisections: int
    flat_only: bool
    _: dataclasses.KW_ONLY
    gradients: Gradients

    counts = ("steps", "bisections", "restarts")

    def cost(self, classes: int) -> tuple[int, int]:
        queries = STARTS + (self.steps + 1) * self.bisections + self.steps * TRIES
        return queries + (self.steps + 1) * self.gradients.forwards, (self.steps + 1) * self.gradients.backwards

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        noise = Noise.of(seed)
        attacked = ops.ones_like(y, dtype="bool")
        if self.flat_only:
            value, _, gradient = self.gradients(margin(classify, y), x, noise)
            attacked = flat(value, gradient, self.ball)
        rows = ops.nonzero(attacked)[0]
        walk = Walk(classify, self.ball, x, y, rows)

        def candidate(k: Tensor) -> Tensor:
            low, high = walk.ball.bounds
            noisy = ops.take(noise_images(x, walk.ball, noise.fold(k), k), rows, axis=0)  # drawn for the whole batch
            kind = ops.where(ops.equal(run, 0), k, k + 2)  # only the first run tries the images without noise
            grey = ops.full_like(walk.x, (low + high) / 2)
            chosen = ops.where(kind == 0, low + high - walk.x, ops.where(kind == 1, grey, noisy))
            return walk.x + walk.ball.masked(chosen - walk.x)

        z = self._walked(walk, *self._start(walk, candidate), noise)
        inside = walk.ball.distance(z, walk.x) <= self.ball.radius
        found = where_rows(inside, walk.ball.project(z, walk.x), walk.x)
        return ops.scatter_update(x, rows[:, None], found)

    def _start(self, walk: Walk, candidate: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Returns points of another class at the boundary, and for which images one was found."""

        def seek(k: Tensor, z: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
            point = candidate(k)
            new = walk.hits(point) & ~found
            return where_rows(new, point, z), found | new

        nothing = ops.zeros_like(walk.y, dtype="bool")
        z, found = iterate(STARTS, lambda z, found: ops.any(~found), seek, walk.x, nothing)
        return walk.shrunk(z, found, self.bisections), found

    def _walked(self, walk: Walk, z: Tensor, found: Tensor, noise: Noise) -> Tensor:
        """Returns the nearest point of another class, `(R, ...)`, or x if none was found."""
        loss, ball = margin(walk.classify, walk.y), walk.ball

        def open_rows(z: Tensor) -> Tensor:
            return found & (ball.distance(z, walk.x) > ball.radius)

        def step(t: Tensor, z: Tensor) -> tuple[Tensor]:
            gradient = self.gradients(loss, z, noise.fold(2 * STARTS + t))[2]
            direction = ball.masked(ball.steepest(1.0).direction(gradient))
            far = ball.distance(z, walk.x)
            length = column(far / ops.sqrt(ops.cast(t + 1, "float32")), z)
            moved, done = z, ops.zeros_like(found)
            for _ in range(TRIES):
                candidate = ops.clip(z + length * direction, *ball.bounds)
                missed = walk.hits(candidate) & ~done
                moved, done, length = where_rows(missed, candidate, moved), done | missed, length / 2
            nearer = walk.shrunk(moved, done, self.bisections)
            better = done & open_rows(z) & (ball.distance(nearer, walk.x) < far)
            return (where_rows(better, nearer, z),)

        return iterate(self.steps, lambda z: ops.any(open_rows(z)), step, z)[0]
