"""The one search loop, and what makes an evaluation adversary of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks import starts
from tfrobust.attacks.base import Classify, Evasion, ranked_target
from tfrobust.attacks.gradients import Exact, Gradients
from tfrobust.attacks.rows import where_rows, zeros
from tfrobust.attacks.steps import Step
from tfrobust.attacks.threat_model import Ball
from tfrobust.attacks.view_losses import Loss
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.random import Noise
from tfrobust.utils.registry import Member, unknown
from tfrobust.utils.validation import check_integer
from tfrobust.views import Observed, Views

Tensor = Any

KEEPS = ("last", "best", "fooling")
OF_GRADIENTS = 104729  # folds the noise of gradients away from that of starts


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
        keep: "last" iterate; the "best" by loss among all, the start included; or the first "fooling" one, else the
            best: the loop then ends when every image has one, and the loss has to observe which are right.
        targeted: descend instead: the labels are then the classes to reach.
        gradients: the oracle of value and gradient.

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
        gradients: Gradients | None = None,
    ) -> None:
        if keep not in KEEPS:
            raise unknown("value for `keep`", keep, KEEPS)
        self.ball = ball
        self.step = step
        self.steps = check_integer("steps", steps)
        self.start = starts.get(start)
        self.own_start = starts.get(own_start)
        self.restarts = check_integer("restarts", restarts)
        self.keep = keep
        self.targeted = targeted
        self.gradients = gradients or Exact()

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

    def expecting(self, gradients: Gradients) -> Attack:
        """Returns this attack with another oracle of gradients."""
        return self._with(gradients=gradients)

    def maximizing(self, loss: Loss) -> Adversary:
        """Returns the adversary that ascends a loss `Views -> (B,)` with this attack."""
        return Adversary(self, loss)

    @backend.as_written
    def __call__(self, loss: Callable[[Tensor], Any], x: Tensor, seed: Any = 0) -> tuple[Tensor, Observed | None]:
        """Returns adversarial pixels and what the loss observed of the iterates that were differentiated.

        Args:
            loss: `z -> (B,)`, or `z -> ((B,), (B,))`, the second observed and summed over the iterates.
            x: clean pixels, `(B, ...)` within the ball's bounds.
            seed: an int, a `(2,)` integer tensor, or a `Noise`.

        Returns:
            `(x_adv, observed)`: shaped as x, and an `Observed` or None.
        """
        backend.require("An attack")
        if isinstance(loss, keras.Model):
            raise InvalidArgument(
                f"Invalid loss: expected a function of pixels, z -> (B,). Received: the model {loss.name!r}. An attack "
                "becomes an adversary that takes (classifier, x, y) by a loss: attack.maximizing(loss) or "
                f"{self.name}(loss=...)"
            )
        x = ops.convert_to_tensor(x)
        noise = Noise.of(seed)
        if self.restarts == 1:
            z, _, observed = self._search(loss, x, noise, valued=False)
            return z, observed
        z, value, observed = self._search(loss, x, noise.fold(0), valued=True)
        for restart in range(1, self.restarts):
            again, its_value, _ = self._search(loss, x, noise.fold(restart), valued=True)
            z, value = self._better((z, value), (again, its_value))
        return z, observed

    def _search(
        self, loss: Callable[[Tensor], Any], x: Tensor, noise: Noise, valued: bool
    ) -> tuple[Tensor, Tensor | None, Observed | None]:
        observes = False
        draws = noise.fold(OF_GRADIENTS)

        def running(iteration: Tensor, z: Tensor, state: Any, best: Any, count: Tensor) -> Tensor:
            if self.keep != "fooling":
                return iteration < self.steps
            return ops.logical_and(iteration < self.steps, ops.any(best[1] < math.inf))

        def body(iteration: Tensor, z: Tensor, state: Any, best: Any, count: Tensor) -> Any:
            nonlocal observes
            value, observed, gradient = self.gradients(loss, z, draws.fold(iteration))
            if self.targeted:
                value, gradient = -value, -gradient
            best = self._better(best, (z, self._rank(value, observed))) if best else ()
            if observed is not None:
                observes = True
                count = count + ops.cast(observed, "float32")
            z, state = self.step(z, self.ball.masked(gradient), value, self.ball, state)
            return iteration + 1, self.ball.project(z, x), state, best, count

        z = (self.start or self.own_start or starts.uniform)(self.ball, x, noise)
        zero = zeros(x)
        best = () if self.keep == "last" else (z, zero - math.inf)
        carry = (ops.convert_to_tensor(0, "int32"), z, self.step.init(x), best, zero)
        _, z, _, best, count = ops.while_loop(running, body, carry)
        value = None
        if valued or best:  # the last iterate has not been judged yet
            value = self._rank(*self.gradients.value(loss, z, draws.fold(self.steps)), sign=-1 if self.targeted else 1)
            z, value = self._better(best, (z, value)) if best else (z, value)
        return ops.stop_gradient(z), value, Observed(count, self.steps) if observes else None

    def _rank(self, value: Tensor, observed: Tensor | None, sign: int = 1) -> Tensor:
        """Returns what an iterate is kept by, `(B,)`: its value; where fooling ones are kept, infinity for those."""
        if self.keep != "fooling":
            return sign * value
        if observed is None:
            raise InvalidArgument(
                'keep="fooling" needs a loss that observes which images are right: expected an Adversary'
            )
        right = observed > 0.5  # a mean, under an expectation
        return ops.where(right if self.targeted else ~right, math.inf, sign * value)

    @staticmethod
    def _better(kept: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Returns (pixels, value), for each example those with the greater value."""
        higher = new[1] > kept[1]
        return where_rows(higher, new[0], kept[0]), ops.where(higher, new[1], kept[1])

    def _with(self, **changes: Any) -> Attack:
        changed = copy.copy(self)
        vars(changed).update(changes)
        return changed


@keras.saving.register_keras_serializable(package="tfrobust")
class Adversary(Evasion):
    """An attack with a loss of its own: an evaluation adversary `(classify, x, y) -> x_adv`.

    Under `AdversarialTrainer` its loss takes the place of the objective's inner loss.

    Args:
        attack: the search. Each of its restarts is a run.
        loss: what it maximizes, `Views -> (B,)`.
        targets: 0, or how many wrong classes it reaches for, the likeliest first, each in runs of its own: the loss
            then reads `views.target`.
        least_classes: fewest classes for which the loss is defined.

    Example:

    >>> classifier = tfrobust.models.get("digits")
    >>> adversary = tfrobust.attacks.cw_linf(eps=0.15, steps=2)
    >>> x, y = np.full((2, 8, 8, 1), 0.5, "float32"), np.array([3, 7])
    >>> tuple(adversary(classifier, x, y).shape)
    (2, 8, 8, 1)
    """

    def __init__(self, attack: Attack, loss: Loss, *, targets: int = 0, least_classes: int = 2) -> None:
        super().__init__(attack.ball, targeted=attack.targeted, gradients=attack.gradients, least_classes=least_classes)
        self.attack = attack
        self.loss = loss
        self.targets = targets

    def at(self, epoch: Any) -> Adversary:
        """Returns this adversary with the radius that its ball has at the fractional epoch."""
        return self._around(self.attack.at(epoch))

    def expecting(self, gradients: Gradients) -> Adversary:
        return self._around(self.attack._with(gradients=gradients))

    def runs(self, classes: int) -> int:
        return self.attack.restarts * self._targets(classes)

    def cost(self, classes: int) -> tuple[int, int]:
        steps, gradients = self.attack.steps, self.attack.gradients
        last = 0 if self.attack.keep == "last" else 1  # the last iterate is judged as well
        return (steps + last) * gradients.forwards, steps * gradients.backwards

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        return self._around(self.attack.once()).observe(classify, x, y, seed, run)[0]

    @backend.as_written
    def observe(
        self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0
    ) -> tuple[Tensor, Observed | None]:
        """Returns `(x_adv, observed)` as `Attack.__call__` does, all restarts in one graph, the greatest loss kept."""
        clean = backend.once_in_this_graph(lambda: classify(x))
        views = Views(y=y, x=x, clean=clean)
        if self.targets:
            logits = views.clean["logits"]
            views.target = ranked_target(logits, y, run % self._targets(logits.shape[-1]))

        def loss(z: Tensor) -> Any:
            seen = views.attacked(z, lambda: classify(z))
            if self.attack.keep != "fooling":
                return self.loss(seen)
            value, _ = backend.split(self.loss(seen))
            return value, losses.correct(seen.adv["logits"], y)

        return self.attack(loss, x, seed)

    def _targets(self, classes: int) -> int:
        return min(self.targets, classes - 1) or 1

    def _around(self, attack: Attack) -> Adversary:
        return self._with(attack=attack, ball=attack.ball, targeted=attack.targeted, gradients=attack.gradients)
