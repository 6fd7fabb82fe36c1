"""Square Attack: random search by squares, without gradients."""

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
from tfrobust.attacks.squares import PROPOSALS, flat
from tfrobust.utils.random import Noise
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Classify, Tensor
from tfrobust.utils.validation import check_number

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries after which p halves
OCCUPIED = 0.9  # once the share of images without an adversary falls below it, the others are taken out of the batch


@register
def square(
    eps: float = EPS,
    queries: int = 5000,
    *,
    norm: str = "linf",
    p_init: float = 0.8,
    restarts: int = 1,
    targeted: bool = False,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> Square:
    """Runs Square Attack, which changes a random square at a time and keeps the change if the loss falls.

    The loss is the margin z_y - max_{j != y} z_j, for targets the cross entropy. A square covers the share p of the
    image, which halves after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 queries, however many are allowed. In
    the Linf ball every value is at an edge of the ball: vertical stripes of random signs first, then squares of one
    sign per channel. In the L2 ball the start is a grid of tiles, and a query moves the energy of two windows into one,
    in the shape of two pyramids of opposite signs; the change has the length of the radius, less what the pixel range
    cuts off.
    Andriushchenko et al. 2020 (Square Attack), algorithms 1 to 3.

    Args:
        {{eps}}
        queries: Most forwards for one image, with that of the start.
        {{norm}}
        p_init: Share of the image that the first squares cover, in (0, 1].
        restarts: Number of independent runs, with other random numbers.
        {{targeted}}
        {{ball}}

    {{returns}}

    Example:

    >>> tfrobust.attacks.square(eps=8 / 255).cost(classes=10)  # forwards and backwards for one image
    (5000, 0)
    """
    ball = threat_model.ball(norm, eps, bounds, mask)
    return Square(ball, queries, p_init=p_init, restarts=restarts, targeted=targeted)


@keras.saving.register_keras_serializable(package="tfrobust")
@dataclasses.dataclass(eq=False, repr=False)
class Square(Attack):
    """Implements `square`.

    The proposals for an image are a function of the noise alone: images with an adversary can be taken out of the
    batch without a change for the others.
    """

    queries: int
    _: dataclasses.KW_ONLY
    p_init: float = 0.8

    kind = "black box"
    counts = ("queries", "restarts")

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.ball) not in PROPOSALS:
            raise unknown("norm of square", type(self.ball).__name__.lower(), ("linf", "l2"))
        self.p_init = float(check_number("p_init", self.p_init, 0, 1, above=True, expected="a share of the image"))

    def cost(self, classes: int) -> tuple[int, int]:
        return self.queries, 0

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        noise = Noise.of(seed)
        shares = [share(self.p_init, query) for query in range(1, self.queries)] or [1.0]
        proposal = PROPOSALS[type(self.ball)](self.ball, x, shares)
        z = proposal.start(noise.fold(0))
        value = self._value(classify(z)["logits"], y)
        value = ops.where(ops.isnan(value), math.inf, value)  # any proposal is better
        drawn = noise.fold(1).uniform(ops.zeros((ops.shape(x)[0], max(self.queries - 1, 1), proposal.numbers)))
        plan = proposal.plan(drawn)

        def propose(query: Tensor, best: Tensor, rows: Tensor, around: Any) -> Tensor:
            return proposal(best, [ops.take(part[:, query - 1], rows, axis=0) for part in plan], around)

        best = self._descend(classify, y, propose, proposal.around, (flat(z), value))
        return self.ball.project(ops.reshape(best, ops.shape(x)), x)  # rounding

    def _descend(
        self, classify: Classify, y: Tensor, propose: Callable[..., Tensor], around: tuple[Tensor, ...], start: Any
    ) -> Tensor:
        """Returns the pixels with the least value among all proposed, or the first adversary.

        The inner loop makes queries; the outer one takes images with an adversary out of the batch once they are many.
        """

        def searching(query: Tensor, best: Tensor, value: Tensor) -> Tensor:
            return ops.logical_and(query < self.queries, ops.any(_alive(value)))

        def of_remaining(query: Tensor, best: Tensor, value: Tensor) -> Any:
            rows = ops.nonzero(_alive(value))[0]
            of_rows = [ops.take(part, rows, axis=0) for part in (y, best, value, *around)]
            labels, its_best, its_value, *its_around = of_rows
            least = OCCUPIED * ops.cast(ops.size(rows), "float32")

            def occupied(query: Tensor, best: Tensor, value: Tensor) -> Tensor:
                left = ops.sum(ops.cast(_alive(value), "float32"))
                return ops.logical_and(query < self.queries, left > least)

            def query_next(query: Tensor, best: Tensor, value: Tensor) -> Any:
                z = propose(query, best, rows, its_around)
                pixels = flat(z)
                # A quarter of the small squares change nothing: their values are known. The first row is always
                # queried, for a classifier may fail on an empty batch.
                changed = ops.logical_or(ops.any(pixels != best, axis=-1), ops.arange(ops.size(value)) == 0)
                queried = ops.nonzero(changed)[0]
                logits = classify(ops.take(z, queried, axis=0))["logits"]
                new = ops.scatter_update(value, queried[:, None], self._value(logits, ops.take(labels, queried)))
                falls = new < value
                return query + 1, ops.where(falls[:, None], pixels, best), ops.where(falls, new, value)

            query, its_best, its_value = ops.while_loop(occupied, query_next, (query, its_best, its_value))
            places = rows[:, None]
            return query, ops.scatter_update(best, places, its_best), ops.scatter_update(value, places, its_value)

        first = ops.convert_to_tensor(1, "int32")
        return ops.while_loop(searching, of_remaining, (first, *start))[1]

    def _value(self, logits: Tensor, y: Tensor) -> Tensor:
        """Returns the value that the search lowers, `(B,)`: minus infinity at an adversary."""
        logits = ops.cast(logits, "float32")
        margin = losses.margin(logits, y)
        if self.targeted:
            return ops.where(margin < 0, -math.inf, losses.cross_entropy(logits, y))
        return ops.where(margin <= 0, -margin, -math.inf)  # a NaN is not a correct prediction


def _alive(value: Tensor) -> Tensor:
    return value > -math.inf


def share(p_init: float, query: int) -> float:
    """Returns p, the share of the image that the square of a query covers; the start is query 0."""
    return p_init / 2 ** sum(query > mark for mark in HALVINGS)
