"""Makes all runs of an evaluation, each attack on the images that are still right."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfrobust.evaluation.attack_list import AttackList, Entry, NamedAttack
from tfrobust.evaluation.progress import Progress
from tfrobust.evaluation.record import Outcome, Record
from tfrobust.evaluation.report import Result
from tfrobust.evaluation.resume import State
from tfrobust.evaluation.runner import Batch, open_after_runs
from tfrobust.utils.random import stream


class AttackRuns:
    """Makes all runs: of a list each entry on the images that all before it left right, of columns each on all images.

    Args:
        record: decides which images an attack fooled, and keeps the worst adversaries.
        attack_list: the attacks.
        classes: of the classifier.
        seed: of the evaluation; noise is a function of (seed, index of the attack, run, number of the image).
        state: keeps what was found, and knows what was found before; or None.
        progress: shows how much work is left.
    """

    def __init__(
        self, record: Record, attack_list: AttackList, classes: int, seed: int, state: State | None, progress: Progress
    ) -> None:
        self.record = record
        self.attack_list = attack_list
        self.seed = seed
        self.state = state
        self.progress = progress
        self._runs = [attack.runs(classes) for attack in attack_list.attacks]
        self._costs = [attack.cost(classes) for attack in attack_list.attacks]

    def results(self) -> tuple[Result, ...]:
        """Runs all attacks and returns their results."""
        alive = clean = np.flatnonzero(self.record.right_clean)
        index = 0
        results: list[Result] = []
        for entry in self.attack_list.entries:
            alive = clean if self.attack_list.columns else alive
            parts: list[Result] = []
            for member in entry.members:
                label = f"{entry.name}/{member.name}" if entry.has_parts else entry.name
                work = self._work_after(index, entry, len(parts), len(clean))
                result, alive = self._attacked(label, member, index, alive, *work)
                parts.append(result)
                index += 1
            results.append(_total(entry, parts) if entry.has_parts else parts[0])
            if entry.has_parts:
                self._print(entry.name, results[-1])
        return tuple(results)

    def _attacked(
        self, label: str, member: NamedAttack, index: int, alive: np.ndarray, each: int, besides: int
    ) -> tuple[Result, np.ndarray]:
        """Returns the result of an attack and the numbers of the images that it left right.

        Args:
            label: the name that the progress bar shows.
            member: the attack.
            index: its number.
            alive: numbers of the images that it attacks.
            each: work of later attacks for each of these images that stays right.
            besides: work of later attacks that does not depend on this one.
        """
        batches = _Batches(self, label, member, index, each, besides)
        attacked, images = len(alive), self.record.images
        by_run: list[float] = []
        batches.start_run(0, attacked)
        options: dict[str, Any] = {"runs": self._runs[index], "in_threads": member.in_graph}
        left = open_after_runs(images, alive, self.record.batch_size, batches.prepare, batches.record, **options)
        for run, alive in enumerate(left, 1):
            by_run.append(len(alive) / len(images.y))
            if run < self._runs[index]:
                batches.start_run(run, len(alive))
        result = Result(
            member.name,
            member.settings,
            accuracy=len(alive) / len(images.y),
            seconds=round(batches.seconds, 3),
            kind=member.kind,
            attacked=attacked,
            fooled=attacked - len(alive),
            runs=self._runs[index],
            by_run=tuple(by_run),
        )
        self._print(label, result)
        return result, alive

    def _work_after(self, index: int, entry: Entry, member: int, clean: int) -> tuple[int, int]:
        """Returns the work of later attacks: for each image that this one leaves right, and independent of it."""
        work = [runs * cost for runs, cost in zip(self._runs, self._costs, strict=True)]
        if not self.attack_list.columns:
            return sum(work[index + 1 :]), 0
        end = index + len(entry.members) - member
        return sum(work[index + 1 : end]), clean * sum(work[end:])

    def _print(self, label: str, result: Result) -> None:
        images = len(self.record.images.y)
        right = round(result.accuracy * images)
        self.progress.line(f"{label}: {right} of {images} images right, {result.seconds:.1f} s")


class _Batches:
    """The batches of one attack: searched or read from the state, then recorded, with time and progress."""

    def __init__(self, runs: AttackRuns, label: str, member: NamedAttack, index: int, each: int, besides: int) -> None:
        self._of, self._label, self._member, self._index = runs, label, member, index
        self._each, self._besides = each, besides
        self._cost = runs._costs[index]
        self._search = functools.cache(lambda: member.search(runs.record.classifier, runs.record.images.x))
        self.seconds = 0.0

    def start_run(self, run: int, alive: int) -> None:
        """Prepares for a run on so many images."""
        self._later = (self._of._runs[self._index] - run - 1) * self._cost + self._each
        self._pending = self._right = alive
        self._seed, self._began = stream(self._of.seed, self._index, run), time.perf_counter()
        self._show_work()

    def prepare(self, batch: Batch) -> Callable[[], Any]:
        state = self._of.state
        known = state.outcome((self._index, batch.run, batch.number)) if state else None
        if known is not None:
            return lambda: known
        return functools.partial(self._search(), batch.x, batch.y, batch.numbers, self._seed, batch.run)

    def record(self, batch: Batch, found: Any) -> np.ndarray:
        of, count = self._of, len(batch.numbers)
        if not isinstance(found, Outcome):
            outcome, changed = of.record.decide(self._member.name, self._index, batch.numbers, found)
            ended = time.perf_counter()
            found, self._began = outcome._replace(seconds=ended - self._began), ended
            if of.state:
                of.state.keep((self._index, batch.run, batch.number), found, changed)
            of.progress.done(count * self._cost)
        of.record.count(self._member.name, found)
        self.seconds += found.seconds
        self._pending -= count
        self._right -= int(found.fooled.sum())
        if self._pending:
            self._show_work()
        return ~found.fooled

    def _show_work(self) -> None:
        work = self._pending * self._cost + self._right * self._later + self._besides
        self._of.progress.left(work, self._label)


def _total(entry: Entry, parts: list[Result]) -> Result:
    """Returns the result of a cascade: that of all its members together."""
    kinds = {part.kind for part in parts}
    return Result(
        entry.name,
        entry.settings,
        accuracy=parts[-1].accuracy,
        seconds=round(sum(part.seconds for part in parts), 3),
        kind=kinds.pop() if len(kinds) == 1 else "white box",
        attacked=parts[0].attacked,
        fooled=sum(part.fooled for part in parts),
        runs=sum(part.runs for part in parts),
        parts=tuple(parts),
    )
