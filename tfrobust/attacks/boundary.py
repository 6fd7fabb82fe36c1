"""A walk along the decision boundary, for classifiers without gradients at their images."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfrobust.attacks import threat_model
from tfrobust.attacks.base import Attack, Classify
from tfrobust.attacks.gradients import Exact, Gradients
from tfrobust.attacks.registry import register
from tfrobust.attacks.rows import column, where_rows
from tfrobust.attacks.threat_model import EPS, L2, Ball, Linf
from tfrobust.attacks.walks import Walk, flat, margin, noise_images
from tfrobust.utils.random import Noise
from tfrobust.utils.registry import unknown
from tfrobust.utils.validation import check_integer

Tensor = Any

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
    2020, algorithm 2) with the classifier's own gradient in place of an estimate; the starts and counts are this
    project's **choice**.

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
    return Boundary(threat_model.ball(norm, eps, bounds, mask), steps, bisections, restarts, flat_only)


@keras.saving.register_keras_serializable(package="tfrobust")
class Boundary(Attack):
    """Implements `boundary`."""

    gradients: Gradients

    def __init__(self, ball: Ball, steps: int, bisections: int, restarts: int, flat_only: bool) -> None:
        super().__init__(ball, gradients=Exact())
        if not isinstance(ball, (Linf, L2)):
            raise unknown("norm of boundary", type(ball).__name__.lower(), ("linf", "l2"))
        self.steps = check_integer("steps", steps)
        self.bisections = check_integer("bisections", bisections)
        self.restarts = check_integer("restarts", restarts)
        self.flat_only = flat_only

    def runs(self, classes: int) -> int:
        return self.restarts

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
        walk = _Walk(self, classify, x, y, rows, noise, run)
        z = walk.along(walk.start())
        inside = walk.ball.distance(z, walk.x) <= self.ball.radius
        found = where_rows(inside, walk.ball.project(z, walk.x), walk.x)
        return ops.scatter_update(x, rows[:, None], found)


class _Walk(Walk):
    """The walk of some rows of a batch, whose noise is drawn for the whole batch."""

    def __init__(
        self,
        attack: Boundary,
        classify: Classify,
        batch: Tensor,
        y: Tensor,
        rows: Tensor,
        noise: Noise,
        run: Any,
    ) -> None:
        super().__init__(classify, attack.ball, batch, y, rows)
        self.attack, self.batch, self.rows, self.noise, self.run = attack, batch, rows, noise, run

    def start(self) -> tuple[Tensor, Tensor]:
        """Returns points of another class at the boundary, and for which images one was found."""

        def seeking(k: Tensor, z: Tensor, found: Tensor) -> Tensor:
            return ops.logical_and(k < STARTS, ops.any(~found))

        def seek(k: Tensor, z: Tensor, found: Tensor) -> Any:
            candidate = self._candidate(k)
            new = self.hits(candidate) & ~found
            return k + 1, where_rows(new, candidate, z), found | new

        nothing = ops.zeros_like(self.y, dtype="bool")
        _, z, found = ops.while_loop(seeking, seek, (ops.convert_to_tensor(0, "int32"), self.x, nothing))
        return self.shrunk(z, found, self.attack.bisections), found

    def along(self, start: tuple[Tensor, Tensor]) -> Tensor:
        """Returns the nearest point of another class, `(B, ...)`, or x if none was found."""
        z, found = start
        loss, ball = margin(self.classify, self.y), self.ball

        def walking(t: Tensor, z: Tensor) -> Tensor:
            return ops.logical_and(t < self.attack.steps, ops.any(self._open(z, found)))

        def walk(t: Tensor, z: Tensor) -> Any:
            gradient = self.attack.gradients(loss, z, self.noise.fold(2 * STARTS + t))[2]
            direction = ball.masked(ball.steepest(1.0).direction(gradient))
            far = ball.distance(z, self.x)
            length = column(far / ops.sqrt(ops.cast(t + 1, "float32")), z)
            moved, done = z, ops.zeros_like(found)
            for _ in range(TRIES):
                candidate = ops.clip(z + length * direction, *ball.bounds)
                missed = self.hits(candidate) & ~done
                moved, done, length = where_rows(missed, candidate, moved), done | missed, length / 2
            nearer = self.shrunk(moved, done, self.attack.bisections)
            better = done & self._open(z, found) & (ball.distance(nearer, self.x) < far)
            return t + 1, where_rows(better, nearer, z)

        return ops.while_loop(walking, walk, (ops.convert_to_tensor(0, "int32"), z))[1]

    def _open(self, z: Tensor, found: Tensor) -> Tensor:
        return found & (self.ball.distance(z, self.x) > self.ball.radius)

    def _candidate(self, k: Tensor) -> Tensor:
        low, high = self.ball.bounds
        noisy = ops.take(noise_images(self.batch, self.ball, self.noise.fold(k), k), self.rows, axis=0)
        kind = ops.where(ops.equal(self.run, 0), k, k + 2)  # only the first run tries the images without noise
        grey = ops.full_like(self.x, (low + high) / 2)
        chosen = ops.where(kind == 0, low + high - self.x, ops.where(kind == 1, grey, noisy))
        return self.x + self.ball.masked(chosen - self.x)
