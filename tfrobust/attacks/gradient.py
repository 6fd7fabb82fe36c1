"""Gradient ascent inside a ball: the loop of every attack that climbs a loss."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks import starts, view_losses
from tfrobust.attacks.base import Attack, ranked_target
from tfrobust.attacks.gradients import Exact, Expected, Gradients, Transformation
from tfrobust.attacks.rows import where_rows, zeros
from tfrobust.attacks.steps import Step
from tfrobust.attacks.view_losses import Loss, adversarial_cross_entropy
from tfrobust.utils import graph as backend
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.random import Noise
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Classify, Tensor
from tfrobust.views import Observed, Views

PixelLoss = Callable[[Tensor], Any]  # z -> (B,), or z -> ((B,), (B,)), the second observed and not differentiated
Best = tuple[Tensor, Tensor]  # pixels and their scores `(B,)`, for each image of the iterate with the greatest score

Followed = TypeVar("Followed", bound=Attack)

KEEPS = ("last", "best")
GRADIENT_NOISE = 104729  # folds the noise of gradients away from that of starts


@keras.saving.register_keras_serializable(package="tfrobust")
@dataclasses.dataclass(eq=False, repr=False)
class GradientAttack(Attack):
    """Ascends a per-example loss inside a ball: z <- project(step(z, grad loss(z))), from a start, `steps` times.

    As the attack of a trainer it ascends the objective's inner loss, unless it has a loss of its own.

    Args:
        ball: The threat model: radius, projection, pixel range and mask.
        step: The step rule, `(z, gradient, value, ball, state) -> z, state`.
        steps: Number of iterations, at least 1.
        loss: The loss to maximize, `Views -> (B,)`, or its name in `view_losses`; None: cross entropy, or the
            objective's inner loss in a trainer.
        start: "auto" (the objective's start if it has one, else `own_start`), "uniform", "normal", "none", or a
            function `(ball, x, noise) -> z`.
        own_start: Where this attack starts if nothing else is asked for; names as for `start`.
        restarts: Number of independent searches. In training the one with the greatest loss counts for each example;
            in a call or an evaluation each is a run of its own.
        keep: Return the "last" iterate, or the "best" by loss among all, the start included.
        early_stop: Return the first iterate that fools the classifier, else the best one, and end the search once every
            image of the batch is fooled.
        targeted: Descend instead: the labels are then the classes to reach.
        gradients: The oracle of value and gradient; None: `Exact()`.
        targets: 0, or how many wrong classes the loss reaches for as `views.target`, the likeliest first, each in runs
            of its own.
        least_classes: Fewest classes for which the loss is defined.

    Example:

    >>> classifier = tfrobust.models.get("digits")
    >>> attack = tfrobust.attacks.GradientAttack(tfrobust.attacks.Linf(0.15), tfrobust.attacks.Sign(0.05), steps=2)
    >>> tuple(attack(classifier, np.full((2, 8, 8, 1), 0.5, "float32"), np.array([3, 7])).shape)
    (2, 8, 8, 1)
    """

    step: Step
    steps: int
    _: dataclasses.KW_ONLY
    gradients: Gradients = dataclasses.field(default_factory=Exact)
    loss: Any = None
    start: Any = "auto"
    own_start: Any = "uniform"
    keep: str = "last"
    early_stop: bool = False
    targets: int = 0

    counts = ("steps", "restarts")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep == "fooling":
            warnings.warn('keep="fooling" is deprecated: use early_stop=True.', DeprecationWarning, stacklevel=5)
            self.keep, self.early_stop = "best", True
        if self.keep not in KEEPS:
            raise unknown("value for `keep`", self.keep, KEEPS)
        self.gradients = self.gradients or Exact()
        self.loss = view_losses.get(self.loss)
        self.start, self.own_start = starts.get(self.start), starts.get(self.own_start)
        self.kind = "white box" if self.gradients.backwards else "black box"

    @property
    def compares_iterates(self) -> bool:
        """Returns whether the search chooses one of all iterates, so that the last one is evaluated as well."""
        return self.early_stop or self.keep == "best"

    @property
    def effective_loss(self) -> Loss:
        """Returns the loss that a call ascends: that of the attack, else cross entropy."""
        return self.loss or adversarial_cross_entropy

    def at(self, epoch: Any) -> GradientAttack:
        """Returns a copy of this attack with the radius that its ball has at the fractional epoch."""
        return self._with(ball=self.ball.at(epoch))

    def starting(self, start: starts.Start | None) -> GradientAttack:
        """Returns this attack with an objective's `start` where its own is "auto"."""
        return self if self.start is not None else self._with(start=start)

    def maximizing(self, loss: Loss | None, *, targets: int = 0) -> GradientAttack:
        """Returns a copy of this attack that ascends another loss; see `GradientAttack` for the arguments."""
        recipe = self._recipe
        # Only a factory that takes a function as its loss could make the copy from a config.
        recipe = {**recipe, "loss": loss} if recipe and not isinstance(recipe.get("loss", ""), str) else None
        return self._with(loss=loss, targets=targets, least_classes=2, _recipe=recipe)

    def runs(self, classes: int) -> int:
        return self.restarts * self._reached(classes)

    def cost(self, classes: int) -> tuple[int, int]:
        last = self.gradients.linear_cost(0)[0] if self.compares_iterates else 0  # the value of the last iterate
        return self.steps * self.gradients.forwards + last, self.steps * self.gradients.backwards

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        return self._with(restarts=1).observe(classify, x, y, seed, run)[0]

    @backend.as_written
    def observe(
        self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0
    ) -> tuple[Tensor, Observed | None]:
        """Returns adversarial pixels and what the loss observed, after all restarts; see `search` for the arguments."""
        views = Views(y=y, x=x, clean=backend.once_in_this_graph(lambda: classify(x)))
        if self.targets:
            logits = views.clean["logits"]
            views.target = ranked_target(logits, y, run % self._reached(logits.shape[-1]))

        def loss(z: Tensor) -> Any:
            attacked = views.attacked(z, lambda: classify(z))
            value = self.effective_loss(attacked)
            return (backend.split(value)[0], losses.correct(attacked.adv["logits"], y)) if self.early_stop else value

        return self.ascend(loss, x, seed)

    @backend.as_written
    def ascend(self, loss: PixelLoss, x: Tensor, seed: Any = 0) -> tuple[Tensor, Observed | None]:
        """Returns adversarial pixels and what the loss observed, summed over the iterates that were differentiated.

        This is the search itself, which knows neither a classifier nor labels.

        Args:
            loss: `z -> (B,)`, or `z -> ((B,), (B,))`, where the second is observed and not differentiated.
            x: Clean pixels, `(B, ...)` within the ball's bounds.
            seed: An int, a `(2,)` integer tensor, or a `Noise`.

        Returns:
            `(x_adv, observed)`: pixels shaped as x, and an `Observed` or None.
        """
        backend.require("An attack")
        if isinstance(loss, keras.Model):
            raise InvalidArgument(
                f"Invalid loss: expected a function of pixels, z -> (B,). Received: the model {loss.name!r}. Call the "
                "attack itself with a classifier: attack(classifier, x, y)"
            )
        x = ops.convert_to_tensor(x)
        noise = Noise.of(seed)
        first, *others = [noise] if self.restarts == 1 else [noise.fold(restart) for restart in range(self.restarts)]
        z, score, observed = self._ascend_once(loss, x, first)
        for other in others:
            again, its_score, _ = self._ascend_once(loss, x, other)
            z, score = _better((z, score), (again, its_score))
        return z, observed

    def _ascend_once(self, loss: PixelLoss, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Observed | None]:
        """Returns the pixels of one search, their scores if any are compared, and what the loss observed."""
        draws = noise.fold(GRADIENT_NOISE)
        observes: list[bool] = []  # whether the loss observes something is known once it has been called

        def unfinished(iteration: Tensor, z: Tensor, state: Any, best: Any, count: Tensor) -> Tensor:
            more = iteration < self.steps
            return ops.logical_and(more, ops.any(best[1] < math.inf)) if self.early_stop else more

        def climb(iteration: Tensor, z: Tensor, state: Any, best: Any, count: Tensor) -> Any:
            value, observed, gradient = self.gradients(loss, z, draws.fold(iteration))
            if self.targeted:
                value, gradient = -value, -gradient
            if best:
                best = _better(best, (z, self._score(value, observed)))
            if observed is not None:
                count = count + ops.cast(observed, "float32")
            observes.append(observed is not None)
            z, state = self.step(z, self.ball.masked(gradient), value, self.ball, state)
            return iteration + 1, self.ball.project(z, x), state, best, count

        z = (self.start or self.own_start or starts.uniform)(self.ball, x, noise)
        best = (z, zeros(z) - math.inf) if self.compares_iterates else ()
        carry = (ops.convert_to_tensor(0, "int32"), z, self.step.init(x), best, zeros(x))
        _, z, _, best, count = ops.while_loop(unfinished, climb, carry)
        z, score = self._chosen(loss, best, z, draws.fold(self.steps))
        return ops.stop_gradient(z), score, Observed(count, self.steps) if any(observes) else None

    def _score(self, value: Tensor, observed: Tensor | None) -> Tensor:
        """Returns the score by which an iterate is kept, `(B,)`: its value; infinity if an early stop ends there."""
        if not self.early_stop:
            return value
        if observed is None:
            raise InvalidArgument(
                "Invalid loss for early_stop=True: expected one that also observes which images are classified right, "
                "z -> ((B,), (B,)), or a call of the attack with a classifier. Received: a loss of one value"
            )
        right = observed > 0.5  # a mean, under an expectation
        return ops.where(right if self.targeted else ~right, math.inf, value)

    def _chosen(self, loss: PixelLoss, best: Any, z: Tensor, noise: Noise) -> tuple[Tensor, Tensor | None]:
        """Returns the best iterate or the last one, z, with its score, which restarts are compared by."""
        if not best and self.restarts == 1:
            return z, None
        value, observed = self.gradients.value(loss, z, noise)
        last = (z, self._score(-value if self.targeted else value, observed))
        return _better(best, last) if best else last

    def _reached(self, classes: int) -> int:
        """Returns how many wrong classes the loss reaches for, or 1."""
        return min(self.targets, classes - 1) or 1


def _better(kept: Best, new: Best) -> Best:
    """Returns, for each example, the pixels with the greater score, and that score."""
    higher = new[1] > kept[1]
    return where_rows(higher, new[0], kept[0]), ops.where(higher, new[1], kept[1])


def expectation(attack: Followed, transformation: Transformation | None = None, samples: int = 20) -> Followed:
    """Returns an attack that follows the mean over random draws: value and gradient of mean_k loss(t_k(z)).

    Athalye et al. 2018 (Synthesizing Robust Adversarial Examples), equation 1. The draws are new at every step. A
    transformation that draws for a whole batch at once gives an image other numbers in another batch.

    Args:
        attack: An attack that follows gradients, such as `pgd(...)`; one that makes queries alone is refused.
        transformation: A function `(pixels (B, H, W, C), seed (2,)) -> pixels`, differentiable and random by its seed,
            as the functions `tf.image.stateless_*` are; None: the classifier itself is random.
        samples: Number of draws in a mean.

    Returns:
        An attack of the same class, with `samples` times its cost.

    Example:

    >>> noisy = tfrobust.attacks.expectation(
    ...     tfrobust.attacks.pgd(eps=0.15), lambda x, seed: x + 0.05 * tf.random.stateless_normal(tf.shape(x), seed)
    ... )
    >>> noisy.gradients.samples
    20
    """
    return attack.expecting(Expected(transformation, samples))


def Adversary(attack: GradientAttack, loss: Loss, *, targets: int = 0, least_classes: int = 2) -> GradientAttack:
    """Returns `attack.maximizing(loss)`; deprecated."""
    warnings.warn(
        "`Adversary(attack, loss)` is deprecated: use `attack.maximizing(loss)`, or GradientAttack(..., loss=loss).",
        DeprecationWarning,
        stacklevel=2,
    )
    return attack.maximizing(loss, targets=targets)._with(least_classes=least_classes)


# Under these names an older release wrote its attacks.
keras.saving.get_custom_objects().update({f"tfrobust>{name}": GradientAttack for name in ("Attack", "Adversary")})
