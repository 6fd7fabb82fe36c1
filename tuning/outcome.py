"""The outcome of a search: all trials, and the winner among them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tfrobust.evaluation import Report
from tfrobust.utils.text import percent
from tuning.aims import Aim
from tuning.trials import Result, Trial

SUITE = "standard"  # the suite that evaluates finalists
TOLD = 5  # number of failed trials that an error names


class Entry(NamedTuple):
    """A trial in the table of all trials."""

    number: int  # from 1 on, in the order in which the trials ended
    trial: Trial
    result: Result  # by the search's own attack
    report: Report | None = None  # of a finalist, by `standard` on validation data
    winner: bool = False

    @property
    def final(self) -> Result:
        """The result, with the report's accuracies if there is a report."""
        names = ("clean_accuracy", "robust_accuracy") if self.report else ()
        return self.result._replace(**{name: getattr(self.report, name) for name in names})

    @property
    def alarms(self) -> tuple[str, ...]:
        """The alarms of its report."""
        return self.report.alarms if self.report else ()

    def __str__(self) -> str:
        return f"trial {self.number} ({self.trial})"


class Outcome(NamedTuple):
    """All trials of a search, in the order in which they ended; one of them is the winner."""

    path: Path
    aim: Aim
    entries: tuple[Entry, ...]

    @property
    def winner(self) -> Entry:
        """The best trial."""
        return next(entry for entry in self.entries if entry.winner)

    @property
    def failed(self) -> list[Entry]:
        """The trials without a classifier."""
        return [entry for entry in self.entries if entry.result.failed]

    def __str__(self) -> str:
        best, folder = self.winner, self.path
        attack = f"`{SUITE}`" if best.report else "the search's own attack"
        lines = [
            *(f"ALARM: {alarm}" for alarm in best.alarms),
            f"The best of {len(self.entries)} trials is number {best.number}: {best.trial}",
            f"  clean accuracy    {percent(best.final.clean_accuracy or 0.0):>8}",
            f"  robust accuracy   {percent(best.final.robust_accuracy or 0.0):>8}   by {attack}",
            "Both are on the validation data that chose it, and so too high. Figures to publish, on the test split:",
            f"  tfrobust evaluate --workdir={folder}/trials/{best.trial.key} --attacks={SUITE} "
            f"--output={folder}/evaluation.json",
            "The same weights, trained longer (a schedule of the learning rate has a length of its own):",
            f"  tfrobust train --config={folder}/best.json --config.epochs={2 * best.result.epochs} "
            f"--workdir={folder}/longer",
        ]
        if self.failed:
            lines.append(f"{len(self.failed)} of {len(self.entries)} trials failed:")
            lines += [f"  {entry}: {entry.result.message}" for entry in self.failed]
        lines.append(f"In {folder}: search.html best.json classifier.keras trials.csv tensorboard/")
        return "\n".join(lines)
