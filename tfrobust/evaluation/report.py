"""What an evaluation found, with everything one needs to judge and to repeat it."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tfrobust._files import replacing

HIDDEN = ("name", "eps", "norm", "bounds")  # of an attack's settings: they stand elsewhere in the table


@dataclasses.dataclass(frozen=True)
class Result:
    """What one attack left.

    Args:
        name: of the attack; a second one of the same name ends in "#2".
        settings: its config, where it has one.
        accuracy: share of all images that are right, clean and under this attack, in [0, 1].
        seconds: it took, compiling included.
    """

    name: str
    settings: dict[str, Any]
    accuracy: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Report:
    """The outcome of `evaluate`: robust accuracy is the share of images that no attack fooled.

    Args:
        clean_accuracy: in [0, 1].
        robust_accuracy: in [0, 1], worst case per image over clean prediction and all attacks.
        attacks: a `Result` for each attack.
        alarms: sentences that say why the figures may mislead.
        checks: names of the checks that were made; no alarm means no more than that these found nothing.
        eps: radius as a fraction of the pixel range.
        norm: of the ball.
        bounds: least and greatest pixel value.
        images: number of images.
        classes: number of classes.
        seed: of the random starts.
        batch_size: images in a batch.
        versions: of tensorflow, keras and tfrobust.
        robust: `(N,)` bool, the images that count as robust, in the order of the data; not saved (None when loaded).

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
    robust: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JSON, whole or not at all."""
        saved = dataclasses.asdict(dataclasses.replace(self, robust=None))
        del saved["robust"]
        with replacing(path) as beside:
            beside.write_text(json.dumps(saved, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Returns the report that `save` wrote.

        Raises:
            FileNotFoundError: where there is no such file.
            ValueError: for a file that is no report.
        """
        try:
            saved = json.loads(Path(path).read_text(encoding="utf-8"))
            results = tuple(Result(**result) for result in saved.pop("attacks"))
            saved.update({key: tuple(saved[key]) for key in ("alarms", "checks", "bounds")})
            return cls(**saved, attacks=results)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"Invalid report: expected a file that Report.save wrote. Received: {path}") from error

    def __str__(self) -> str:
        data = f"of {self.images} images in {self.classes} classes"
        worst = f"{self.norm}, eps={self.eps:.4g}, the worst of {len(self.attacks)} attacks per image"
        return "\n".join(
            [
                *(f"ALARM: {alarm}" for alarm in self.alarms),
                f"{'clean accuracy':17}{_percent(self.clean_accuracy)}   {data}",
                f"{'robust accuracy':17}{_percent(self.robust_accuracy)}   {worst}",
                *map(_line, self.attacks),
                f"checked: {', '.join(self.checks) or 'nothing'}",
            ]
        )


def _line(result: Result) -> str:
    shown = {key: value for key, value in result.settings.items() if key not in HIDDEN and value not in (None, False)}
    settings = " ".join(f"{key}={value}" for key, value in shown.items())
    return f"  {result.name:15}{_percent(result.accuracy)}   {result.seconds:6.1f} s   {settings}".rstrip()


def _percent(share: float) -> str:
    return f"{100 * share:6.2f} %"
