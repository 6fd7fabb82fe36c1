"""Proposals of Square Attack: squares in the maximum norm, pairs of windows in the Euclidean norm.

A proposal object serves one batch and the shares p of all queries but the start. The positions of the squares of all
queries are drawn before the loop (`plan`), and their patterns are read from tables.

- `start(noise)` gives the first pixels, `(B, H, W, C)`.
- `plan(drawn)` turns random numbers `(B, queries, numbers)` in [-1, 1) into tensors `(B, queries, ...)`.
- `proposal(best, planned, around)` gives the pixels of a query, `(B, H, W, C)`, from the best so far `(B, N)`, that
  query's part of the plan and the images' rows of `proposal.around`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from tfrobust.attacks.steps import l2_norm
from tfrobust.attacks.threat_model import L2, Ball, Linf
from tfrobust.utils.types import Tensor

if TYPE_CHECKING:
    from tfrobust.utils.random import Noise

GRID = 5  # tiles of the Euclidean start along the shorter side of an image


class Squares:
    """Proposes squares of one sign per channel at the edges of the Linf ball, after vertical stripes (algorithm 2).

    A change of +-2 eps, projected, moves a value at either edge of the ball to the edge that is drawn. Section 3.3.
    """

    def __init__(self, ball: Ball, x: Tensor, shares: Sequence[float]) -> None:
        self.shape = height, width, channels = x.shape[1:]
        self.numbers = 2 + channels  # count of random numbers of a query
        self._sides = [self.side(p, height, width) for p in shares]
        self._rows, self._columns = (table(np.ones, length, self._sides) for length in (height, width))
        self._like = x[:, :1]
        self._far = 2.0 * (ball.bounds[1] - ball.bounds[0])  # a step that leads from any value beyond both edges
        self.around = tuple(flat(ball.project(x + far, x)) for far in (-self._far, self._far))

    @staticmethod
    def side(p: float, height: int, width: int) -> int:
        """Returns the side of a square of the share p, in pixels."""
        return min(max(round(math.sqrt(p * height * width)), 1), height, width)

    def start(self, noise: Noise) -> Tensor:
        low, high = (ops.reshape(edge, (-1, *self.shape)) for edge in self.around)
        return ops.where(noise.uniform(self._like) < 0, low, high)

    def plan(self, drawn: Tensor) -> tuple[Tensor, ...]:
        height, width, _ = self.shape
        rows, columns = (entries(drawn[:, :, k], n, self._sides) for k, n in enumerate((height, width)))
        return rows, columns, self._far * signs(drawn[:, :, 2:])

    def __call__(self, best: Tensor, planned: Sequence[Tensor], around: Sequence[Tensor]) -> Tensor:
        row, column, step = planned
        low, high = around
        # Beyond the edge and back onto it: a sum and two bounds cost less than a choice by a broadcast mask.
        line = ops.take(self._columns, column, axis=0)[:, :, None] * step[:, None, :]
        rows = ops.take(self._rows, row, axis=0)[:, :, None]
        z = best + flat(ops.matmul(rows, ops.reshape(line, (-1, 1, math.prod(self.shape[1:])))))
        return ops.reshape(ops.minimum(ops.maximum(z, low), high), (-1, *self.shape))


class Windows:
    """Proposes to move the energy of one window and the unused energy into another window, in the L2 ball.

    With nu = z - x, in channel i: nu_W1 <- avail_i * u / ||u||_2, u = rho_i * eta + nu_W1 / ||nu_W1||_2, and nu_W2 <- 0
    outside W1; avail_i^2 = ||nu_(W1 or W2)||^2 + (eps^2 - ||nu||^2) / C. The unit vector eta is two pyramids of
    opposite signs, one above the other or side by side at random. Pixels outside the mask carry no energy. Algorithm 3,
    equations 2 and 3.
    """

    def __init__(self, ball: Ball, x: Tensor, shares: Sequence[float]) -> None:
        self.shape = height, width, channels = x.shape[1:]
        self.numbers = 5 + channels  # count of random numbers of a query
        self._radius, self._bounds = ball.radius, ball.bounds
        self._sides = [self.side(p, height, width) for p in shares]
        self._within = [table(np.ones, length, self._sides) for length in (height, width)]
        self._profiles = [
            ops.concatenate([table(pattern, length, self._sides) for pattern in (halved, undivided)])
            for length in (height, width)
        ]
        self._like = x[:, :1, :1, :1]
        self.around = flat(x), flat(ball.masked(ops.ones_like(x)))

    @staticmethod
    def side(p: float, height: int, width: int) -> int:
        """Returns the side of a window of the share p: odd and at least 3, if the image is large enough."""
        most = min(height, width)
        return min(max(round(math.sqrt(p * height * width)), 3) | 1, most - (most + 1) % 2 or 1)

    def start(self, noise: Noise) -> Tensor:
        """Returns x + eps * a grid of tiles of the shape eta, with a random sign per channel. Section 3.4.

        The tiles have the side min(H, W) // 5 and cover the image: 5 x 5 of them in most images.
        """
        height, width, channels = self.shape
        side = max(min(height, width) // GRID, 1)
        down, across = height // side, width // side
        drawn = noise.uniform(ops.tile(self._like, (1, down, across, channels + 1)))[:, :, None, :, None, :]
        along, across_it = (ops.convert_to_tensor(pattern(side), "float32") for pattern in (halved, undivided))
        upon = pyramids(along[:, None, None, None], across_it[None, None, :, None])
        beside = pyramids(across_it[:, None, None, None], along[None, None, :, None])
        tiles = signs(drawn[..., :channels]) * ops.where(drawn[..., channels:] < 0, upon, beside)
        change = ops.reshape(tiles, (-1, down * side, across * side, channels))
        spare = [(n // 2, n - n // 2) for n in (height - down * side, width - across * side)]
        x, free = (ops.reshape(part, (-1, *self.shape)) for part in self.around)
        change = free * ops.pad(change, [(0, 0), *spare, (0, 0)])
        return ops.clip(x + self._radius * change / l2_norm(change), *self._bounds)

    def plan(self, drawn: Tensor) -> tuple[Tensor, ...]:
        height, width, _ = self.shape
        rows, columns, others_rows, others_columns = (
            entries(drawn[:, :, k], n, self._sides) for k, n in enumerate((height, width, height, width))
        )
        upon = drawn[:, :, 4] < 0  # then the rows are halved, else the columns
        down = rows + ops.where(upon, 0, self._within[0].shape[0])
        across = columns + ops.where(upon, self._within[1].shape[0], 0)
        return rows, columns, others_rows, others_columns, down, across, signs(drawn[:, :, 5:])

    def __call__(self, best: Tensor, planned: Sequence[Tensor], around: Sequence[Tensor]) -> Tensor:
        x, free = (ops.reshape(part, (-1, *self.shape)) for part in around)
        change = ops.reshape(best, (-1, *self.shape)) - x
        *windows, down, across, rho = planned
        rows, columns, other_rows, other_columns = (
            ops.take(self._within[k % 2], place, axis=0) for k, place in enumerate(windows)
        )
        first, second = _outer(rows, columns), _outer(other_rows, other_columns)
        down, across = (
            ops.take(profiles, place, axis=0) for profiles, place in zip(self._profiles, (down, across), strict=True)
        )
        eta = free * pyramids(down[:, :, None, None], across[:, None, :, None])
        moved = eta * (rho[:, None, None, :] / _norm(eta))
        energy, union = ops.square(change), ops.maximum(first, second)
        own = change * first
        moved = moved + own / _norm(own)
        unused = ops.maximum(self._radius**2 - ops.sum(energy, axis=(1, 2, 3), keepdims=True), 0.0)
        available = ops.sqrt(ops.sum(energy * union, axis=(1, 2), keepdims=True) + unused / self.shape[-1])
        change = change - change * union + moved * (available / _norm(moved))
        return ops.clip(x + change, *self._bounds)


def halved(side: int) -> np.ndarray:
    """Returns the profile of two pyramids of opposite signs along the side that they halve, `(side,)`.

    The pyramid of a window of a x b pixels, b = side >= a, is sum_{k=0}^{M} 1 / (n + 1 - k)^2 with n = b // 2 and
    M = n - max(|r - a // 2|, |s - b // 2|) in row r and column s: the profile is that of M = n - |r - a // 2|. Eq. 2.
    """
    n, place = side // 2, np.arange(side)
    distance = np.where(place < n, np.abs(place - n // 2), np.abs(place - n - (side - n) // 2))
    return np.where(place < n, 1.0, -1.0) * _levels(n)[n - distance]


def undivided(side: int) -> np.ndarray:
    """Returns the profile of these pyramids along the side that they share, `(side,)`."""
    n = side // 2
    return _levels(n)[n - np.abs(np.arange(side) - n)]


def pyramids(a: Any, b: Any) -> Any:
    """Returns the pyramids of two profiles, broadcast: the level of a pixel is the lower of its two levels."""
    return ops.minimum(ops.abs(a), ops.abs(b)) * ops.sign(a) * ops.sign(b)


def _levels(n: int) -> np.ndarray:
    return np.cumsum(1.0 / (n + 1.0 - np.arange(n + 1)) ** 2)


def table(pattern: Callable[[int], np.ndarray], length: int, sides: Sequence[int]) -> Tensor:
    """Returns the pattern of every side at each of its positions in `length`, padded by zeros, `(entries, length)`."""
    rows = [
        np.pad(pattern(side), (first, length - side - first))
        for side in sorted(set(sides))
        for first in range(length - side + 1)
    ]
    return ops.convert_to_tensor(np.stack(rows), "float32")


def entries(drawn: Tensor, length: int, sides: Sequence[int]) -> Tensor:
    """Returns the index of the entry of a `table` that each query takes, `(B, queries)` int32, at a uniform position.

    The random numbers lie in [-1, 1), `(B, queries)`; the rows of the table have the given length, and each query the
    side of its square.
    """
    kinds = sorted(set(sides))
    before = np.cumsum([0, *(length - side + 1 for side in kinds)])
    begin = ops.convert_to_tensor(before[[kinds.index(side) for side in sides]], "int32")
    most = ops.convert_to_tensor([length - side for side in sides], "float32")
    position = ops.minimum(ops.floor((0.5 + 0.5 * drawn) * (most + 1.0)), most)  # rounding may reach the end
    return begin + ops.cast(position, "int32")


def signs(drawn: Tensor) -> Tensor:
    """Returns the signs -1 or 1 of numbers that are uniform in [-1, 1)."""
    return ops.where(drawn < 0, -1.0, 1.0)


def flat(z: Tensor) -> Tensor:
    """Returns pixels `(B, H, W, C)` as rows `(B, N)`, on which a broadcast over images is several times faster."""
    return ops.reshape(z, (-1, math.prod(z.shape[1:])))


def _outer(rows: Tensor, columns: Tensor) -> Tensor:
    return rows[:, :, None, None] * columns[:, None, :, None]


def _norm(v: Tensor) -> Tensor:
    """Returns the Euclidean norm by image and channel, above 0."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(v), axis=(1, 2), keepdims=True), 1e-24))


PROPOSALS: dict[type[Ball], Any] = {Linf: Squares, L2: Windows}
