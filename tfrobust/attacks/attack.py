"""The one search loop, and what makes an evaluation adversary of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from tfrobust import _tensorflow as backend
from tfrobust._registry import Member, unknown
from tfrobust.attacks import starts
from tfrobust.attacks.balls import Ball
from tfrobust.attacks.steps import Step, whole
from tfrobust.views import Observed, Views

Tensor = Any
Loss = Callable[[Views], Any]
Classify = Callable[[Tensor], Mapping[str, Any]]

KEEPS = ("last", "best")


@keras.saving.register_keras_serializable(package="tfrobust")
class Attack(Member):
    """Ascends a per-example loss inside a ball: z <- project(step(z, grad loss(z))), from a start, `steps` times.

    It knows neither model nor labels. One compiled loop serves every step rule, ball and loss.

    Args:
        ball: a `Ball`: radius, projection, pixel range.
        step: a step rule, `(z, gradient, value, ball, state) -> z, state`.
        steps: iterations, at least 1.
        start: "auto" (the objective's where it has one, else `own_start`), "uniform", "normal", "none", or
            `(ball, x, noise) -> z`.
        own_start: where this attack begins by itself: "uniform", "normal", "none" or a function.
        restarts: independent searches; for each example the one with the greatest loss is returned.
        keep: "last" iterate, or the "best" by loss among all, the start included.
        targeted: descend instead: the labels are then the classes to reach.

    Raises:
        ValueError: for `steps` or `restarts` below 1 and unknown `start` or `keep`.
    """

    def __init__(
        self,
        ball: Ball,
        step: Step,
        steps: int,
        *,
        start: str | starts.Start = "auto",
        own_start: str | starts.Start = "uniform",
        restarts: int = 1,
        keep: str = "last",
        targeted: bool = False,
    ) -> None:
        if keep not in KEEPS:
            raise unknown("value for `keep`", keep, KEEPS)
        self.ball = ball
        self.step = step
        self.steps = whole("steps", steps)
        self.start = starts.get(start)
        self.own_start = starts.get(own_start)
        self.restarts = whole("restarts", restarts)
        self.keep = keep
        self.targeted = targeted

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Returns the attack that a registered factory makes of a config."""
        from tfrobust import attacks

        return attacks.get(dict(config))

    def at(self, epoch: Any) -> Attack:
        """Returns this attack with the radius that its ball has at the fractional epoch."""
        return self._with(ball=self.ball.at(epoch))

    def starting(self, start: starts.Start | None) -> Attack:
        """Returns this attack with an objective's `start` where its own is "auto"."""
        return self if self.start is not None else self._with(start=start)

    def once(self) -> Attack:
        """Returns this attack without restarts."""
        return self._with(restarts=1)

    def maximizing(self, loss: Loss) -> Adversary:
        """Returns the adversary that ascends a loss `Views -> (B,)` with this attack."""
        return Adversary(self, loss)

    def __call__(self, loss: Callable[[Tensor], Any], x: Tensor, seed: Any = 0) -> tuple[Tensor, Observed | None]:
        """Returns adversarial pixels and what the loss observed of the iterates that were differentiated.

        Args:
            loss: `z -> (B,)`, or `z -> ((B,), (B,))`, the second observed and summed over the iterates.
            x: clean pixels, `(B, ...)` within the ball's bounds.
            seed: an int, a `(2,)` integer tensor, or a `Noise`.

        Returns:
            `(x_adv, observed)`: shaped as x, and an `Observed` or None.
        """
        x = ops.convert_to_tensor(x)
        noise = backend.Noise.of(seed)
        if self.restarts == 1:
            z, _, observed = self._search(loss, x, noise, valued=False)
            return z, observed
        z, value, observed = self._search(loss, x, noise.fold(0), valued=True)
        for restart in range(1, self.restarts):
            again, its_value, _ = self._search(loss, x, noise.fold(restart), valued=True)
            z, value = self._better((z, value), (again, its_value))
        return z, observed

    def _search(
        self, loss: Callable[[Tensor], Any], x: Tensor, noise: backend.Noise, valued: bool
    ) -> tuple[Tensor, Tensor | None, Observed | None]:
        observes = False

        def body(_: Tensor, carry: Any) -> Any:
            nonlocal observes
            z, state, best, count = carry
            value, observed, gradient = backend.value_and_gradient(loss, z)
            if self.targeted:
                value, gradient = -value, -gradient
            best = self._better(best, (z, value)) if best else ()
            if observed is not None:
                observes = True
                count = count + ops.cast(observed, "float32")
            z, state = self.step(z, gradient, value, self.ball, state)
            return self.ball.project(z, x), state, best, count

        z = (self.start or self.own_start or starts.uniform)(self.ball, x, noise)
        zero = ops.zeros_like(ops.reshape(x, (ops.shape(x)[0], -1))[:, 0])
        best = (z, zero - math.inf) if self.keep == "best" else ()
        carry = (z, self.step.init(x), best, zero)
        z, _, best, count = ops.fori_loop(0, self.steps, body, carry)
        value = None
        if valued or best:  # the last iterate has not been judged yet
            value, _ = backend.split(loss(z))
            value = -value if self.targeted else value
            z, value = self._better(best, (z, value)) if best else (z, value)
        return ops.stop_gradient(z), value, Observed(count, self.steps) if observes else None

    @staticmethod
    def _better(kept: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns (pixels, value), for each example those with the greater value."""
        higher = new[1] > kept[1]
        rows = ops.reshape(higher, (-1, *[1] * (len(new[0].shape) - 1)))
        return ops.where(rows, new[0], kept[0]), ops.where(higher, new[1], kept[1])

    def _with(self, **changes: Any) -> Attack:
        changed = copy.copy(self)
        vars(changed).update(changes)
        return changed


@keras.saving.register_keras_serializable(package="tfrobust")
class Adversary(Member):
    """An attack with a loss of its own: an evaluation adversary `(classify, x, y) -> x_adv`.

    Under `AdversarialTrainer` its loss takes the place of the objective's inner loss.

    Args:
        attack: the search.
        loss: what it maximizes, `Views -> (B,)`.

    Example:

    >>> classifier = tfrobust.models.get("digits")
    >>> adversary = tfrobust.attacks.cw_linf(eps=0.15, steps=2)
    >>> x, y = np.full((2, 8, 8, 1), 0.5, "float32"), np.array([3, 7])
    >>> tuple(adversary(classifier, x, y).shape)
    (2, 8, 8, 1)
    """

    def __init__(self, attack: Attack, loss: Loss) -> None:
        self.attack = attack
        self.loss = loss
        self._compiled: tuple[Classify, Callable[..., Tensor]] | None = None

    from_config = Attack.from_config

    @property
    def ball(self) -> Ball:
        """The attack's ball."""
        return self.attack.ball

    def at(self, epoch: Any) -> Adversary:
        """Returns this adversary with the radius that its ball has at the fractional epoch."""
        return Adversary(self.attack.at(epoch), self.loss)

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0) -> tuple[Tensor, Observed | None]:
        """Returns `(x_adv, observed)` as `Attack.__call__` does, of a search on this classifier; in graph code."""
        views = Views(y=y, x=x, clean=backend.once_in_this_graph(lambda: classify(x)))
        return self.attack(lambda z: self.loss(views.attacked(z, lambda: classify(z))), x, seed)

    def __call__(self, classify: Classify, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
        """Returns adversarial pixels, searched in one compiled function.

        Args:
            classify: pixels -> dict of named outputs: a classifier, or a function.
            x: clean pixels, `(B, H, W, C)` within the ball's bounds.
            y: true labels, `(B,)`; of a targeted attack the classes to reach.
            seed: of the random start.

        Returns:
            x_adv, shaped as x.
        """
        if self._compiled is None or self._compiled[0] is not classify:
            self._compiled = (classify, backend.compiled(lambda *args: self.search(classify, *args)[0]))
        search = self._compiled[1]
        return search(*map(ops.convert_to_tensor, (ops.cast(x, "float32"), ops.cast(y, "int32"), seed)))
