"""Release gates: pure functions of evaluation reports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfrobust.utils.errors import InvalidArgument

if TYPE_CHECKING:
    from tfrobust.evaluation import Adversaries, Report

ALPHA = 0.05
SAME = 1e-3  # images that differ by less than this share of the pixel range count as the same


class Comparison(NamedTuple):
    """A paired comparison of two reports on the same images."""

    images: int
    lost: int  # images that are robust in the other report and not in this one
    gained: int  # images that are robust in this one and not in the other
    p_value: float  # probability of `lost` or more such images if both were equally robust
    alpha: float  # significance level
    unlike: tuple[str, ...] = ()  # other differences between the reports, in sentences

    @property
    def worse(self) -> bool:
        """Tells whether this report is significantly worse than the other."""
        return self.p_value <= self.alpha

    def __str__(self) -> str:
        line = (
            f"robust on {self.images} images, against the other report: {self.lost} lost, {self.gained} gained; "
            f"exact McNemar test, one-sided: p = {self.p_value:.3g}"
        )
        return "\n".join([line, *(f"beware: {difference}" for difference in self.unlike)])


def compare(report: Report, other: Report, alpha: float = ALPHA) -> Comparison:
    """Tests whether a classifier is robust on fewer images than another one, image by image.

    Of the b + c images on which the two differ, b are lost. If both were equally robust, b would be binomial with
    probability 1/2; p = P(B >= b) (McNemar's test, exact and one-sided), which is compared with the level `alpha`.

    Raises:
        InvalidArgument: if the reports are of different balls or images, or one lacks adversaries.
        FileNotFoundError: if the .npz file beside a report is missing.

    Reference: McNemar 1947, Note on the sampling error of the difference between correlated proportions.
    """
    from scipy import stats

    check_comparable(other, eps=report.eps, norm=report.norm, bounds=report.bounds)
    ours, theirs = adversaries_of(report), adversaries_of(other)
    check_same_images(ours, theirs, report.bounds)
    lost = int((theirs.robust & ~ours.robust).sum())
    gained = int((ours.robust & ~theirs.robust).sum())
    p_value = stats.binomtest(lost, lost + gained, alternative="greater").pvalue if lost + gained else 1.0
    return Comparison(len(ours.y), lost, gained, float(p_value), alpha, _unlike(report, other))


def check_comparable(other: Report, *, eps: float, norm: str, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
    """Checks that a report is of an evaluation in the same ball: of the same radius, norm and pixel range."""
    wanted = {"eps": eps, "norm": norm, "bounds": tuple(map(float, bounds))}
    received = {"eps": other.eps, "norm": other.norm, "bounds": tuple(map(float, other.bounds))}
    if not np.isclose(other.eps, eps, rtol=1e-6) or {**received, "eps": eps} != wanted:
        raise InvalidArgument(f"Nothing to compare with: expected a report of {wanted}. Received: one of {received}")


def check_same_images(ours: Any, theirs: Any, bounds: tuple[float, float] = (0.0, 1.0)) -> None:
    """Checks that both, such as `Adversaries`, have the same pixels `x` and labels `y` in the same order."""
    wanted = "Nothing to compare with: expected reports of the same images in the same order."
    if ours.x.shape != theirs.x.shape:
        raise InvalidArgument(f"{wanted} Received: images {ours.x.shape} here and {theirs.x.shape} there")
    if unequal := int((np.asarray(ours.y) != np.asarray(theirs.y)).sum()):
        raise InvalidArgument(f"{wanted} Received: {unequal} of {len(ours.y)} labels that differ")
    tolerance = SAME * (bounds[1] - bounds[0])
    changed = sum(np.abs(a - b).max() > tolerance for a, b in zip(ours.x, theirs.x, strict=True))
    if changed:
        raise InvalidArgument(f"{wanted} Received: {changed} of {len(ours.y)} images whose clean pixels differ")


def adversaries_of(report: Report) -> Adversaries:
    """Returns the adversaries of a report; a report without them is refused."""
    if report.adversaries is None:
        raise InvalidArgument("Nothing to compare with: expected a report with adversaries. Received: one without")
    return report.adversaries


def failures(
    report: Report,
    *,
    fail_on_alarm: bool = False,
    min_robust_accuracy: float | None = None,
    comparison: Comparison | None = None,
) -> list[str]:
    """Returns one line for each gate that a report fails; see the flags of `tfrobust evaluate`."""
    failed = []
    if fail_on_alarm and report.alarms:
        failed.append(f"Gate --fail-on-alarm: {len(report.alarms)} alarms: {' | '.join(report.alarms)}")
    if min_robust_accuracy is not None and not report.robust_accuracy >= min_robust_accuracy:
        failed.append(
            f"Gate --min_robust_accuracy: expected at least {min_robust_accuracy:g}. "
            f"Received: {report.robust_accuracy:.4g} on {report.images} images"
        )
    if comparison is not None and comparison.worse:
        failed.append(
            f"Gate --not_worse_than: expected a p-value above {comparison.alpha:g}. Received: "
            f"{comparison.p_value:.3g} ({comparison.lost} images lost, {comparison.gained} gained)"
        )
    return [" ".join(line.split()) for line in failed]


def _unlike(report: Report, other: Report) -> tuple[str, ...]:
    """Returns the differences that weaken a comparison: a report of weaker attacks looks better than it is."""
    found = []
    # Compared as JSON, because a loaded report has lists in place of tuples.
    settings = [
        json.dumps([(a.name, a.settings) for a in r.flat], sort_keys=True, default=str) for r in (report, other)
    ]
    if settings[0] != settings[1]:
        ours, theirs = (", ".join(attack.name for attack in r.flat) or "none" for r in (report, other))
        found.append(f"the attacks or their settings differ: {ours} here, {theirs} there")
    for name, field in (("seeds", "seed"), ("numbers of draws", "draws"), ("versions", "versions")):
        if (here := getattr(report, field)) != (there := getattr(other, field)):
            found.append(f"the {name} differ: {here} here, {there} there")
    return tuple(found)
