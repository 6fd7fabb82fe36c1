"""DeepFool."""

import dataclasses
from typing import Any

import keras
from keras import ops

from tfrobust import losses
from tfrobust.attacks import minimum_norm
from tfrobust.attacks.gradients import Exact
from tfrobust.attacks.hyperplanes import dual_norm, nearest
from tfrobust.attacks.minimum_norm import MinimumNorm
from tfrobust.attacks.registry import register
from tfrobust.attacks.rows import column, iterate, where_rows
from tfrobust.attacks.threat_model import L2
from tfrobust.utils.random import Noise
from tfrobust.utils.types import Classify, Tensor
from tfrobust.utils.validation import check_integer, check_number

BEYOND = 1e-4  # pixel ranges by which a step goes beyond the hyperplane


@keras.saving.register_keras_serializable(package="tfrobust")
@dataclasses.dataclass(eq=False, repr=False)
class DeepFool(MinimumNorm):
    """Implements `deepfool`."""

    steps: int
    overshoot: float
    candidates: int

    counts = ("steps", "restarts")

    def cost(self, classes: int) -> tuple[int, int]:
        forwards, backwards = self.gradients.linear_cost(self._others(classes))
        return self.steps * forwards + 2 * self.gradients.linear_cost(0)[0], self.steps * backwards

    def search(self, classify: Classify, x: Tensor, y: Tensor, seed: Any = 0, run: Any = 0) -> Tensor:
        linear = self._linear(classify, Noise.of(seed))

        def reached(path: Tensor) -> Tensor:
            return ops.clip(x + (1 + self.overshoot) * path, *self.ball.bounds)

        def step(iteration: Tensor, path: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
            z = reached(path)
            linearized = linear(z, iteration + 1)
            right = right & (losses.correct(linearized[0], y) > 0)
            count = ops.where(ops.any(right), others, 0)  # no class is needed once all images are wrong
            gap, w = nearest(linearized, z, y, lambda k: ops.take(ranking, k + 1, axis=-1), count, self.ball)
            return where_rows(right, path + self._way(gap, w), path), right

        clean = linear(x, 0)[0]
        others = self._others(clean.shape[-1])
        ranking = ops.cast(ops.argsort(-clean, axis=-1), "int32")
        right = losses.correct(clean, y) > 0
        path, right = iterate(self.steps, lambda path, right: ops.any(right), step, ops.zeros_like(x), right)
        z = reached(path)
        hit = ~right | (losses.correct(linear(z, self.steps + 1)[0], y) == 0)
        return self._within(self._nearer(self._nothing(x, ops.zeros_like(hit)), z, hit, x), x)

    def _others(self, classes: int) -> int:
        return min(self.candidates, classes) - 1

    def _way(self, gap: Tensor, w: Tensor) -> Tensor:
        """Returns the shortest step onto gap + w.d = 0, and 1e-4 pixel ranges beyond; zero where w is zero."""
        length = column(ops.maximum(dual_norm(w, self.ball), 1e-30), w)
        distance = column(ops.abs(gap), w) / length + BEYOND * self.ball.width
        return distance * (w / length if isinstance(self.ball, L2) else ops.sign(w))


@register
def deepfool(
    eps: float | None = None,
    steps: int = 50,
    *,
    norm: str = "l2",
    overshoot: float = 0.02,
    candidates: int = 10,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
) -> DeepFool:
    """Runs DeepFool: steps onto the nearest linearized decision boundary until the prediction is no longer the label.

    With gap_k = z_k - z_y and w_k its gradient at the last point, k* the class that minimizes |gap_k| / ||w_k||,

        L2: r <- r + (|gap| / ||w||_2 + 1e-4) * w / ||w||_2    Linf: r <- r + (|gap| / ||w||_1 + 1e-4) * sign(w)

    and the next point is clip(x + (1 + overshoot) * r). Moosavi-Dezfooli et al. 2016 (DeepFool), algorithm 2 and
    equations 8 to 11; the 1e-4 (of the pixel range) and the choice among the likeliest classes are of the authors'
    code. The paper leaves the predicted label: an image that is misclassified already is returned as it is.

    Args:
        {{eps_or_none}}
        steps: Most iterations.
        {{norm}}
        overshoot: Share by which the sum of the steps is extended.
        candidates: Number of the likeliest classes of the clean image that are considered, the label among
            them; at least 2.
        {{ball}}

    {{returns}}

    Example:

    >>> tfrobust.attacks.deepfool(steps=20).cost(classes=10)  # the clean image and the last point cost a forward each
    (22, 180)
    """
    ball = minimum_norm.ball(norm, eps, bounds, mask, "deepfool")
    overshoot = float(check_number("overshoot", overshoot, 0))
    return DeepFool(ball, steps, overshoot, check_integer("candidates", candidates, 2), gradients=Exact())
