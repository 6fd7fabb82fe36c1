"""Keeps the worst adversary of each image, with which the figures of an evaluation can be checked."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from tfrobust.attacks import Ball
from tfrobust.classifiers import check_classifier
from tfrobust.evaluation.scoring import Score, Scorer, rounded
from tfrobust.utils.errors import InvalidArgument, invalid
from tfrobust.utils.files import replacing
from tfrobust.utils.text import percent

ROBUST, WRONG_CLEAN = -1, -2  # in `fooled_by`, beside the numbers of attacks
ARRAYS = ("x", "z", "y", "clean_predicted", "predicted", "fooled_by")


@dataclasses.dataclass(eq=False, repr=False)
class Adversaries:
    """Holds for each image the adversary that fooled the classifier, else the one of greatest margin over all attacks.

    Saved adversaries are read from their file when an array is first used.

    Args:
        x: clean images, `(N, H, W, C)` float32.
        z: their worst adversaries, shaped as x; for an image that is wrong without attack, the image itself.
        y: labels, `(N,)`.
        clean_predicted: classes that were predicted for x, `(N,)`; -1 if there was no prediction (NaN).
        predicted: classes that were predicted for z, in the same form.
        fooled_by: index of the attack that fooled the image in the report's flat list of results, `(N,)`; -1 if no
            attack did, -2 if the image was wrong without attack.
        mask: 1 where a pixel may change, `(H, W, C)` or `(1, H, W, C)`, or None.

    Example:

    >>> x, y = np.full((2, 4, 4, 1), 0.5, "float32"), np.array([0, 1])
    >>> found = tfrobust.evaluation.Adversaries(x, x + 0.1, y, y, np.array([1, 1]), np.array([0, -1]))
    >>> found.robust.tolist(), found.confusion(2).tolist()
    ([False, True], [[0, 1], [0, 1]])
    """

    x: np.ndarray
    z: np.ndarray
    y: np.ndarray
    clean_predicted: np.ndarray
    predicted: np.ndarray
    fooled_by: np.ndarray
    mask: np.ndarray | None = dataclasses.field(default_factory=lambda: None)  # no class attribute, see `__getattr__`
    _path: Path = dataclasses.field(init=False)  # the file of arrays that are not read yet

    @property
    def robust(self) -> np.ndarray:
        """The images that are right, clean and under every attack, `(N,)` bool."""
        return self.fooled_by == ROBUST

    def confusion(self, classes: int) -> np.ndarray:
        """Counts the images of a label (row) that are predicted as a class (column) under attack, `(classes, classes)`.

        Images for which there is no prediction (logits that are NaN) are left out.
        """
        counts = np.zeros((classes, classes), int)
        known = self.predicted >= 0
        np.add.at(counts, (self.y[known], self.predicted[known]), 1)
        return counts

    def contradictions(self) -> int:
        """Counts the images for which `fooled_by` contradicts labels and predictions."""
        right_clean, right = self.clean_predicted == self.y, self.predicted == self.y
        expected = np.where(right_clean, np.where(right, ROBUST, 0), WRONG_CLEAN)
        return int(((np.minimum(self.fooled_by, 0) != expected) | (self.y < 0)).sum())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes an .npz file, which is replaced only when it is complete."""
        mask = {} if self.mask is None else {"mask": self.mask}
        with replacing(path) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **{name: getattr(self, name) for name in ARRAYS}, **mask)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Adversaries:
        """Returns the adversaries that `save` wrote; the file is read when an array is first used.

        Reading then raises FileNotFoundError if the file does not exist, ValueError if `save` did not write it.
        """
        unread = cls.__new__(cls)
        unread._path = Path(path)
        return unread

    def __getattr__(self, name: str) -> Any:
        """Reads the file when an array is missing."""
        if name not in (*ARRAYS, "mask") or "_path" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        if not self._path.exists():
            raise FileNotFoundError(
                f"The adversaries of this report are missing: expected the file {self._path} that Report.save wrote "
                "beside it. Received: none"
            )
        try:
            with np.load(self._path, allow_pickle=False) as saved:
                arrays = {array: saved[array] for array in ARRAYS}
                arrays["mask"] = saved.get("mask")
            lengths = {len(arrays[array]) for array in ARRAYS}
            if lengths != {len(arrays["y"])} or lengths == {0} or arrays["x"].ndim != 4:
                raise InvalidArgument("Expected arrays of one length of at least 1.")
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise invalid("adversaries", "a file that Report.save wrote", self._path) from error
        vars(self).update(arrays)
        return arrays[name]


class Verification(NamedTuple):
    """The accuracies of a classifier on saved adversaries.

    Args:
        images: number of images.
        clean_accuracy: share of images that are right, in [0, 1].
        robust_accuracy: share of images that are right, clean and on their adversary, in [0, 1].
        robust_accuracy_8bit: the same with adversaries rounded to 8 bits, as a picture is saved.
        outside: number of images whose adversary lies outside the ball or changes masked pixels; it is discarded.
        out_of_range: number of images with pixels, clean or not, outside the bounds or not finite; also discarded.
        problems: sentences on faults of the file.
    """

    images: int
    clean_accuracy: float
    robust_accuracy: float
    robust_accuracy_8bit: float
    outside: int
    out_of_range: int
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the file has no problems."""
        return not self.problems

    def __str__(self) -> str:
        accuracies = {
            "clean accuracy": self.clean_accuracy,
            "robust accuracy": self.robust_accuracy,
            "  in 8 bits": self.robust_accuracy_8bit,
        }
        lines = [f"{what:17}{percent(share):>8}" for what, share in accuracies.items()]
        checked = f"{self.images} saved adversaries: " + (
            "all in the ball and the pixel range" if self.ok else "not ok"
        )
        return "\n".join([*(f"PROBLEM: {problem}" for problem in self.problems), *lines, checked])


def verify(
    adversaries: Adversaries, classifier: Any, ball: Ball, batch_size: int = 256, draws: int = 1
) -> Verification:
    """Computes predictions for clean images and saved adversaries, and checks the adversaries against the ball.

    Raises:
        ValueError: if the classifier is invalid or does not fit the images.
    """
    found = adversaries
    if isinstance(classifier, keras.Model) or not callable(classifier):
        check_classifier(classifier, reader="verification")
        _check_fits(classifier, found)
    scorer = Scorer(classifier, ball, found.x.shape, draws)
    scores = []
    for first in range(0, len(found.y), batch_size):
        x, z, y = (part[first : first + batch_size] for part in (found.x, found.z, found.y))
        scores.append([scorer(x, y, pixels) for pixels in (x, z, rounded(z, ball.bounds))])
    on_x, on_z, on_8bit = (Score.joined(parts) for parts in zip(*scores, strict=True))
    in_range = on_x.in_range & on_z.in_range
    outside, out_of_range = int((in_range & ~on_z.inside).sum()), int((~in_range).sum())
    not_numbers = int((on_x.in_range & (on_x.predicted < 0) | in_range & (on_z.predicted < 0)).sum())
    withstood = on_z.right | ~(in_range & on_z.inside)  # an adversary that is discarded fools nothing
    right = (on_x.right, on_x.right & withstood, on_x.right & (on_8bit.right | withstood))
    # A classifier with the same predictions for all clean images is the report's, whose adversaries have to match.
    same = (on_x.predicted == found.clean_predicted).all()
    others = int((on_z.predicted != found.predicted).sum()) if same else 0
    contradictions = found.contradictions()
    problems = [
        (contradictions, f"The file contradicts itself in {contradictions} images: `fooled_by` and predictions."),
        (others, f"{others} adversaries are not predicted as the file says, though all clean images are."),
        (outside, f"{outside} adversaries lie outside {ball!r}: an evaluation did not write this file."),
        (out_of_range, f"{out_of_range} images have pixels outside {list(ball.bounds)} or not finite: so is the file."),
        (not_numbers, f"Logits are NaN for {not_numbers} images, which count as wrong: is it the right classifier?"),
    ]
    sentences = tuple(sentence for count, sentence in problems if count)
    clean, adv, in_8bit = (float(part.mean()) for part in right)
    return Verification(len(found.y), clean, adv, in_8bit, outside, out_of_range, sentences)


def _check_fits(classifier: keras.Model, found: Adversaries) -> None:
    shape, classes = classifier.input_shape[1:], int(classifier.output["logits"].shape[-1])
    fits = all(size in (None, own) for size, own in zip(shape, found.x.shape[1:], strict=True))
    if not fits or found.y.max() >= classes:
        expected = f"one of images {found.x.shape[1:]} and at least {found.y.max() + 1} classes, as the report's"
        raise invalid("classifier", expected, f"one of images {shape} and {classes} classes")
