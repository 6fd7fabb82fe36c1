"""The attack of Carlini and Wagner in the Euclidean norm."""

import dataclasses
import math
from typing import Any, NamedTuple

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks import minimum_norm
from tfrobust.attacks.gradient import GRADIENT_NOISE
from tfrobust.attacks.gradients import Exact
from tfrobust.attacks.minimum_norm import Found, MinimumNorm
from tfrobust.attacks.registry import register
from tfrobust.attacks.rows import column, iterate, where_rows
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Classify, Tensor
from tfrobust.utils.validation import check_number

INSIDE = 0.999999  # share of the pixel range in which the inverse of tanh is finite
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # constants of Adam
CHECKS = 10  # how often a search checks its progress
STALLED = 0.9999  # share of the total at the last check above which a search ends
UNBRACKETED = 1e9  # a greatest c from here on means that no c has succeeded yet
STEEPEST = 1e18  # greatest slope: its square is finite


class Descent(NamedTuple):
    """Holds the state of Adam: the variable and its two moments `(B, H, W, C)`; the rest is by image, `(B,)`."""

    variable: Tensor
    first: Tensor
    second: Tensor
    total: Tensor  # at the last check
    stopped: Tensor
    succeeded: Tensor  # whether this c found an adversary


@keras.saving.register_keras_serializable(package="tfrobust")
@dataclasses.dataclass(eq=False, repr=False)
class CWL2(MinimumNorm):
    """Implements `cw_l2`."""

    steps: int
    searches: int
    initial_c: float
    learning_rate: float
    confidence: float

    counts = ("steps", "searches", "restarts")

    def cost(self, classes: int) -> tuple[int, int]:
        steps = self.searches * self.steps
        return (steps + 1) * self.gradients.forwards, steps * self.gradients.backwards

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        draws = Noise.of(seed).fold(GRADIENT_NOISE)

        def loss(z: Tensor) -> tuple[Tensor, Tensor]:
            return self._missing(ops.cast(classify(z)["logits"], "float32"), y)

        def unfinished(c: Tensor, low: Tensor, high: Tensor, found: Found) -> Tensor:
            return ~ops.all(self._done(found))

        def step(search: Tensor, c: Tensor, low: Tensor, high: Tensor, found: Found) -> tuple[Any, ...]:
            found, succeeded = self._descend(loss, x, c, found, draws.fold(search))
            low = ops.where(succeeded, low, ops.maximum(low, c))
            high = ops.where(succeeded, ops.minimum(high, c), high)
            return ops.where(high < UNBRACKETED, (low + high) / 2, 10 * c), low, high, found

        observed: Any = self.gradients.value(loss, x, draws.fold(self.searches))[1]
        found = self._nothing(x, observed > 0.5)
        zero = ops.zeros_like(found.distance)
        *_, found = iterate(
            self.searches, unfinished, step, zero + self.initial_c, zero, zero + 10 * UNBRACKETED, found
        )
        return self._within(found, x)

    def _descend(self, loss: Any, x: Tensor, c: Tensor, found: Found, draws: Noise) -> tuple[Found, Tensor]:
        """Returns the adversaries found up to now, and for which images this c found one, `(B,)`."""
        low, high = self.ball.bounds
        middle, half = (low + high) / 2, (high - low) / 2
        every = max(self.steps // CHECKS, 1)

        def unfinished(descent: Descent, found: Found) -> Tensor:
            return ~ops.all(descent.stopped)

        def one_step(step: Tensor, descent: Descent, found: Found) -> tuple[Descent, Found]:
            squashed = ops.tanh(descent.variable)
            z = ops.clip(x + self.ball.masked(middle + half * squashed - x), low, high)
            observed: Any  # a mean, under an expectation
            value, observed, gradient = self.gradients(loss, z, draws.fold(step))
            hit = (observed > 0.5) & ~descent.stopped
            found = self._nearer(found, z, hit, x)
            total = (self.ball.distance(z, x) / self.ball.width) ** 2 + c * value
            checks = step % every == 0
            stopped = descent.stopped | self._done(found) | (checks & (total > STALLED * descent.total))
            climb = ops.clip(column(c, x) * gradient, -STEEPEST, STEEPEST)
            pull = 2 * (z - x) / self.ball.width**2
            slope = self.ball.masked((pull + climb) * half * (1 - squashed**2))
            descent = descent._replace(
                total=ops.where(checks, total, descent.total), stopped=stopped, succeeded=descent.succeeded | hit
            )
            return self._adam(descent, slope, ops.cast(step + 1, "float32")), found

        zeros = ops.zeros_like(x)
        no = ops.zeros_like(c, dtype="bool")
        start = Descent(ops.arctanh(INSIDE * (x - middle) / half), zeros, zeros, 0.0 * c + math.inf, no, no)
        descent, found = iterate(self.steps, unfinished, one_step, start, found)
        return found, descent.succeeded

    def _adam(self, descent: Descent, slope: Tensor, t: Tensor) -> Descent:
        """Returns the state after one step of Adam; all images that still move are at the same step."""
        first = BETA_1 * descent.first + (1 - BETA_1) * slope
        second = BETA_2 * descent.second + (1 - BETA_2) * slope**2
        rate = self.learning_rate * ops.sqrt(1 - BETA_2**t) / (1 - BETA_1**t)
        moved = descent.variable - rate * first / (ops.sqrt(second) + EPSILON)
        return descent._replace(
            variable=where_rows(descent.stopped, descent.variable, moved), first=first, second=second
        )

    def _missing(self, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns f_6, the margin that is missing to the confidence, and whether z is an adversary; both `(B,)`."""
        margin = losses.margin(logits, y) * (-1 if self.targeted else 1)
        handicap = self.confidence * ops.one_hot(y, logits.shape[-1], dtype=logits.dtype)
        reached = losses.correct(logits - handicap if self.targeted else logits + handicap, y)
        return ops.maximum(self.confidence - margin, 0.0), reached if self.targeted else 1.0 - reached


@register
def cw_l2(
    eps: float | None = None,
    steps: int = 1000,
    *,
    searches: int = 9,
    initial_c: float = 1e-3,
    learning_rate: float = 1e-2,
    confidence: float = 0.0,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> CWL2:
    """Minimizes ||z - x||_2^2 + c * max(confidence - margin(z), 0) by Adam, and searches for the least c that fools.

    The distance is measured in pixel ranges, so that c and the steps mean the same within any bounds. The margin is
    max_{j != y} z_j - z_y, and z_y - max_{j != y} z_j in a targeted attack. The bounds hold by
    z = middle + half * tanh(variable). c is multiplied by 10 until it succeeds, then bisected; the nearest adversary of
    all searches is kept. An image's search with one c ends early if a tenth of the steps lowered its total by less than
    0.01 %. With a radius the first adversary inside ends the search of its image. Carlini and Wagner 2017 (Towards
    Evaluating the Robustness of Neural Networks), section VI.A, with the constants of the authors' code, which makes
    10000 steps and compares the total of the batch.

    Args:
        eps: L2 radius in units of the pixels beyond which an adversary does not count; None: any size.
        steps: Most steps of Adam with one c.
        searches: Number of values of c.
        initial_c: The first c.
        learning_rate: The learning rate of Adam.
        confidence: Least margin of an adversary.
        {{targeted}}
        {{ball}}

    {{returns}}

    Example:

    >>> tfrobust.attacks.cw_l2(steps=100, searches=5).cost(classes=10)  # the clean image costs a forward
    (501, 500)
    """
    ball = minimum_norm.ball("l2", eps, bounds, mask, "cw_l2")
    initial_c = float(check_number("initial_c", initial_c, 0, above=True))
    learning_rate = float(check_number("learning_rate", learning_rate, 0, above=True))
    confidence = float(check_number("confidence", confidence, 0))
    return CWL2(ball, steps, searches, initial_c, learning_rate, confidence, targeted=targeted, gradients=Exact())
