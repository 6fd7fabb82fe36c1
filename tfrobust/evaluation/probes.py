"""Measures the accuracies and gradients that alarms and curves need, on the first images of the data.

One graph searches with a radius, steps and a loss that are tensors, one draws noise, and a third repeats the strongest
attack of the evaluation with twice its steps and restarts. A fourth asks by queries, if the evaluation did not.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from tfrobust import attacks, losses
from tfrobust.attacks import Attack, Ball, GradientAttack, RelativeStepSize
from tfrobust.evaluation.attack_list import arguments_of
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.label_only import labels_only
from tfrobust.evaluation.runner import Batch, open_after_runs
from tfrobust.evaluation.scoring import score
from tfrobust.utils import graph as backend
from tfrobust.utils.graph import specs, traced
from tfrobust.utils.random import ImageNoise, stream
from tfrobust.utils.types import Classify, Tensor
from tfrobust.views import Views

EPS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # multiples of the evaluation's radius
STEPS = (1, 2, 5, 10, 20, 50, 100)
USUAL = 20  # steps of a probe that does not vary them
DRAWS = 50  # random points of the ball for each image
RUNS = 4  # greatest number of runs of the doubled attack; a targeted one begins with the likeliest classes
QUERIES = 300  # of Square, for each image
OF_PROBES, SEARCHED, DRAWN, STARTED, DOUBLED, BESIDE, QUERIED = 7919, 0, 1, 2, 3, 4, 5  # streams of random numbers


class Probes(NamedTuple):
    """The results of the probes; accuracies are shares of the first `images` images, in [0, 1]."""

    images: int  # those that are wrong clean count as wrong everywhere
    by_eps: tuple[tuple[float, float], ...]  # (eps, accuracy) of PGD-20 on the margin, from (0, clean)
    by_steps: tuple[tuple[int, float], ...]  # (steps, accuracy) of PGD on the margin at the evaluation's eps
    # (eps, accuracy) of PGD-20 on margin and cross entropy at a radius that reaches the grey image; None under a mask.
    huge: tuple[float, float] | None
    noise: float  # accuracy under random points of the ball
    white_box: float  # accuracy under PGD-20 on the margin and on cross entropy
    margin: float  # accuracy under PGD-20 on the margin alone
    cross_entropy: float  # accuracy under PGD-20 on cross entropy alone
    zero_ce: int  # number of right images whose gradient of cross entropy is 0 in every pixel that may change
    zero_dlr: int | None  # the same for DLR at a random start that is right; None for fewer than 3 classes
    # (accuracy before, after) the strongest gradient attack of the evaluation ran with twice its steps and restarts
    # (its first 4 runs, with another seed, on the first survivors), over all images; None without such an attack or
    # survivors.
    doubled: tuple[float, float] | None
    # Number of images whose gradient is NaN or infinite in a pixel that may change: of cross entropy at the image, of
    # DLR (of the margin for 2 classes) at a random start, or of the margin at the worst adversary.
    broken: int = 0
    labels_only: int = 0  # number of right images around which the logits carry only the class
    # (images, how many of them a short Square fooled), the first survivors of an evaluation by gradients alone; None
    # without survivors, in the L1 ball, and where the evaluation has an attack by queries or none by gradients.
    queried: tuple[int, int] | None = None

    @property
    def curves(self) -> dict[str, list[list[float]]]:
        """The accuracies by eps and by steps, as a report holds them."""
        curves = {"eps": self.by_eps, "steps": self.by_steps}
        return {name: [list(map(float, point)) for point in points] for name, points in curves.items()}


def probe(
    searches: Searches,
    right_clean: np.ndarray,
    survivors: np.ndarray,
    attacked: Sequence[tuple[Any, float]] = (),
    adversaries: np.ndarray | None = None,
    count: int = 128,
) -> Probes | None:
    """Returns the results of the probes on the first `count` images; None if none of them is right.

    Args:
        searches: the searches of the probes.
        right_clean: which images are right without attack, `(N,)` bool.
        survivors: which images are right after all attacks, `(N,)` bool.
        attacked: (attack, accuracy that it left) in order; those that are not an `Attack` are ignored.
        adversaries: the worst adversary of each image, `(N, H, W, C)`; None: their gradients are not checked.
        count: number of images; 0: none.
    """
    probed = np.flatnonzero(right_clean[:count])
    if not len(probed):
        return None
    images, ball = searches.images, searches.ball
    total, eps = min(count, len(images.y)), ball.radius

    def left(eps: float, steps: int = USUAL, on_margin: bool = True, among: np.ndarray = probed) -> np.ndarray:
        return searches.survivors(among, eps, steps, on_margin)

    def share(numbers: np.ndarray) -> float:
        return len(numbers) / total

    most = max(_grey(ball, images.x), eps)
    radii = [radius for radius in (eps * multiple for multiple in EPS) if radius <= most]
    clean, on_margin, on_cross_entropy = share(probed), left(eps), left(eps, on_margin=False)
    by_eps = {radius: share(on_margin if radius == eps else left(radius)) for radius in radii}
    by_steps = {steps: share(on_margin if steps == USUAL else left(eps, steps)) for steps in STEPS}
    huge = None
    if ball.mask is None:
        huge = (most, share(left(most, on_margin=False, among=left(most))))
        by_eps.setdefault(most, huge[1])
    zero_ce, zero_dlr, broken = searches.gradients(probed, adversaries)
    robust = np.flatnonzero(survivors)
    return Probes(
        images=total,
        by_eps=((0.0, clean), *((float(radius), accuracy) for radius, accuracy in by_eps.items())),
        by_steps=((0, clean), *by_steps.items()),
        huge=huge,
        noise=share(searches.after_noise(probed)),
        white_box=share(np.intersect1d(on_margin, on_cross_entropy)),
        margin=share(on_margin),
        cross_entropy=share(on_cross_entropy),
        zero_ce=zero_ce,
        zero_dlr=zero_dlr,
        doubled=searches.doubled(strongest(attacked, searches.classes), robust, count),
        broken=broken,
        labels_only=searches.labels_only(probed) if zero_ce else 0,
        queried=searches.queried(robust[:count]) if gradients_alone(attacked) else None,
    )


def gradients_alone(attacked: Sequence[tuple[Any, float]]) -> bool:
    """Returns whether some of the attacks follow gradients and none of them makes queries."""
    kinds = {getattr(attack, "kind", "white box") for attack, _ in attacked}
    return "white box" in kinds and "black box" not in kinds


def strongest(attacked: Sequence[tuple[Any, float]], classes: int) -> Attack | None:
    """Returns the gradient attack that left the lowest accuracy, and among equals the cheapest.

    In a cascade all attacks after the last one that fooled an image leave the same accuracy.
    """

    def rank(pair: tuple[Attack, float]) -> tuple[float, int]:
        attack, accuracy = pair
        return accuracy, attack.runs(classes) * sum(attack.cost(classes))

    by_gradients = [
        (attack, accuracy)
        for attack, accuracy in attacked
        if isinstance(attack, Attack) and attack.kind == "white box" and attack.gradients is not None
    ]
    return min(by_gradients, key=rank)[0] if by_gradients else None


def twice(attack: Attack) -> Attack | None:
    """Returns the attack with twice its steps and restarts; None for an attack that has no such counts."""
    recipe = attack._recipe or {}
    counts = {count: 2 * recipe[count] for count in ("steps", "restarts") if count in recipe}
    if counts and attack.gradients is not None:
        doubled: Attack = attacks.get({**recipe, **counts})
        if isinstance(attack, GradientAttack):  # the recipe names neither an expectation nor the targets of a loss
            return doubled._with(gradients=attack.gradients, targets=attack.targets)
        return doubled.expecting(attack.gradients)
    if isinstance(attack, GradientAttack):  # one that no factory made
        return attack._with(steps=2 * attack.steps, restarts=2 * attack.restarts)
    return None


@dataclasses.dataclass
class Searches:
    """The searches of the probes, as graphs for all batch sizes, with arguments of `evaluate`."""

    classifier: Classify
    ball: Ball
    images: Images
    seed: int = 0
    batch_size: int = 256
    draws: int = 1

    @functools.cached_property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.classifier(self.images.x[:1])["logits"].shape[-1])

    @functools.cached_property
    def _search(self) -> Callable[..., Any]:
        number, flag = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.bool)
        return traced(self._searched, *specs(self.images.x), number, number, flag)

    @functools.cached_property
    def _left_at(self) -> Callable[..., Any]:
        pixels, labels = specs(self.images.x)[:2]
        return traced(lambda x, y, z: self._left(self.ball, x, y, self.ball.project(z, x)), pixels, labels, pixels)

    def survivors(self, numbers: np.ndarray, eps: float, steps: int, on_margin: bool) -> np.ndarray:
        """Returns which of the numbered images PGD leaves right."""
        seed = self._stream(SEARCHED)
        return self._left_by(lambda batch: self._search(*batch[:3], seed, eps, steps, on_margin), numbers)

    def after_noise(self, numbers: np.ndarray) -> np.ndarray:
        """Returns which of the numbered images are right at every random point of the ball."""
        draw = traced(self._drawn, *specs(self.images.x))
        return self._left_by(lambda batch: draw(*batch[:3], self._stream(DRAWN)), numbers)

    def doubled(self, attack: Attack | None, survivors: np.ndarray, count: int) -> tuple[float, float] | None:
        """Returns the accuracy before and after an attack with twice its effort on up to `count` survivors."""
        more = twice(attack) if attack is not None else None
        attacked = survivors[:count]
        if more is None or not len(attacked):
            return None
        alive = self._after(more, attacked, DOUBLED, runs=min(RUNS, more.runs(self.classes)))
        before = len(survivors) / len(self.images.y)
        return before, before * len(alive) / len(attacked)

    def queried(self, numbers: np.ndarray) -> tuple[int, int] | None:
        """Returns how many images are given, and how many of them a short Square fools; None if there is none."""
        if not len(numbers) or isinstance(self.ball, attacks.L1):  # for which Square is not defined
            return None
        short = attacks.square(queries=QUERIES, **arguments_of(self.ball))
        return len(numbers), len(numbers) - len(self._after(short, numbers, QUERIED))

    def gradients(self, numbers: np.ndarray, adversaries: np.ndarray | None) -> tuple[int, int | None, int]:
        """Returns `zero_ce`, `zero_dlr` and `broken` of `Probes`, counted on the numbered images."""
        flat_ce = flat_dlr = broken = 0
        seed = self._stream(STARTED)
        for x, y, packed in self.images.batches(numbers, self.batch_size):
            noise = ImageNoise(seed, ops.convert_to_tensor(packed, "int32"))
            start = self.ball.start(ops.convert_to_tensor(x), noise)
            found = [self._gradient(0, x, y), self._gradient(1, start, y)]
            flat_ce, flat_dlr = flat_ce + int(np.sum(found[0][0])), flat_dlr + int(np.sum(found[1][0]))
            if adversaries is not None:
                found.append(self._gradient(2, adversaries[packed], y))
            broken += int(np.any([unsound for _, unsound in found], axis=0).sum())
        return flat_ce, flat_dlr if self.classes >= 3 else None, broken

    def labels_only(self, numbers: np.ndarray) -> int:
        """Counts the numbered images around which the logits carry only the class."""

        def found(x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor) -> Tensor:
            return labels_only(self.classifier, self.ball, x, y, ImageNoise(seed, numbers))

        count, seed = traced(found, *specs(self.images.x)), self._stream(BESIDE)
        return sum(int(np.sum(count(*batch, seed))) for batch in self.images.batches(numbers, self.batch_size))

    @functools.cached_property
    def _gradient(self) -> Callable[..., Any]:
        # A graph, because a Keras model outside of one holds the outputs of all its layers until it returns.
        pixels, labels = specs(self.images.x)[:2]
        return traced(self._gradient_at, tf.TensorSpec((), tf.int32), pixels, labels)

    def _gradient_at(self, loss: Tensor, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Returns for which images the gradient is 0 in all pixels that may change, and for which it is not finite.

        The loss is 0 for cross entropy, 1 for DLR (the margin for 2 classes), 2 for the margin.
        """
        known = (losses.cross_entropy, losses.dlr if self.classes >= 3 else losses.margin, losses.margin)

        def seen(z: Tensor) -> tuple[Tensor, Tensor]:
            logits = self._logits(z)
            value = ops.switch(loss, [functools.partial(each, logits, y) for each in known])
            return value, losses.correct(logits, y)

        _, right, gradient = backend.value_and_raw_gradient(seen, z)
        gradient, axes = self.ball.masked(gradient), (1, 2, 3)
        # An image that is fooled at the start needs no gradient, and the DLR of a label that is third is constant, 1.
        return ops.all(gradient == 0, axis=axes) & (right == 1), ~ops.all(ops.isfinite(gradient), axis=axes)

    def _searched(
        self, x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor, eps: Tensor, steps: Tensor, on_margin: Tensor
    ) -> Tensor:
        """Returns which images PGD leaves right; one graph serves all radii, steps and losses."""
        ball = copy.copy(self.ball)
        ball.eps = eps
        rule = ball.steepest(RelativeStepSize(1.0))
        rule.size = RelativeStepSize(2.5 / steps)  # as `pgd` has it

        def loss(views: Views) -> Tensor:
            logits = views.adv["logits"]
            return ops.where(on_margin, losses.margin(logits, y), losses.cross_entropy(logits, y))

        search = GradientAttack(ball, rule, 1, loss=loss, start="uniform", early_stop=True)
        z = search._with(steps=ops.cast(steps, "int32")).search(self.classifier, x, y, ImageNoise(seed, numbers))
        return self._left(ball, x, y, z)

    def _drawn(self, x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor) -> Tensor:
        noise = ImageNoise(seed, numbers)

        def draw(k: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
            return k + 1, ops.logical_and(right, self._left(self.ball, x, y, self.ball.start(x, noise.fold(k))))

        def left(k: Tensor, right: Tensor) -> Tensor:
            return ops.logical_and(k < DRAWS, ops.any(right))

        return ops.while_loop(left, draw, (0, ops.ones_like(y, dtype="bool")))[1]

    def _left(self, ball: Ball, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Returns which images an attack leaves right, by the same rule as the evaluation."""
        return ~score(self.classifier, ball, x, y, z, self.draws).fooled

    def _after(self, attack: Attack, numbers: np.ndarray, counter: int, runs: int = 1) -> np.ndarray:
        """Returns the numbers of the images that the runs of an attack leave right."""

        def searched(x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor, run: Tensor) -> Tensor:
            return attack.search(self.classifier, x, y, ImageNoise(seed, numbers), run)

        search = traced(searched, *specs(self.images.x), tf.TensorSpec((), tf.int32))

        def left(batch: Batch) -> Tensor:
            z = search(*batch[:3], self._stream(counter, batch.run), batch.run)
            return self._left_at(batch.x, batch.y, z)

        return self._left_by(left, numbers, runs)

    def _logits(self, z: Tensor) -> Tensor:
        return ops.cast(self.classifier(z)["logits"], "float32")

    def _stream(self, *counters: int) -> Tensor:
        return stream(self.seed, OF_PROBES, *counters)

    def _left_by(self, search: Callable[[Batch], Any], numbers: np.ndarray, runs: int = 1) -> np.ndarray:
        """Returns the numbers of the images that all runs of a search leave right."""

        def prepare(batch: Batch) -> Callable[[], Any]:
            return functools.partial(search, batch)

        *_, left = open_after_runs(
            self.images, numbers, self.batch_size, prepare, lambda batch, right: np.asarray(right), runs=runs
        )
        return left


def _grey(ball: Ball, x: np.ndarray) -> float:
    """Returns the radius at which the grey image lies in the ball around every image."""
    half = 0.5 * (ball.bounds[1] - ball.bounds[0])
    return half * float(np.sqrt(np.prod(x.shape[1:]))) if type(ball) is attacks.L2 else half
