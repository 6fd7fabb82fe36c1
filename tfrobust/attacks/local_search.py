"""Greedy local search over pixels, without gradients."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks import threat_model
from tfrobust.attacks.base import Attack
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.rows import iterate, where_rows
from tfrobust.attacks.squares import flat, signs
from tfrobust.attacks.threat_model import L2, Linf
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Classify, Tensor

FIRST = 0.1  # share of the pixels that the first round tries
REACHES = {Linf: 2.0, L2: 0.5}  # how far a pixel is moved before it is projected, in radii


@register
def local_search(
    eps: float = EPS,
    rounds: int = 150,
    *,
    candidates: int = 128,
    pixels: int = 5,
    neighborhood: int = 5,
    norm: str = "linf",
    restarts: int = 1,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> LocalSearch:
    """Runs a greedy local search: tries single pixels, moves the best ones, and goes on in their neighborhood.

    The first round tries a tenth of the pixels, drawn at random; a later one those in the squares of side
    2 * neighborhood + 1 around the pixels that the round before moved. Narodytska and Kasiviswanathan 2016 (Simple
    Black-Box Adversarial Perturbations for Deep Networks), algorithm LocSearchAdv, with its constants; thesis, section
    2.2.2. The paper changes few pixels without bound: inside a ball it is this project's **choice** that

    - a try moves each channel of a pixel up or down at random: to the ball's edge (Linf), or by half the radius and
      back into the ball (L2), where the paper multiplies values by a constant and wraps them around;
    - pixels are ranked by the margin (the paper: the label's probability, which saturates);
    - a pixel that lowers the margin is not moved; an image of which no pixel was moved starts again; a try that fools
      is kept.

    Args:
        {{eps}}
        rounds: Most rounds.
        candidates: Most pixels that a round tries, one query each.
        pixels: Number of pixels that a round moves.
        neighborhood: Half the side of the squares around them.
        {{norm}}
        restarts: Number of independent runs, with other random numbers.
        {{targeted}}
        {{ball}}

    {{returns}}

    Example:

    >>> tfrobust.attacks.local_search(eps=8 / 255, rounds=10).cost(classes=10)  # forwards and backwards for one image
    (1290, 0)
    """
    ball = threat_model.ball(norm, eps, bounds, mask, attack="local_search")
    return LocalSearch(ball, rounds, candidates, pixels, neighborhood, restarts=restarts, targeted=targeted)


@keras.saving.register_keras_serializable(package="tfrobust")
@dataclasses.dataclass(eq=False, repr=False)
class LocalSearch(Attack):
    """Implements `local_search`."""

    rounds: int
    candidates: int
    pixels: int
    neighborhood: int

    kind = "black box"
    counts = ("rounds", "candidates", "pixels", "neighborhood", "restarts")

    def cost(self, classes: int) -> tuple[int, int]:
        return self.rounds * (self.candidates + 1), 0

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        noise = Noise.of(seed)
        like = x[..., :1]
        free = ops.any(self.ball.masked(ops.ones_like(x)) > 0, axis=-1, keepdims=True)
        reach = REACHES[type(self.ball)] * self.ball.radius

        def margin(z: Tensor) -> Tensor:
            margin = losses.missed_by(ops.cast(classify(z)["logits"], "float32"), y)
            return -margin if self.targeted else margin

        def one_round(index: Tensor, z: Tensor, value: Tensor, near: Tensor) -> tuple[Tensor, ...]:
            draws = noise.fold(index)
            step = reach * signs(draws.fold(0).uniform(x))
            places, allowed = self._candidates(draws.fold(1).uniform(like), near, free)

            def move(pixels: Tensor) -> Tensor:
                return self.ball.project(z + step * pixels, x)

            before = value
            kept, value, gains = self._tried(lambda place: move(_at(place, like)), margin, places, allowed, z, value)
            most, rank = ops.top_k(gains, min(self.pixels, gains.shape[-1]))
            moved = ops.zeros_like(like)
            for k in range(most.shape[-1]):
                place = ops.take_along_axis(places, rank[:, k : k + 1], axis=-1)[:, 0]
                moved = where_rows(most[:, k] >= before, ops.maximum(moved, _at(place, like)), moved)
            new = move(moved)
            open_still = value <= 0
            z, value = where_rows(open_still, new, kept), ops.where(open_still, margin(new), value)
            return z, value, ops.max_pool(moved, 2 * self.neighborhood + 1, strides=1, padding="same") > 0

        def searching(z: Tensor, value: Tensor, near: Tensor) -> Tensor:
            return ops.any(value <= 0)

        return iterate(self.rounds, searching, one_round, x, margin(x), ops.zeros_like(free))[0]

    def _candidates(self, drawn: Tensor, near: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the indices of the pixels to try, `(B, K)`, in random order, and which of them are tried."""
        count = math.prod(drawn.shape[1:])
        area = ops.logical_and(near, free)
        anew = ops.logical_not(ops.any(area, axis=(1, 2, 3)))
        area = where_rows(anew, free, area)
        order, places = ops.top_k(flat(ops.where(area, drawn, -2.0)), min(self.candidates, count))
        among_first = ops.arange(order.shape[-1])[None, :] < math.ceil(FIRST * count)
        return places, (order > -1.5) & (among_first | ~anew[:, None])

    def _tried(
        self,
        trial: Callable[[Tensor], Tensor],
        margin: Callable[[Tensor], Tensor],
        places: Tensor,
        allowed: Tensor,
        z: Tensor,
        value: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the first trial that fools, else z, with its margin, and the margins of all trials."""
        columns = ops.arange(places.shape[-1])[None, :]

        def unfinished(k: Tensor, z: Tensor, value: Tensor, gains: Tensor) -> Tensor:
            more = ops.any(allowed & (columns == k) & (value <= 0)[:, None])  # those allowed come first
            return ops.logical_and(k < places.shape[-1], more)

        def try_next(k: Tensor, z: Tensor, value: Tensor, gains: Tensor) -> tuple[Tensor, ...]:
            tried = trial(places[:, k])
            gain = ops.where(allowed[:, k], margin(tried), -math.inf)
            hit = (gain > 0) & (value <= 0)
            gains = ops.where(columns == k, gain[:, None], gains)
            return k + 1, where_rows(hit, tried, z), ops.where(hit, gain, value), gains

        gains = ops.where(allowed, -math.inf, -math.inf)
        return ops.while_loop(unfinished, try_next, (ops.convert_to_tensor(0, "int32"), z, value, gains))[1:]


def _at(place: Tensor, like: Tensor) -> Tensor:
    """Returns 1 at one pixel of each image, `(B, H, W, 1)`, else 0."""
    return ops.reshape(ops.one_hot(place, math.prod(like.shape[1:])), ops.shape(like))
