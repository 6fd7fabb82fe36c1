"""What the attacks share that look for the smallest perturbation rather than for the greatest loss."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from keras import ops

from tfrobust.attacks import threat_model
from tfrobust.attacks.base import Evasion
from tfrobust.attacks.gradients import Gradients
from tfrobust.attacks.rows import where_rows
from tfrobust.attacks.threat_model import Ball
from tfrobust.utils.registry import unknown

Tensor = Any


class Found(NamedTuple):
    """The adversaries found so far: pixels `(B, H, W, C)`, and their distances from x `(B,)`, infinite for none."""

    z: Tensor
    distance: Tensor


class MinimumNorm(Evasion):
    """The base of attacks that look for the nearest adversary; it counts where it lies in the ball.

    In a ball of infinite radius they look for the nearest to the end, in all runs. In a finite one the first adversary
    inside is kept, of the first run that has one, and the loop ends when every image has one: what is returned then
    depends on no other image of the batch, and it is not the nearest.
    """

    gradients: Gradients

    def _nothing(self, x: Tensor, wrong: Tensor) -> Found:
        """Returns what is found before the search: x itself where it is an adversary already."""
        return Found(x, ops.where(wrong, 0.0, math.inf))

    def _nearer(self, found: Found, z: Tensor, hit: Tensor, x: Tensor) -> Found:
        """Returns the nearer adversaries of those found and of z, which is one where `hit` `(B,)`."""
        distance = self.ball.distance(z, x)
        better = hit & (distance < found.distance) & ~self._done(found)
        return Found(where_rows(better, z, found.z), ops.where(better, distance, found.distance))

    def _done(self, found: Found) -> Tensor:
        """Returns where nothing better is looked for, `(B,)`."""
        return found.distance <= (0.0 if self.ball.endless else self.ball.radius)

    def _within(self, found: Found, x: Tensor) -> Tensor:
        """Returns what counts: the adversaries in the ball, x where there is none."""
        counts = (found.distance <= self.ball.radius) & (found.distance < math.inf)
        return ops.stop_gradient(where_rows(counts, found.z, x))


def ball(norm: str, eps: float | None, bounds: tuple[float, float], mask: Any, name: str) -> Ball:
    """Returns the ball of a minimum-norm attack; of infinite radius where eps is None.

    Raises:
        ValueError: for a norm that is neither "linf" nor "l2", and what makes no ball.
    """
    if norm not in ("linf", "l2"):
        raise unknown(f"norm of {name}", norm, ("linf", "l2"))
    if eps is not None:
        return threat_model.ball(norm, eps, bounds, mask)
    endless = threat_model.ball(norm, 1e-6, bounds, mask)
    endless.eps = math.inf  # which no other attack may have: a start drawn from such a ball is nowhere
    return endless
