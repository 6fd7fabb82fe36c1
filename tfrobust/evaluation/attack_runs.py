"""Makes all runs of an evaluation, each attack on the images that are still right."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfrobust.evaluation.attack_list import AttackList, Entry, NamedAttack
from tfrobust.evaluation.devices import Replica
from tfrobust.evaluation.record import Outcome, Record
from tfrobust.evaluation.report import Result
from tfrobust.evaluation.resume import State
from tfrobust.evaluation.runner import Batch, open_after_runs
from tfrobust.utils.random import stream
from tfrobust.utils.text import duration

PAUSE = 60.0  # seconds between two lines in a log


class Lines:
    """Takes the place of a bar in a log: prints a plain line a minute; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.n = self.total = 0
        self._clock = clock
        self._began = self._told = clock()

    def set_description(self, label: str, refresh: bool = False) -> None:
        """Sets what a line begins with."""
        self._label = label

    def update(self, work: int) -> None:
        """Counts work as done."""
        self.n += work
        if (now := self._clock()) - self._told >= PAUSE:
            self._told = now
            left = duration((self.total - self.n) * (now - self._began) / self.n)
            done = f"{100 * self.n / self.total:.0f} % of {self.total} passes"
            print(f"{self._label}: {done}, {left} left", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the lines."""


class Progress:
    """Shows the forward and backward passes of the classifier that are left, if `verbose`, and prints lines.

    The passes are a bar on a terminal, and in a log a line a minute.
    Work that is no longer needed, for images that are already fooled, is taken from the total, so that the rate and the
    remaining time are those of the work that is done.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._bar: Any = None

    def line(self, text: str) -> None:
        """Prints a line above the bar."""
        if self._verbose:
            tqdm.write(text)

    def left(self, work: int, label: str) -> None:
        """Sets the work that is left at most, and the label of the bar."""
        if not self._verbose:
            return
        if self._bar is None:
            options = {"unit": "pass", "unit_scale": True, "mininterval": 0.5, "leave": False, "dynamic_ncols": True}
            self._bar = tqdm(total=0, **options) if sys.stderr.isatty() else Lines()
        self._bar.total = self._bar.n + work
        self._bar.set_description(label, refresh=False)

    def done(self, work: int) -> None:
        """Counts the work of a batch as done."""
        if self._bar is not None:
            self._bar.update(work)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()


@dataclasses.dataclass
class AttackRuns:
    """Makes all runs: of a list each entry on the images that all before it left right, of columns each on all images.

    Noise is a function of (seed, index of the attack, run, number of the image).
    """

    record: Record
    attack_list: AttackList
    classes: int
    seed: int
    replicas: Sequence[Replica]  # the classifier on each device
    state: State | None  # outcomes in files, from which those of earlier processes are read
    progress: Progress

    def __post_init__(self) -> None:
        self.runs = [attack.runs(self.classes) for attack in self.attack_list.attacks]
        self.costs = [attack.cost(self.classes) for attack in self.attack_list.attacks]

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
                later = self._work_after(index, entry, len(parts), len(clean))
                result, alive = self._attacked(alive, _Batches(self, label, member, index, later))
                parts.append(result)
                index += 1
            results.append(_total(entry, parts) if entry.has_parts else parts[0])
            if entry.has_parts:
                self._print(entry.name, results[-1])
        return tuple(results)

    def _attacked(self, alive: np.ndarray, batches: _Batches) -> tuple[Result, np.ndarray]:
        """Returns the result of an attack on the numbered images, and the numbers of those that it left right."""
        attacked, images, member = len(alive), self.record.images, batches.member
        runs = self.runs[batches.index]
        by_run: list[float] = []
        batches.start_run(0, attacked)
        options: dict[str, Any] = {"runs": runs, "in_threads": member.in_graph, "devices": len(self.replicas)}
        left = open_after_runs(images, alive, self.record.batch_size, batches.prepare, batches.record, **options)
        for run, alive in enumerate(left, 1):
            by_run.append(len(alive) / len(images.y))
            if run < runs:
                batches.start_run(run, len(alive))
        result = Result(
            member.name,
            member.settings,
            accuracy=len(alive) / len(images.y),
            seconds=round(batches.seconds, 3),
            kind=member.kind,
            attacked=attacked,
            fooled=attacked - len(alive),
            runs=runs,
            by_run=tuple(by_run),
        )
        self._print(batches.label, result)
        return result, alive

    def _work_after(self, index: int, entry: Entry, member: int, clean: int) -> tuple[int, int]:
        """Returns the work of later attacks: for each image that this one leaves right, and independent of it."""
        work = [runs * cost for runs, cost in zip(self.runs, self.costs, strict=True)]
        if not self.attack_list.columns:
            return sum(work[index + 1 :]), 0
        end = index + len(entry.members) - member
        return sum(work[index + 1 : end]), clean * sum(work[end:])

    def _print(self, label: str, result: Result) -> None:
        images = len(self.record.images.y)
        right = round(result.accuracy * images)
        self.progress.line(f"{label}: {right} of {images} images right, {result.seconds:.1f} s")


class _Batches:
    """Searches the batches of one attack or reads them from the state, and records them with time and progress."""

    def __init__(self, every: AttackRuns, label: str, member: NamedAttack, index: int, later: tuple[int, int]) -> None:
        self.label, self.member, self.index = label, member, index
        self._every, self._cost = every, every.costs[index]
        self._for_each_right, self._independent = later
        self._search = functools.cache(self._traced)
        self.seconds = 0.0

    def start_run(self, run: int, alive: int) -> None:
        """Prepares for a run on so many images."""
        self._later = (self._every.runs[self.index] - run - 1) * self._cost + self._for_each_right
        self._pending = self._right = alive
        self._seed, self._began = stream(self._every.seed, self.index, run), time.perf_counter()
        self._show_work()

    def prepare(self, batch: Batch) -> Callable[[], Any]:
        """Returns the search of a batch, or a function that returns the outcome of an earlier process."""
        state = self._every.state
        known = state.outcome(self.index, batch.run, batch.numbers) if state else None
        if known is not None:
            return lambda: known
        numbers = self._every.record.numbers[batch.numbers]
        search = self._search(batch.number % len(self._every.replicas) if self.member.in_graph else 0)
        return functools.partial(search, batch.x, batch.y, numbers, self._seed, batch.run)

    def record(self, batch: Batch, found: Any) -> np.ndarray:
        """Records what `prepare` led to, and returns which images of the batch are still right."""
        every, count = self._every, len(batch.numbers)
        if not isinstance(found, Outcome):
            outcome, changed = every.record.decide(self.member.name, self.index, batch.numbers, found)
            ended = time.perf_counter()
            found, self._began = outcome._replace(seconds=ended - self._began), ended
            if every.state:
                every.state.keep(self.index, batch.run, batch.numbers, found, changed)
            every.progress.done(count * self._cost)
        every.record.count(self.member.name, found)
        self.seconds += found.seconds
        self._pending -= count
        self._right -= int(found.fooled.sum())
        if self._pending:
            self._show_work()
        return ~found.fooled

    def _traced(self, device: int) -> Callable[..., Any]:
        """Returns the search on a device."""
        replica, record = self._every.replicas[device], self._every.record
        if not self.member.in_graph:  # a callable gets the classifier as given
            return self.member.search(record.classifier, record.images.x)
        with tf.device(replica.device):
            search = self.member.search(replica.classifier, record.images.x)

        def there(*arguments: Any) -> Any:
            with tf.device(replica.device):  # a graph runs on the device of its caller
                return search(*arguments)

        return there

    def _show_work(self) -> None:
        work = self._pending * self._cost + self._right * self._later + self._independent
        self._every.progress.left(work, self.label)


def _total(entry: Entry, parts: list[Result]) -> Result:
    """Returns the result of a cascade, which is that of all its members together."""
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
