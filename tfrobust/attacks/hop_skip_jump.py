"""HopSkipJump: a walk along the decision boundary that reads predicted classes alone."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from tfrobust.attacks import minimum_norm
from tfrobust.attacks.minimum_norm import Found, MinimumNorm
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.rows import column, iterate, pixels, where_rows, zeros
from tfrobust.attacks.steps import l2_norm
from tfrobust.attacks.threat_model import L2
from tfrobust.attacks.walks import Walk, flat, margin, noise_images
from tfrobust.utils import graph as backend
from tfrobust.utils.random import Noise, NumberedNoise, SharedNoise
from tfrobust.utils.types import Classify, Tensor

BISECTIONS = 20  # bisections of a radius: finer than the distance of the samples, up to some 100 000 values
ROUGHLY = 6  # bisections for each start, to find the nearest
HALVINGS = 20  # most halvings of a step
BEYOND = 1e-3  # share of its distance by which an adversary lies behind the boundary, so that rounding does not matter
FIRST = 0.1  # radius of the samples around the first point, in pixel ranges
AT_ONCE = 256  # queries in one forward, if fewer images than that are left


@register
def hop_skip_jump(
    eps: float | None = EPS,
    steps: int = 32,
    *,
    norm: str = "linf",
    samples: int = 100,
    starts: int = 30,
    restarts: int = 1,
    targeted: bool = False,
    flat_only: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> HopSkipJump:
    """Runs HopSkipJump: walks from a point of another class along the decision boundary, by predicted classes alone.

    phi(z) is 1 where z is an adversary, else -1; P_a(z) is the projection of z onto the ball of radius a around the
    image x, d_t = ||z_t - x||, and N the number of values in an image. Step t = 1, 2, ... from z_t at the boundary is

        u_b ~ N(0, I) (Linf: U(-1, 1)), of length 1                                     b = 1 ... B_t, B_t = B_1 sqrt(t)
        g = 1 / B_t sum_b (phi(z_t + delta u_b) - mean_b phi(z_t + delta u_b)) u_b      delta = d_t / N
        z' = z_t + d_t / sqrt(t) g / ||g||_2 (Linf: sign(g)), the step halved until phi(z') = 1
        z_(t+1) = P_a(z') of the least a with phi(P_a(z')) = 1, by bisection

    Chen, Jordan and Wainwright 2020 (HopSkipJumpAttack), algorithms 1 and 2, equations 9, 12, 15 and 16. The start is a
    noise image, brought to the boundary by bisection as well. **choice**: of 30 of them (every other one of coarse
    noise) the nearest, for the paper's single one decides which part of the boundary is found; where none is of another
    class, images of the batch; 20 bisections; the same noise for all images; in a finite ball a walk ends inside.

    Logits are read only for their argmax: a classifier may give one-hot rows.

    Args:
        {{eps_or_none}}
        steps: Number of iterations.
        {{norm}}
        samples: B_1, queries for the first estimate of a direction.
        starts: Number of noise images that are tried.
        restarts: Number of independent runs, with other random numbers.
        targeted: The labels are the classes to reach; a start is then most often an image of the batch.
        flat_only: Attack only images at which the margin has no gradient (see `walks.flat`), and return the others.
        {{ball}}

    {{returns}}

    Example:

    >>> tfrobust.attacks.hop_skip_jump(eps=8 / 255, steps=2).cost(classes=10)  # forwards and backwards for one image
    (517, 0)
    """
    ball = minimum_norm.ball(norm, eps, bounds, mask, "hop_skip_jump")
    return HopSkipJump(ball, steps, samples, starts, flat_only, restarts=restarts, targeted=targeted)


@keras.saving.register_keras_serializable(package="tfrobust")
@dataclasses.dataclass(eq=False, repr=False)
class HopSkipJump(MinimumNorm):
    """Implements `hop_skip_jump`."""

    steps: int
    samples: int
    starts: int
    flat_only: bool

    kind = "black box"
    counts = ("steps", "samples", "starts", "restarts")

    def cost(self, classes: int) -> tuple[int, int]:
        begin = 1 + self.starts * (1 + ROUGHLY) + BISECTIONS + 1
        return begin + sum(int(self.samples * math.sqrt(t)) + 1 + BISECTIONS + 1 for t in range(1, self.steps + 1)), 0

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        rows = ops.arange(ops.shape(x)[0])
        if self.flat_only:
            value, _, gradient = backend.value_and_gradient(margin(classify, y), x)
            rows = ops.nonzero(flat(value, gradient, self.ball))[0]
        walk = Walk(classify, self.ball, x, y, rows, self.targeted)

        def walked() -> Tensor:
            found = self._walked(walk, SharedNoise(Noise.of(seed).seed))
            return ops.scatter_update(x, rows[:, None], self._within(found, walk.x))

        # No empty batch is classified: TensorFlow's fused convolutions fail on one (2.21, oneDNN).
        return ops.cond(ops.shape(rows)[0] > 0, walked, lambda: x)

    def _walked(self, walk: Walk, noise: Noise) -> Found:
        """Returns the nearest adversaries of all steps of a walk."""
        start, begun = self._begun(walk, noise.fold(0))

        def open_rows(found: Found) -> Tensor:
            return (begun.distance < math.inf) & ~self._done(found)  # those that walk, from a point of another class

        def step(t: Tensor, z: Tensor, found: Found) -> tuple[Tensor, Found]:
            rows = ops.nonzero(open_rows(found))[0]  # the others need no more queries
            left = walk.take(rows)
            moved = self._moved(left, ops.take(z, rows, axis=0), t, noise.fold(t))
            before = Found(*(ops.take(part, rows, axis=0) for part in found))
            nearest = self._nearer(before, *_behind(left, moved), left.x)
            merged = Found(*(ops.scatter_update(a, rows[:, None], b) for a, b in zip(found, nearest, strict=True)))
            return ops.scatter_update(z, rows[:, None], moved), merged

        return iterate(self.steps + 1, lambda z, found: ops.any(open_rows(found)), step, start, begun, first=1)[1]

    def _begun(self, walk: Walk, noise: Noise) -> tuple[Tensor, Found]:
        """Returns the nearest of the starts, at the boundary, and the adversaries found with them."""

        def seeking(k: Tensor, found: Found) -> Tensor:
            from_noise = (k < self.starts) & ops.any(~self._done(found))
            return from_noise | ((k < 2 * self.starts) & ops.any(found.distance == math.inf))

        def seek(k: Tensor, found: Found) -> tuple[Tensor, Found]:
            candidate = walk.x + walk.ball.masked(self._candidate(walk.x, k, noise.fold(k)) - walk.x)
            hit = walk.hits(candidate)
            return k + 1, self._nearer(found, walk.shrunk(candidate, hit, ROUGHLY), hit, walk.x)

        nothing = self._nothing(walk.x, walk.hits(walk.x))
        found = ops.while_loop(seeking, seek, (ops.convert_to_tensor(0, "int32"), nothing))[1]
        there = found.distance < math.inf
        start = walk.shrunk(found.z, there, BISECTIONS)
        behind, hit = _behind(walk, start)
        return start, self._nearer(found, behind, hit & there, walk.x)

    def _candidate(self, x: Tensor, k: Tensor, noise: Noise) -> Tensor:
        """Returns points of any class, shaped as x: noise for the first `starts` k, then images of the batch."""
        drawn = noise_images(x, self.ball, noise, k)
        images = ops.shape(x)[0]
        others = ops.take(x, (ops.arange(images) + 1 + k - self.starts) % ops.maximum(images, 1), axis=0)
        return ops.where(k < self.starts, drawn, others)

    def _moved(self, walk: Walk, z: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Returns the points at the boundary after one step from z, which lie at the boundary as well."""
        root = ops.sqrt(ops.cast(t, "float32"))
        far, bounds = walk.ball.distance(z, walk.x), walk.ball.bounds
        values = ops.sum(walk.ball.masked(ops.ones_like(z)), axis=pixels(z))
        radius = ops.where(t == 1, FIRST * walk.ball.width, far / values)
        direction = self._direction(walk, z, radius, ops.cast(self.samples * root, "int32"), noise)
        direction = walk.ball.steepest(1.0).direction(direction)

        def halve(k: Tensor, moved: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
            length = far / root / 2 ** ops.cast(k, "float32")
            candidate = ops.clip(z + column(length, z) * direction, *bounds)
            hit = walk.hits(candidate)
            return where_rows(hit & ~done, candidate, moved), hit | done

        none = ops.zeros_like(far, dtype="bool")
        moved, _ = iterate(HALVINGS, lambda moved, done: ops.any(~done), halve, z, none)
        return walk.shrunk(moved, ops.ones_like(far, dtype="bool"), BISECTIONS)

    def _direction(self, walk: Walk, z: Tensor, radius: Tensor, count: Tensor, noise: Noise) -> Tensor:
        """Returns the estimate of the boundary's normal at z, towards the adversaries, shaped as z.

        A forward has about `AT_ONCE` points, or one for each image if there are more images. The noise of a sample is a
        function of its number, so that the size of a forward does not change the result.
        """
        images = ops.shape(z)[0]
        each = ops.maximum(AT_ONCE // ops.maximum(images, 1), 1)  # samples in one forward

        def total(v: Tensor) -> Tensor:
            return ops.sum(ops.reshape(v, (images, each, *v.shape[1:])), axis=1)

        def unfinished(first: Tensor, *sums: Tensor) -> Tensor:
            return first < count

        def add_samples(first: Tensor, along: Tensor, units: Tensor, sides: Tensor) -> Any:
            rows = ops.repeat(ops.arange(images), each)
            wide, around, far = walk.take(rows), ops.take(z, rows, axis=0), column(ops.take(radius, rows), z)
            numbers = first + ops.arange(each)
            counts = ops.cast(ops.tile(numbers < count, (images,)), "float32")
            points = ops.clip(around + far * self._units(wide, around, numbers, images, noise), *wide.ball.bounds)
            unit = (points - around) / ops.maximum(far, 1e-30) * column(counts, z)  # after the clip to the pixel range
            side = counts * ops.where(wide.hits(points), 1.0, -1.0)
            return first + each, along + total(column(side, z) * unit), units + total(unit), sides + total(side)

        start = (ops.convert_to_tensor(0, "int32"), ops.zeros_like(z), ops.zeros_like(z), zeros(z))
        _, along, units, sides = ops.while_loop(unfinished, add_samples, start)
        mean = sides / ops.cast(count, "float32")
        mean = ops.where(ops.abs(mean) == 1, 0.0, mean)  # all samples on one side: the sum would be zero
        return along - column(mean, z) * units

    def _units(self, walk: Walk, around: Tensor, numbers: Tensor, images: Tensor, noise: Noise) -> Tensor:
        """Returns the numbered directions, the same for each of the images, `(images * numbers, ...)`."""
        drawn = NumberedNoise(noise.seed, numbers)
        like = around[: ops.size(numbers)]
        u = drawn.normal(like) if isinstance(walk.ball, L2) else drawn.uniform(like)
        u = walk.ball.masked(ops.tile(u, (images, *[1] * (len(around.shape) - 1))))
        return u / l2_norm(u)


def _behind(walk: Walk, z: Tensor) -> tuple[Tensor, Tensor]:
    """Returns points a little behind the boundary at z, `(R, H, W, C)`, and which of them are adversaries, `(R,)`."""
    behind = ops.clip(walk.x + (1 + BEYOND) * (z - walk.x), *walk.ball.bounds)
    return behind, walk.hits(behind)
