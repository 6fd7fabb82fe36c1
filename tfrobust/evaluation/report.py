"""Holds the results of an evaluation, with all settings that are needed to understand and repeat it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrobust.attacks import ball
from tfrobust.evaluation.adversaries import WRONG_CLEAN, Adversaries, Verification, verify
from tfrobust.utils.errors import InvalidArgument, invalid
from tfrobust.utils.files import replacing
from tfrobust.utils.text import percent

HIDDEN = ("name", "eps", "norm", "bounds", "mask")  # settings of an attack that the table shows elsewhere


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of one attack.

    Args:
        name: name of the attack; a second one of the same name ends in "#2".
        settings: config of the attack, if it has one.
        accuracy: share of all images that are right, clean and under this attack, in [0, 1]; in a list, under all
            attacks before it as well.
        seconds: duration in seconds, with compilation.
        kind: "white box", "black box" (queries alone), "transfer" or "noise".
        attacked: number of images that were attacked.
        fooled: number of attacked images that the attack fooled.
        runs: number of runs, which is restarts times targets.
        parts: the results of a cascade's members; an image counts for the first that fooled it.
        by_run: `accuracy` after each run; empty for a cascade, whose parts hold it.
    """

    name: str
    settings: dict[str, Any]
    accuracy: float
    seconds: float
    kind: str = "white box"
    attacked: int = 0
    fooled: int = 0
    runs: int = 1
    parts: tuple[Result, ...] = ()
    by_run: tuple[float, ...] = ()

    @property
    def flat(self) -> tuple[Result, ...]:
        """The parts, or the result itself if it has none."""
        return self.parts or (self,)

    def after(self, runs: int) -> float:
        """Returns the accuracy after the first runs, or after all runs if it is not known for each."""
        return self.by_run[min(runs, len(self.by_run)) - 1] if self.by_run else self.accuracy


@dataclasses.dataclass(frozen=True)
class Report:
    """The outcome of `evaluate`: robust accuracy is the share of images that no attack fooled.

    Args:
        clean_accuracy: share of images that are right, in [0, 1].
        robust_accuracy: share of images that are right, clean and under every attack, in [0, 1].
        attacks: a `Result` for each attack.
        alarms: sentences that say why the figures may mislead.
        checks: names of the checks that were made; without alarms, only these have found nothing.
        eps, norm, bounds, seed, batch_size, draws: arguments of `evaluate`.
        images: number of images.
        classes: number of classes.
        versions: versions of tensorflow, keras and tfrobust.
        notes: sentences, such as on attacks that a suite left out or replaced.
        robust_accuracy_8bit: share of images that are right, clean and on their worst adversary rounded to 8 bits.
        curves: "eps" and "steps" -> [eps or steps, accuracy] pairs, as probes measured them.
        probe_images: number of images of the curves.
        seconds: duration of the whole evaluation in seconds.
        classifier: SHA-256 of the weights of the Keras model that was evaluated; empty for a callable.
        adversaries: the worst adversary of each image, which is saved in a file next to the report.

    Example:

    >>> report = tfrobust.evaluation.Report(0.9, 0.5, (), (), (), 0.1, "linf", (0.0, 1.0), 10, 2, 0, 10, {})
    >>> print(report)
    clean accuracy    90.00 %   of 10 images in 2 classes
    robust accuracy   50.00 %   linf, eps=0.1, the worst of 0 attacks per image
    checked: nothing
    """

    clean_accuracy: float
    robust_accuracy: float
    attacks: tuple[Result, ...]
    alarms: tuple[str, ...]
    checks: tuple[str, ...]
    eps: float
    norm: str
    bounds: tuple[float, float]
    images: int
    classes: int
    seed: int
    batch_size: int
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    robust_accuracy_8bit: float | None = None
    curves: dict[str, list[list[float]]] = dataclasses.field(default_factory=dict)
    probe_images: int = 0
    seconds: float = 0.0
    classifier: str = ""
    draws: int = 1
    adversaries: Adversaries | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def robust(self) -> np.ndarray | None:
        """The images that count as robust, in the order of the data, `(N,)` bool; None without adversaries."""
        return None if self.adversaries is None else self.adversaries.robust

    @property
    def flat(self) -> tuple[Result, ...]:
        """The results with cascades replaced by their parts, in the order to which `Adversaries.fooled_by` refers."""
        return tuple(part for result in self.attacks for part in result.flat)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JSON and its adversaries next to it as .npz; files are replaced only when complete."""
        saved = dataclasses.asdict(dataclasses.replace(self, adversaries=None))
        saved["adversaries"] = self.adversaries is not None
        if self.adversaries is not None:
            self.adversaries.save(_beside(path))
        with replacing(path) as beside:
            beside.write_text(json.dumps(saved, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def save_html(self, path: str | os.PathLike[str], class_names: Sequence[str] | None = None) -> None:
        """Writes the page of the report, see `evaluation.html.page`; without `class_names` classes have numbers."""
        from tfrobust.evaluation import html

        with replacing(path) as beside:
            beside.write_text(html.page(self, class_names), encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Returns the report that `save` wrote; its adversaries are read when they are first used.

        Raises:
            FileNotFoundError: if the file does not exist.
            ValueError: if the file is not a report.
        """
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            results = tuple(map(_result, saved.pop("attacks")))
            saved.update({key: tuple(saved.get(key, ())) for key in ("alarms", "checks", "bounds", "notes")})
            found = Adversaries.load(_beside(path)) if saved.pop("adversaries", False) else None
            return cls(**saved, attacks=results, adversaries=found)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise invalid("report", "a file that Report.save wrote", path) from error

    def verify(self, classifier: Any, batch_size: int = 256) -> Verification:
        """Checks the adversaries again: ball, mask, pixel range, and the predictions of a classifier.

        The classifier of the report gives the report's figures; another one shows how well the adversaries transfer.

        Args:
            classifier: a Keras model with named outputs, or a callable; see `evaluate`.
            batch_size: images in a batch.

        Raises:
            ValueError: if the report has no adversaries, or the classifier does not fit the images.
            FileNotFoundError: if the file of the adversaries is missing.
        """
        found = self.adversaries
        if found is None:
            raise InvalidArgument(
                "This report has no adversaries: expected one that `tfrobust.evaluate` made. Received: none"
            )
        where = ball(self.norm, self.eps, self.bounds, found.mask)
        checked = verify(found, classifier, where, batch_size, self.draws)
        theirs = (len(found.y), int((found.fooled_by != WRONG_CLEAN).sum()), int(found.robust.sum()))
        ours = (self.images, *(round(self.images * share) for share in (self.clean_accuracy, self.robust_accuracy)))
        if theirs != ours:
            counted = "of {} images {} are right clean and {} robust"
            problem = (
                f"The adversaries are not this report's: {counted.format(*theirs)} there, {counted.format(*ours)} here."
            )
            checked = checked._replace(problems=(problem, *checked.problems))
        return checked

    def __str__(self) -> str:
        data = f"of {self.images} images in {self.classes} classes"
        number = len(self.attacks)
        worst = f"{self.norm}, eps={self.eps:.4g}, the worst of {number} attack{'s' * (number != 1)} per image"
        if self.draws > 1:
            worst += f"; each prediction is a vote of {self.draws} passes"
        lines = [f"ALARM: {alarm}" for alarm in self.alarms] + [f"note: {note}" for note in self.notes]
        lines.append(_line("clean accuracy", self.clean_accuracy, data))
        lines.append(_line("robust accuracy", self.robust_accuracy, worst))
        if self.robust_accuracy_8bit is not None:
            lines.append(
                _line("  in 8 bits", self.robust_accuracy_8bit, "its adversaries rounded as a picture is saved")
            )
        lines += [line for result in self.attacks for line in _lines(result)]
        return "\n".join([*lines, f"checked: {', '.join(self.checks) or 'nothing'}"])


def _line(name: str, accuracy: float, text: str) -> str:
    return f"{name:17}{percent(accuracy):>8}   {text}".rstrip()


def _lines(result: Result, indent: str = "  ") -> list[str]:
    shown = {key: value for key, value in result.settings.items() if key not in HIDDEN and value not in (None, False)}
    settings = "" if result.parts else " ".join(f"{key}={value}" for key, value in shown.items())
    line = _line(indent + result.name, result.accuracy, f"{result.seconds:6.1f} s   {settings}")
    return [line, *(line for part in result.parts for line in _lines(part, f"{indent}  "))]


def _result(saved: dict[str, Any]) -> Result:
    parts, by_run = map(_result, saved.get("parts", ())), saved.get("by_run", ())
    return Result(**{**saved, "parts": tuple(parts), "by_run": tuple(by_run)})


def _beside(path: str | os.PathLike[str]) -> Path:
    """Returns the path of the adversaries of a report: FILE.npz for FILE.json, else FILE.ANY.npz."""
    path = Path(path)
    if path.suffix in (".npz", ".html"):
        raise invalid("name of a report", "FILE.json", path)
    return path.with_suffix(".npz") if path.suffix in (".json", "") else path.with_name(f"{path.name}.npz")
