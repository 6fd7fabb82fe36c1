"""Small searches around an evaluation, for its alarms and its curves: accuracy by eps and steps, noise, zero gradients.

All of them run on the first images of the data. Two graphs serve them: one search, whose radius, steps and loss are
tensors, and one that draws noise. A third repeats the line-up's strongest attack with twice its effort.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from tfrobust import attacks, losses
from tfrobust.attacks import Adversary, Attack, Ball, Evasion, OfEps
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.label_only import labels_only
from tfrobust.evaluation.scoring import judged
from tfrobust.utils import graph as backend
from tfrobust.utils.graph import specs, traced
from tfrobust.utils.random import ImageNoise, stream
from tfrobust.views import Views

Tensor = Any
Classify = Callable[[Tensor], Mapping[str, Any]]

EPS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # of the evaluation's
STEPS = (1, 2, 5, 10, 20, 50, 100)
USUAL = 20  # steps where nothing else is said
DRAWS = 50  # of noise
RUNS = 4  # most runs of the doubled attack, so that it stays cheap; a targeted one's are for the likeliest classes
OF_PROBES, SEARCHED, DRAWN, STARTED, DOUBLED, BESIDE = 7919, 0, 1, 2, 3, 4  # streams of random numbers


class Probes(NamedTuple):
    """What the probes found; accuracies are shares of the first `images` images, in [0, 1].

    Args:
        images: how many were probed; those that are wrong clean count as wrong everywhere.
        by_eps: (eps, accuracy) of PGD-20 on the margin, from (0, clean).
        by_steps: (steps, accuracy) of PGD on the margin at the evaluation's eps, from (0, clean).
        huge: (eps, accuracy) of PGD-20 on margin and cross entropy at a radius that reaches the grey image; None where
            a mask keeps it from that.
        noise: accuracy under random points of the ball.
        white_box: accuracy under PGD-20 on the margin and on cross entropy.
        margin: accuracy under PGD-20 on the margin alone.
        cross_entropy: accuracy under PGD-20 on cross entropy alone.
        zero_ce: images (of those that are right) whose gradient of cross entropy is 0 in every pixel that may change.
        zero_dlr: the same of DLR at a random start, of those that are right there; None for fewer than 3 classes.
        broken: images whose gradient is NaN or infinite in a pixel that may change: that of cross entropy at the image,
            of DLR (of the margin for 2 classes) at a random start, or of the margin at the worst adversary.
        doubled: (accuracy before, after) the strongest gradient attack of the line-up had twice its steps and restarts
            (the first 4 of its runs, of another seed, on the first survivors), over all images; None where nothing
            survived or no such attack was there.
        labels_only: images (of those that are right) around which the classifier tells its class and nothing more.
    """

    images: int
    by_eps: tuple[tuple[float, float], ...]
    by_steps: tuple[tuple[int, float], ...]
    huge: tuple[float, float] | None
    noise: float
    white_box: float
    margin: float
    cross_entropy: float
    zero_ce: int
    zero_dlr: int | None
    doubled: tuple[float, float] | None
    broken: int = 0
    labels_only: int = 0


def probe(
    classifier: Classify,
    ball: Ball,
    images: Images,
    right_clean: np.ndarray,
    survivors: np.ndarray,
    line_up: Sequence[tuple[Any, float]] = (),
    *,
    adversaries: np.ndarray | None = None,
    seed: int = 0,
    count: int = 128,
    batch_size: int = 256,
    draws: int = 1,
) -> Probes | None:
    """Returns what the probes find around an evaluation; None where the first images hold none that is right.

    Args:
        classifier: pixels -> dict with `logits`.
        ball: the evaluation's.
        images: all of them.
        right_clean: which are right without attack, `(N,)` bool.
        survivors: which are right after all attacks, `(N,)` bool.
        line_up: (attack, accuracy that it left) in order; of those that are no `Evasion` nothing is asked.
        adversaries: the worst one of each image, `(N, H, W, C)`; None: their gradients are not looked at.
        seed: the evaluation's.
        count: how many images; 0: no probes.
        batch_size: images in a batch.
        draws: passes that vote on whether a point is right.
    """
    probed = np.flatnonzero(right_clean[:count])
    if not len(probed):
        return None
    bench = _Bench(classifier, ball, images, seed, batch_size, draws)
    total, eps = min(count, len(images.y)), ball.radius

    def left(eps: float, steps: int = USUAL, on: Sequence[bool] = (True,), among: np.ndarray = probed) -> np.ndarray:
        for margin in on:
            among = bench.survivors(among, eps, steps, margin)
        return among

    def share(numbers: np.ndarray) -> float:
        return len(numbers) / total

    most = _grey(ball, images.x)
    radii = [radius for radius in (eps * multiple for multiple in EPS) if radius <= max(eps, most)]
    clean, on_margin, on_cross_entropy = share(probed), left(eps), left(eps, on=(False,))
    by_eps = {radius: share(on_margin if radius == eps else left(radius)) for radius in radii}
    by_steps = {steps: share(on_margin if steps == USUAL else left(eps, steps)) for steps in STEPS}
    huge = None
    if ball.mask is None:
        huge = (max(most, eps), share(left(max(most, eps), on=(True, False))))
        by_eps.setdefault(max(most, eps), huge[1])
    zero_ce, zero_dlr, broken = bench.gradients(probed, adversaries)
    return Probes(
        images=total,
        by_eps=((0.0, clean), *((float(radius), accuracy) for radius, accuracy in by_eps.items())),
        by_steps=((0, clean), *by_steps.items()),
        huge=huge,
        noise=share(bench.after_noise(probed)),
        white_box=share(np.intersect1d(on_margin, on_cross_entropy)),
        margin=share(on_margin),
        cross_entropy=share(on_cross_entropy),
        zero_ce=zero_ce,
        zero_dlr=zero_dlr,
        doubled=bench.doubled(strongest(line_up, bench.classes), np.flatnonzero(survivors), count),
        broken=broken,
        labels_only=bench.labels_only(probed) if zero_ce else 0,
    )


def strongest(line_up: Sequence[tuple[Any, float]], classes: int) -> Evasion | None:
    """Returns the gradient attack that left the lowest accuracy; of equals the cheapest, since it found as much.

    In a cascade every attack after the last one that fooled anything leaves the same.
    """

    def rank(pair: tuple[Evasion, float]) -> tuple[float, int]:
        attack, accuracy = pair
        return accuracy, attack.runs(classes) * sum(attack.cost(classes))

    followers = [
        (attack, accuracy)
        for attack, accuracy in line_up
        if isinstance(attack, Evasion) and attack.kind == "white box" and attack.gradients is not None
    ]
    return min(followers, key=rank)[0] if followers else None


def twice(attack: Evasion) -> Evasion | None:
    """Returns the attack with twice its steps and restarts; None for one that has no such counts."""
    recipe = attack._recipe or {}
    counts = {count: 2 * recipe[count] for count in ("steps", "restarts") if count in recipe}
    if counts and attack.gradients is not None:
        made: Evasion = attacks.get({**recipe, **counts})
        return made.expecting(attack.gradients)  # of the recipe are not: an expectation stays one
    if isinstance(attack, Adversary):  # put together by hand, or an attack of training with a loss
        search = attack.attack
        return attack._around(search._with(steps=2 * search.steps, restarts=2 * search.restarts))
    return None


class _Bench:
    """The graphs of the probes, each traced when first used, for every batch size."""

    def __init__(
        self, classifier: Classify, ball: Ball, images: Images, seed: int, batch_size: int, draws: int = 1
    ) -> None:
        self.classifier = classifier
        self.ball = ball
        self.images = images
        self.batch_size = batch_size
        self.seed = seed
        self.draws = draws
        self.classes = int(classifier(images.x[:1])["logits"].shape[-1])
        number, flag = tf.TensorSpec((), tf.float32), tf.TensorSpec((), tf.bool)
        self._search = traced(self._searched, *specs(images.x), number, number, flag)

    def survivors(self, numbers: np.ndarray, eps: float, steps: int, on_margin: bool) -> np.ndarray:
        """Returns which of the numbered images PGD leaves right."""
        return self._kept(self._search, numbers, self._stream(SEARCHED), eps, steps, on_margin)

    def after_noise(self, numbers: np.ndarray) -> np.ndarray:
        """Returns which of the numbered images are right at every random point of the ball."""
        return self._kept(traced(self._drawn, *specs(self.images.x)), numbers, self._stream(DRAWN))

    def doubled(self, attack: Evasion | None, survivors: np.ndarray, count: int) -> tuple[float, float] | None:
        """Returns the accuracy before and after an attack met up to `count` survivors with twice its effort."""
        more = twice(attack) if attack is not None else None
        alive = attacked = survivors[:count]
        if more is None or not len(attacked):
            return None

        def searched(x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor, run: Tensor) -> Tensor:
            z = more.search(self.classifier, x, y, ImageNoise(seed, numbers), run)
            return self._left(self.ball, x, y, self.ball.project(z, x))

        search = traced(searched, *specs(self.images.x), tf.TensorSpec((), tf.int32))
        for run in range(min(RUNS, more.runs(self.classes))):
            alive = self._kept(search, alive, self._stream(DOUBLED, run), run)
        before = len(survivors) / len(self.images.y)
        return before, before * len(alive) / len(attacked)

    def gradients(self, numbers: np.ndarray, adversaries: np.ndarray | None) -> tuple[int, int | None, int]:
        """Returns of how many numbered images gradients are of no use.

        Args:
            numbers: of the images.
            adversaries: see `probe`.

        Returns:
            For how many that of cross entropy is 0 everywhere; that of DLR; and any is NaN or infinite somewhere.
        """
        flat_ce = flat_dlr = broken = 0
        start_loss = losses.dlr if self.classes >= 3 else losses.margin
        for x, y, packed in self.images.batches(numbers, self.batch_size):
            pixels, labels = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
            noise = ImageNoise(self._stream(STARTED), ops.convert_to_tensor(packed, "int32"))
            found = [
                self._looked_at(losses.cross_entropy, pixels, labels),
                self._looked_at(start_loss, self.ball.start(pixels, noise), labels),
            ]
            flat_ce, flat_dlr = flat_ce + int(found[0][0].sum()), flat_dlr + int(found[1][0].sum())
            if adversaries is not None:
                found.append(self._looked_at(losses.margin, ops.convert_to_tensor(adversaries[packed]), labels))
            broken += int(np.any([unsound for _, unsound in found], axis=0).sum())
        return flat_ce, flat_dlr if self.classes >= 3 else None, broken

    def labels_only(self, numbers: np.ndarray) -> int:
        """Returns around how many of the numbered images the classifier tells its class and nothing more."""
        count = 0
        for x, y, packed in self.images.batches(numbers, self.batch_size):
            noise = ImageNoise(self._stream(BESIDE), ops.convert_to_tensor(packed, "int32"))
            pixels, labels = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
            found = labels_only(self.classifier, self.ball, pixels, labels, noise)
            count += int(ops.sum(ops.cast(found, "int32")))
        return count

    def _looked_at(
        self, loss: Callable[[Tensor, Tensor], Tensor], z: Tensor, y: Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns where the gradient by the pixels that may change is 0 throughout, and where it is not finite."""

        def seen(z: Tensor) -> tuple[Tensor, Tensor]:
            logits = self._logits(z)
            return loss(logits, y), losses.correct(logits, y)

        _, right, gradient = backend.value_and_raw_gradient(seen, z)
        gradient = self.ball.masked(gradient)
        # Where the start fools already nothing is to be climbed, and the DLR of a label that comes third is 1, flat.
        flat = ops.cast(ops.all(gradient == 0, axis=(1, 2, 3)), "float32") * right
        return np.asarray(flat) > 0, np.asarray(~ops.all(ops.isfinite(gradient), axis=(1, 2, 3)))

    def _searched(
        self, x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor, eps: Tensor, steps: Tensor, on_margin: Tensor
    ) -> Tensor:
        """Returns which are right after PGD whose radius, steps and loss are tensors: one graph for every point."""
        ball = copy.copy(self.ball)
        ball.eps = eps
        rule = ball.steepest(OfEps(1.0))
        rule.size = OfEps(2.5 / steps)  # as `pgd` has it
        search = Attack(ball, rule, 1, start="uniform", keep="fooling")._with(steps=ops.cast(steps, "int32"))

        def loss(views: Views) -> Tensor:
            logits = views.adv["logits"]
            return ops.where(on_margin, losses.margin(logits, y), losses.cross_entropy(logits, y))

        z = search.maximizing(loss).search(self.classifier, x, y, ImageNoise(seed, numbers))
        return self._left(ball, x, y, z)

    def _drawn(self, x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor) -> Tensor:
        noise = ImageNoise(seed, numbers)

        def draw(k: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
            return k + 1, ops.logical_and(right, self._left(self.ball, x, y, self.ball.start(x, noise.fold(k))))

        def left(k: Tensor, right: Tensor) -> Tensor:
            return ops.logical_and(k < DRAWS, ops.any(right))

        return ops.while_loop(left, draw, (0, ops.ones_like(y, dtype="bool")))[1]

    def _left(self, ball: Ball, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Returns which images an attack leaves right, by the verdict of the evaluation itself."""
        return ~judged(self.classifier, ball, x, y, z, self.draws).fooled

    def _logits(self, z: Tensor) -> Tensor:
        return ops.cast(self.classifier(z)["logits"], "float32")

    def _stream(self, *counters: int) -> Tensor:
        return stream(self.seed, OF_PROBES, *counters)

    def _kept(self, search: Callable[..., Any], numbers: np.ndarray, seed: Tensor, *more: Any) -> np.ndarray:
        kept = [numbers[:0]]
        for x, y, packed in self.images.batches(numbers, self.batch_size):
            kept.append(packed[np.asarray(search(x, y, packed, seed, *more))])
        return np.concatenate(kept)


def _grey(ball: Ball, x: np.ndarray) -> float:
    """Returns the radius at which every image reaches the grey one: nothing is left that tells them apart."""
    half = 0.5 * (ball.bounds[1] - ball.bounds[0])
    return half * float(np.sqrt(np.prod(x.shape[1:]))) if type(ball) is attacks.L2 else half
