"""Records which images are right, and the worst adversary of each."""

import functools
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tfrobust.attacks import Ball, GradientAttack, RelativeStepSize
from tfrobust.attacks.view_losses import margin
from tfrobust.evaluation.adversaries import ROBUST, WRONG_CLEAN, Adversaries
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.scoring import Score, Scorer, check_result, rounded
from tfrobust.utils.graph import specs, traced
from tfrobust.utils.spilled import Folder, release, taken
from tfrobust.utils.types import Classify, Tensor

SHARPENING = 20  # steps


class Outcome(NamedTuple):
    """The result of one run of an attack on one batch."""

    fooled: np.ndarray  # which images it fooled, `(B,)` bool
    outside: np.ndarray  # which results were discarded: not finite, or outside the ball, the bounds or the mask
    not_numbers: np.ndarray  # which adversaries have no prediction, because their logits are NaN or all -inf
    seconds: float = 0.0


class Record:
    """Decides which images an attack fooled, and keeps the worst adversary of each image; see `evaluate`.

    The images may be a part of the data; `numbers` are their numbers in the whole, on which random numbers depend.
    Many adversaries are kept in a temporary file of the folder.
    """

    def __init__(
        self,
        classifier: Classify,
        ball: Ball,
        images: Images,
        batch_size: int,
        draws: int = 1,
        numbers: np.ndarray | None = None,
        folder: Folder = None,
    ) -> None:
        self.images = images
        self.numbers = np.arange(len(images.y)) if numbers is None else numbers
        self.batch_size = batch_size
        self.scorer = Scorer(classifier, ball, images.x.shape, draws)
        self.classifier = classifier
        self.not_numbers: Counter[str] = Counter()
        self.outside: Counter[str] = Counter()
        everything = np.arange(len(images.y))
        clean = Score.joined(self.scorer(x, y, x) for x, y, _ in images.batches(everything, batch_size))
        self.logits, self.margin, predicted, *_ = clean
        self.not_numbers["clean"] = int((predicted < 0).sum())
        self.start_from(predicted)
        self.z = taken(images.x, everything, folder)

    def start_from(self, clean_predicted: np.ndarray) -> None:
        """Takes these classes as the predictions for the clean images."""
        self.clean_predicted = clean_predicted
        self.predicted = clean_predicted.copy()
        self.right_clean = clean_predicted == self.images.y
        self.fooled_by = np.where(self.right_clean, ROBUST, WRONG_CLEAN).astype("int32")

    def decide(self, name: str, index: int, numbers: np.ndarray, x_adv: Any) -> tuple[Outcome, np.ndarray]:
        """Returns the outcome of a batch of numbered images, and the numbers of those with a new worst adversary.

        Raises:
            ValueError: if the pixels `x_adv` that the attack returned are not shaped as the images.
        """
        x, y = self.images.x[numbers], self.images.y[numbers]
        z = check_result(name, x_adv, x)
        score = self.scorer(x, y, z)
        # An image that is returned unchanged keeps its first prediction: with another draw for each attack, a random
        # classifier would be wrong on it by chance in the end.
        moved = (z != x).any(axis=(1, 2, 3))
        fooled = score.fooled & moved
        worse = score.allowed & (fooled | (score.margin > self.margin[numbers])) & (self.fooled_by[numbers] == ROBUST)
        self._keep(numbers, worse, z, score)
        self.fooled_by[numbers[worse & fooled]] = index
        return Outcome(fooled, ~score.allowed, score.allowed & (score.predicted < 0)), numbers[worse]

    def count(self, name: str, outcome: Outcome) -> None:
        """Adds the counts of an outcome to those that alarms read."""
        self.not_numbers[name] += int(outcome.not_numbers.sum())
        self.outside[name] += int(outcome.outside.sum())

    def sharpen(self, classify: Classify) -> None:
        """Moves adversaries further so that they survive rounding to 8 bits, if some steps on the margin achieve that.

        A search that stops at its first success ends next to the decision boundary, and rounding undoes it. Without
        this step, the accuracy in 8 bits would measure where searches stop and not how robust the classifier is.
        `classify` has the values of the classifier, and the gradients that the steps follow.
        """
        fooled = np.flatnonzero(self.fooled_by >= 0)
        weak = fooled[self._right_in_8bit(fooled)]
        if not len(weak):
            return
        pixels, labels = specs(self.images.x)[:2]
        search = traced(functools.partial(self._sharpened, classify), pixels, labels, pixels)
        for x, y, found, numbers in self._batches(weak):
            z = np.asarray(search(x, y, found))
            score = self.scorer(x, y, z)
            self._keep(numbers, score.fooled & ~self.scorer(x, y, self._rounded(z)).right, z, score)

    def accuracy_in_8bit(self) -> float:
        """Returns the share of images that are right, clean and at their worst adversary rounded to 8 bits."""
        fooled = np.flatnonzero(self.fooled_by >= 0)  # others may leave the ball when they are rounded
        return (int((self.fooled_by == ROBUST).sum()) + int(self._right_in_8bit(fooled).sum())) / len(self.images.y)

    def adversaries(self) -> Adversaries:
        """Returns the worst adversary of each image."""
        x, y = self.images
        return Adversaries(x, self.z, y, self.clean_predicted, self.predicted, self.fooled_by, self.scorer.ball.mask)

    def _keep(self, numbers: np.ndarray, rows: np.ndarray, z: np.ndarray, score: Score) -> None:
        """Takes some rows of a batch as the worst adversaries of their images."""
        kept = numbers[rows]
        self.z[kept], self.margin[kept], self.predicted[kept] = z[rows], score.margin[rows], score.predicted[rows]
        release(self.z)

    def _batches(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        """Yields (pixels, labels, worst adversaries, numbers) of the numbered images."""
        for x, y, packed in self.images.batches(numbers, self.batch_size):
            yield x, y, self.z[packed], packed
            release(self.z)

    def _right_in_8bit(self, numbers: np.ndarray) -> np.ndarray:
        """Returns which of the numbered images are right at their worst adversary rounded to 8 bits."""
        right = [self.scorer(x, y, self._rounded(z)).right for x, y, z, _ in self._batches(numbers)]
        return np.concatenate([np.zeros(0, bool), *right])

    def _rounded(self, z: np.ndarray) -> np.ndarray:
        return rounded(z, self.scorer.ball.bounds)

    def _sharpened(self, classify: Classify, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        ball = self.scorer.ball
        step = ball.steepest(RelativeStepSize(2.5 / SHARPENING))
        search = GradientAttack(ball, step, SHARPENING, loss=margin, start=lambda ball, x, noise: z, keep="best")
        return search.search(classify, x, y)
