"""The linearized classifier: its nearest decision boundary, and the shortest step onto it within the pixel range."""

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from tfrobust.attacks.gradients import Pull
from tfrobust.attacks.rows import column, pixels, zeros
from tfrobust.attacks.threat_model import L2, Ball
from tfrobust.losses import logit
from tfrobust.utils.types import Tensor

LONGEST = 1e30  # greatest time of a step, so that 0 * t is 0


def nearest(
    linear: tuple[Tensor, Pull], z: Tensor, label: Tensor, other: Callable[[Any], Tensor], count: Any, ball: Ball
) -> tuple[Tensor, Tensor]:
    """Returns the nearest of the hyperplanes gap + w.d = 0 on which the logit of another class equals the label's.

    The classes are computed one after the other, so that no full Jacobian is held. Outside the mask w is 0.

    Args:
        linear: Logits at z `(B, C)`, and `v (B, C) -> gradient of sum_c v_c * logit_c`.
        z: Pixels, `(B, H, W, C)`.
        label: The class to leave, `(B,)`.
        other: A function from the number of a candidate, below `count`, to its classes `(B,)`.
        ball: The ball, for its norm and its mask.

    Returns:
        gap `(B,)` and w `(B, H, W, C)`, divided by max |w|; both zero if no candidate has a gradient.
    """
    values, pull = linear

    def direction(label: Tensor) -> Tensor:
        return ops.one_hot(label, values.shape[-1], dtype=values.dtype)

    def candidate(k: Any) -> tuple[Tensor, Tensor]:
        gap = logit(values, other(k)) - logit(values, label)
        near = ops.isfinite(gap)  # no step leads to a class that is ruled out, or away from logits of NaN
        w = ball.masked(pull(ops.where(near[:, None], direction(other(k)) - direction(label), 0.0)))
        scale = ops.maximum(ops.max(ops.abs(w), axis=pixels(w)), 1e-30)
        w = w / column(scale, w)
        return ops.where(near & (dual_norm(w, ball) > 0), gap / scale, 0.0), w

    if isinstance(count, int) and count == 1:
        return candidate(0)

    def closer(k: Any, gap: Tensor, w: Tensor, distance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        its_gap, its_w = candidate(k)
        length = dual_norm(its_w, ball)
        its_distance = ops.where(length > 0, ops.abs(its_gap) / ops.maximum(length, 1e-30), math.inf)
        better = its_distance < distance
        w = ops.where(column(better, w), its_w, w)
        return ops.where(better, its_gap, gap), w, ops.where(better, its_distance, distance)

    nothing = zeros(values)
    start = (nothing, ops.zeros_like(z), nothing + math.inf)
    return ops.fori_loop(0, count, lambda k, best: closer(k, *best), start)[:2]


def onto(x: Tensor, w: Tensor, rise: Tensor, ball: Ball) -> Tensor:
    """Returns the smallest d with w.d = rise and x + d within the bounds, or the nearest d if there is none.

    All values move until they meet their bound, d_i = sign * min(t * speed_i, room_i), in the Linf ball at equal speed
    and in the L2 ball at |w_i|. The time t solves sum_i |w_i| min(t * speed_i, room_i) = |rise|, whose left side is
    concave and piecewise linear: Newton's method rises to it in a few steps, exactly, without a sort. Croce and Hein
    2020 (Minimally distorted Adversarial Examples), equation 4 and its appendix. Pixels x and normals w are
    `(B, H, W, C)`, `rise` is `(B,)`.
    """
    low, high = ball.bounds
    w = w * column(ops.sign(rise), w)
    rise = column(ops.abs(rise), w)
    size = ops.abs(w)
    speed = size if isinstance(ball, L2) else ops.cast(size > 0, x.dtype)
    room = ops.where(w > 0, high - x, x - low)
    along, reach = size * speed, size * room

    def rises(t: Tensor, last: Tensor) -> Tensor:
        return ops.any(t > last)

    def newton(t: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        free = t * speed < room
        slope = ops.sum(ops.where(free, along, 0.0), axis=pixels(x), keepdims=True)
        spent = ops.sum(ops.where(free, 0.0, reach), axis=pixels(x), keepdims=True)
        there = ops.where(slope > 0, (rise - spent) / ops.maximum(slope, 1e-30), t)
        return ops.clip(there, t, LONGEST), t  # if rounding lowered it, the loop would not end

    zero = ops.zeros_like(rise)
    t, _ = ops.while_loop(rises, newton, (zero, zero - 1.0), maximum_iterations=64)
    return ops.sign(w) * ops.minimum(t * speed, room)


def dual_norm(w: Tensor, ball: Ball) -> Tensor:
    """Returns the norm of w by which the distance to gap + w.d = 0 is |gap| / norm: L1 for Linf, L2 for L2, `(B,)`."""
    if isinstance(ball, L2):
        return ops.sqrt(ops.sum(ops.square(w), axis=pixels(w)))
    return ops.sum(ops.abs(w), axis=pixels(w))
