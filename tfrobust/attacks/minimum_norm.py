"""The base of attacks that look for the smallest perturbation rather than for the greatest loss."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from tfrobust.attacks import threat_model
from tfrobust.attacks.base import Attack
from tfrobust.attacks.gradient import GRADIENT_NOISE
from tfrobust.attacks.gradients import Gradients, Pull
from tfrobust.attacks.rows import where_rows
from tfrobust.attacks.threat_model import Ball
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Classify, Tensor


class Found(NamedTuple):
    """Holds adversaries found so far: pixels `(B, H, W, C)` and distances from x `(B,)`, infinite if there is none."""

    z: Tensor
    distance: Tensor


class MinimumNorm(Attack):
    """Looks for the nearest adversary; the base of such attacks.

    In a ball of infinite radius all steps of all runs are made. In a finite one the first adversary inside is kept, and
    the loop ends once every image has one: the result then depends on no other image of the batch, and is not the
    nearest.
    """

    gradients: Gradients

    def _nothing(self, x: Tensor, wrong: Tensor) -> Found:
        """Returns the adversaries before the search: x itself if it is one."""
        return Found(x, ops.where(wrong, 0.0, math.inf))

    def _nearer(self, found: Found, z: Tensor, hit: Tensor, x: Tensor) -> Found:
        """Returns the nearer of the adversaries found so far and of z, if z is one: where `hit` `(B,)` is true."""
        distance = self.ball.distance(z, x)
        better = hit & (distance < found.distance) & ~self._done(found)
        return Found(where_rows(better, z, found.z), ops.where(better, distance, found.distance))

    def _done(self, found: Found) -> Tensor:
        """Returns for which images the search has ended, `(B,)`."""
        return found.distance <= (0.0 if self.ball.endless else self.ball.radius)

    def _within(self, found: Found, x: Tensor) -> Tensor:
        """Returns the adversaries in the ball, or x where there is none."""
        counts = (found.distance <= self.ball.radius) & (found.distance < math.inf)
        return ops.stop_gradient(where_rows(counts, found.z, x))

    def _linear(self, classify: Classify, noise: Noise) -> Callable[[Tensor, Any], tuple[Tensor, Pull]]:
        """Returns the function `(z, number of the call) -> linear` of a classifier's logits; see `Gradients.linear`."""
        draws = noise.fold(GRADIENT_NOISE)

        def logits(z: Tensor) -> Tensor:
            return ops.cast(classify(z)["logits"], "float32")

        return lambda z, number: self.gradients.linear(logits, z, draws.fold(number))


def ball(norm: str, eps: float | None, bounds: tuple[float, float], mask: Any, name: str) -> Ball:
    """Returns the ball of the named attack, with an infinite radius if eps is None; see `threat_model.ball`."""
    found = threat_model.ball(norm, 1e-6 if eps is None else eps, bounds, mask, attack=name)
    if eps is None:
        found.eps = math.inf  # `Ball` itself refuses it, since no start can be drawn
    return found
