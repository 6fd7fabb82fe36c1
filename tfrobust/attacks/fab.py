"""The fast adaptive boundary attack."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks import minimum_norm
from tfrobust.attacks.base import ranked_target
from tfrobust.attacks.gradients import Exact
from tfrobust.attacks.hyperplanes import nearest, onto
from tfrobust.attacks.minimum_norm import Found, MinimumNorm
from tfrobust.attacks.registry import EPS, register
from tfrobust.attacks.rows import column, iterate, pixels, where_rows
from tfrobust.attacks.steps import l2_norm
from tfrobust.attacks.threat_model import L2
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Classify, Tensor
from tfrobust.utils.validation import check_integer, check_number


@keras.saving.register_keras_serializable(package="tfrobust")
@dataclasses.dataclass(eq=False, repr=False)
class FAB(MinimumNorm):
    """Implements `fab`; a run has one start and, for FAB-T, one target."""

    steps: int
    targets: int
    alpha_max: float
    eta: float
    beta: float

    counts = ("steps", "restarts")

    def runs(self, classes: int) -> int:
        return self.restarts * max(self._targets(classes), 1)

    def cost(self, classes: int) -> tuple[int, int]:
        classified, _ = self.gradients.linear_cost(0)
        forwards, backwards = self.gradients.linear_cost(1 if self.targets else classes - 1)
        return classified + self.steps * (forwards + classified), self.steps * backwards

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        noise = Noise.of(seed)
        linear = self._linear(classify, noise)
        clean = linear(x, 0)[0]
        other, count = self._candidates(clean, y, run)

        def step(iteration: Tensor, z: Tensor, found: Found) -> tuple[Tensor, Found]:
            plane = nearest(linear(z, 2 * iteration + 1), z, y, other, count, self.ball)
            z = self._towards(plane, z, x)
            hit = losses.correct(linear(z, 2 * iteration + 2)[0], y) == 0
            return where_rows(hit, x + self.beta * (z - x), z), self._nearer(found, z, hit, x)

        start = self._start(clean, x, run, noise)
        found = self._nothing(x, losses.correct(clean, y) == 0)
        _, found = iterate(self.steps, lambda z, found: ~ops.all(self._done(found)), step, start, found)
        return self._within(found, x)

    def _targets(self, classes: int) -> int:
        return min(self.targets, classes - 1)

    def _candidates(self, clean: Tensor, y: Tensor, run: Any) -> tuple[Callable[[Any], Tensor], int]:
        """Returns the classes whose hyperplanes are considered, by number, and how many there are."""
        classes = clean.shape[-1]
        if self.targets:
            target = ranked_target(clean, y, run % self._targets(classes))
            return lambda k: target, 1
        return lambda k: (y + 1 + k) % classes, classes - 1

    def _start(self, clean: Tensor, x: Tensor, run: Any, noise: Noise) -> Tensor:
        """Returns x in the first run of each target, else a random point halfway to the edge of the ball."""
        if self.restarts == 1:
            return x
        if isinstance(self.ball, L2):
            direction = self.ball.masked(noise.normal(x))
            direction = direction / l2_norm(direction)
        else:
            direction = self.ball.masked(noise.uniform(x))
            direction = direction / ops.maximum(ops.max(ops.abs(direction), axis=pixels(x), keepdims=True), 1e-12)
        point = ops.clip(x + 0.5 * self.ball.radius * direction, *self.ball.bounds)
        return ops.where(run // max(self._targets(clean.shape[-1]), 1) == 0, x, point)

    def _towards(self, plane: tuple[Tensor, Tensor], z: Tensor, x: Tensor) -> Tensor:
        """Returns the step from z: across the plane, with a bias to the point of the plane nearest to x; equation 9."""
        gap, w = plane
        delta = z - x
        rise = ops.concatenate([-gap, ops.sum(w * delta, axis=pixels(w)) - gap])
        ways = onto(ops.concatenate([z, x]), ops.concatenate([w, w]), rise, self.ball)
        from_z, from_x = ops.split(ways, 2)
        far_z, far_x = (
            ops.maximum(self.ball.distance(way, 0.0 * way), 1e-8 * self.ball.width) for way in (from_z, from_x)
        )
        alpha = column(ops.minimum(far_z / (far_z + far_x), self.alpha_max), w)
        # As a change of x, so that pixels outside the mask stay exactly x.
        moved = (1 - alpha) * (delta + self.eta * from_z) + alpha * self.eta * from_x
        return ops.clip(x + moved, *self.ball.bounds)


@register
def fab(
    eps: float | None = EPS,
    steps: int = 100,
    *,
    norm: str = "linf",
    targets: int = 0,
    restarts: int = 1,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> FAB:
    """Runs the fast adaptive boundary attack: steps onto linearized decision boundaries towards the nearest adversary.

    With d_z and d_x the smallest moves within the pixel range from z and from x onto the hyperplane nearest to z,

        z <- clip((1 - alpha) (z + eta d_z) + alpha (x + eta d_x)), alpha = min(|d_z| / (|d_z| + |d_x|), alpha_max)

    and, whenever z is misclassified, z <- x + beta (z - x). Croce and Hein 2020 (Minimally distorted Adversarial
    Examples with a Fast Adaptive Boundary Attack), equations 4 to 10, without the final search, as in AutoAttack. With
    a radius the first adversary inside the ball ends the search of its image; with `eps=None` all steps and runs
    search for the nearest.

    Args:
        {{eps_or_none}}
        steps: Number of iterations.
        {{norm}}
        targets: 0 to step onto the nearest of the hyperplanes to all other classes; else the number of targets of
            FAB-T, each in a run that steps onto the hyperplane to one wrong class only, the likeliest first.
        restarts: Number of runs (of each target); the first starts at x, the others at a random point at distance
            eps / 2.
        alpha_max: Greatest bias towards x.
        eta: Extrapolation beyond the hyperplane, at least 1.
        beta: Share of the perturbation that the step back to x keeps, in (0, 1).
        {{ball}}

    {{returns}}

    Example:

    >>> tfrobust.attacks.fab(eps=0.15, targets=9).runs(classes=10)
    9
    """
    if isinstance(targets, bool) or targets != 0:
        check_integer("targets", targets)
    if check_integer("restarts", restarts) > 1 and eps is None:
        raise InvalidArgument(
            "Invalid value for `eps`: expected a radius, for restarts begin at half of it. Received: None"
        )
    ball = minimum_norm.ball(norm, eps, bounds, mask, "fab")
    alpha_max = float(check_number("alpha_max", alpha_max, 0, 1))
    eta, beta = float(check_number("eta", eta, 1)), float(check_number("beta", beta, 0, 1, above=True))
    return FAB(ball, steps, targets, alpha_max, eta, beta, restarts=restarts, gradients=Exact())
