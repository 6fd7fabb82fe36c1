"""The classifier under evaluation: what is right, and the worst adversary of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tfrobust.attacks import Attack, Ball, OfEps
from tfrobust.attacks.view_losses import margin
from tfrobust.evaluation.adversaries import ROBUST, WRONG_CLEAN, Adversaries
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.scoring import Referee, returned, rounded
from tfrobust.utils.graph import specs, traced

Tensor = Any
Classify = Callable[[Tensor], Mapping[str, Any]]

SHARPENING = 20  # steps


class Outcome(NamedTuple):
    """What one attack did to one batch.

    Args:
        fooled: which images, `(B,)` bool.
        outside: for how many it returned what is not finite or outside the ball, the bounds or the mask: discarded.
        not_numbers: for how many of its adversaries there was no prediction: logits that are NaN, or all -inf.
        seconds: it took.
    """

    fooled: np.ndarray
    outside: int
    not_numbers: int
    seconds: float = 0.0


class Judge:
    """Decides which images an attack fooled, and keeps the worst adversary of each.

    Args:
        classifier: under evaluation.
        ball: where adversaries may lie.
        images: of the evaluation.
        batch_size: images in a batch.
        draws: passes that vote on each verdict.
    """

    def __init__(self, classifier: Classify, ball: Ball, images: Images, batch_size: int, draws: int = 1) -> None:
        self.images = images
        self.batch_size = batch_size
        self.referee = Referee(classifier, ball, images.x.shape, draws)
        self.classifier = classifier
        self.not_numbers: dict[str, int] = {}
        self.outside: dict[str, int] = {}
        everything = np.arange(len(images.y))
        clean = [self.referee(x, y, x) for x, y, _ in images.batches(everything, batch_size)]
        self.logits = np.concatenate([verdict.logits for verdict in clean])
        self._count(self.not_numbers, "clean", sum(int((verdict.predicted < 0).sum()) for verdict in clean))
        self.margin = np.concatenate([verdict.margin for verdict in clean])
        self.start_from(np.concatenate([verdict.predicted for verdict in clean]))
        self.z = images.x.copy()

    def start_from(self, clean_predicted: np.ndarray) -> None:
        """Takes these classes as those that were predicted without attack."""
        self.clean_predicted = clean_predicted
        self.predicted = clean_predicted.copy()
        self.right_clean = clean_predicted == self.images.y
        self.fooled_by = np.where(self.right_clean, ROBUST, WRONG_CLEAN).astype("int32")

    def decide(self, name: str, place: int, numbers: np.ndarray, x_adv: Any) -> tuple[Outcome, np.ndarray]:
        """Returns what an attack did to a batch, and the numbers of the images whose worst adversary is now its.

        Args:
            name: of the attack.
            place: its number.
            numbers: of the images in the batch.
            x_adv: what it returned.

        Raises:
            ValueError: for a wrong shape.
        """
        x, y = self.images.x[numbers], self.images.y[numbers]
        z = returned(name, x_adv, x)
        verdict = self.referee(x, y, z)
        # An image that was given back as it was has its verdict already: asked again, a random classifier would lose it
        # to chance in the end.
        moved = (z != x).any(axis=(1, 2, 3))
        fooled = verdict.fooled & moved
        worse = verdict.allowed & (fooled | (verdict.margin > self.margin[numbers]))
        rows = np.flatnonzero(worse & (self.fooled_by[numbers] == ROBUST))
        changed = numbers[rows]
        self.z[changed], self.margin[changed], self.predicted[changed] = (
            z[rows],
            verdict.margin[rows],
            verdict.predicted[rows],
        )
        self.fooled_by[numbers[np.intersect1d(rows, np.flatnonzero(fooled))]] = place
        not_numbers = int((verdict.allowed & (verdict.predicted < 0)).sum())
        return Outcome(fooled, int((~verdict.allowed).sum()), not_numbers), changed

    def count(self, name: str, outcome: Outcome) -> None:
        """Adds up what alarms are raised for."""
        self._count(self.not_numbers, name, outcome.not_numbers)
        self._count(self.outside, name, outcome.outside)

    def sharpen(self) -> None:
        """Makes adversaries survive rounding to 8 bits, where some steps on the margin are enough for that.

        A search that ends with its first success leaves an image at the border, and rounding throws it back: without
        this, accuracy in 8 bits would tell where searches end rather than what the classifier withstands.
        """
        fooled = np.flatnonzero(self.fooled_by >= 0)
        weak = fooled[self._right_in_8bit(fooled)]
        if not len(weak):
            return
        pixels, labels = specs(self.images.x)[:2]
        search = traced(self._sharpened, pixels, labels, pixels)
        for x, y, numbers in self.images.batches(weak, self.batch_size):
            z = np.asarray(search(x, y, self.z[numbers]))
            verdict = self.referee(x, y, z)
            sharp = verdict.fooled & ~self.referee(x, y, self._rounded(z)).right
            self.z[numbers[sharp]] = z[sharp]
            self.margin[numbers[sharp]] = verdict.margin[sharp]
            self.predicted[numbers[sharp]] = verdict.predicted[sharp]

    def accuracy_in_8bit(self) -> float:
        """Returns the share of images that are right, clean and at their worst adversary rounded to 8 bits."""
        fooled = np.flatnonzero(self.fooled_by >= 0)  # what fools nobody may leave the ball when it is rounded
        return (int((self.fooled_by == ROBUST).sum()) + int(self._right_in_8bit(fooled).sum())) / len(self.images.y)

    def adversaries(self) -> Adversaries:
        """Returns the worst adversary of each image."""
        x, y = self.images
        return Adversaries(x, self.z, y, self.clean_predicted, self.predicted, self.fooled_by, self.referee.ball.mask)

    def _right_in_8bit(self, numbers: np.ndarray) -> np.ndarray:
        """Returns which of the numbered images are right at their worst adversary rounded to 8 bits."""
        batches = self.images.batches(numbers, self.batch_size)
        right = [self.referee(x, y, self._rounded(self.z[packed])).right for x, y, packed in batches]
        return np.concatenate([np.zeros(0, bool), *right])

    def _rounded(self, z: np.ndarray) -> np.ndarray:
        return rounded(z, self.referee.ball.bounds)

    def _sharpened(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        ball = self.referee.ball
        step = ball.steepest(OfEps(2.5 / SHARPENING))
        search = Attack(ball, step, SHARPENING, start=lambda ball, x, noise: z, keep="best")
        return search.maximizing(margin).search(self.referee.classify, x, y)

    @staticmethod
    def _count(counts: dict[str, int], name: str, more: int) -> None:
        if more:
            counts[name] = counts.get(name, 0) + more
