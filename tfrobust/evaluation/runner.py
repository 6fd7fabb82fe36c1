"""The runs of all attacks of an evaluation, each on the images that are still right, packed into full batches."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from tfrobust.evaluation.attack_list import Contestant, Entry, LineUp, Search
from tfrobust.evaluation.progress import Progress
from tfrobust.evaluation.record import Judge, Outcome
from tfrobust.evaluation.report import Result
from tfrobust.evaluation.resume import Key, State
from tfrobust.utils.graph import in_flight
from tfrobust.utils.random import stream


class Runs:
    """Makes all runs: of a list each entry on what all before it left right, of columns each on all that is right.

    Args:
        judge: who decides what an attack did, and keeps the worst adversaries.
        line_up: the attacks.
        classes: of the classifier.
        seed: of the evaluation; noise is a function of (seed, place of the attack, run, number of the image).
        state: what was found before, and where the rest is kept; or None.
        progress: how far it is.
    """

    def __init__(
        self, judge: Judge, line_up: LineUp, classes: int, seed: int, state: State | None, progress: Progress
    ) -> None:
        self.judge = judge
        self.line_up = line_up
        self.seed = seed
        self.state = state
        self.progress = progress
        self._runs = [contestant.runs(classes) for contestant in line_up.contestants]
        self._costs = [contestant.cost(classes) for contestant in line_up.contestants]

    def results(self) -> tuple[Result, ...]:
        """Runs all attacks and returns their results."""
        alive = clean = np.flatnonzero(self.judge.right_clean)
        place = 0
        results: list[Result] = []
        for entry in self.line_up.entries:
            alive = clean if self.line_up.columns else alive
            parts: list[Result] = []
            for member in entry.members:
                label = f"{entry.name}/{member.name}" if entry.has_parts else entry.name
                work = self._work_after(place, entry, len(parts), len(clean))
                result, alive = self._attacked(label, member, place, alive, *work)
                parts.append(result)
                place += 1
            results.append(_whole(entry, parts) if entry.has_parts else parts[0])
            if entry.has_parts:
                self._tell(entry.name, results[-1])
        return tuple(results)

    def _attacked(
        self, label: str, member: Contestant, place: int, alive: np.ndarray, each: int, besides: int
    ) -> tuple[Result, np.ndarray]:
        """Returns a contestant's result and the numbers of the images that it left right.

        Args:
            label: what is shown of it.
            member: the contestant.
            place: its number.
            alive: numbers of the images that it attacks.
            each: work that comes after it, for each of these images that it leaves right.
            besides: work that comes after it whatever it does.
        """
        attacked, seconds, runs, cost = len(alive), 0.0, self._runs[place], self._costs[place]
        by_run: list[float] = []
        search = functools.cache(lambda: member.search(self.judge.classifier, self.judge.images.x))
        for run in range(runs):
            later = (runs - run - 1) * cost + each
            kept, pending, right = [alive[:0]], len(alive), len(alive)
            self.progress.left(pending * cost + right * later + besides, label)
            for packed, outcome in self._outcomes(search, member, place, run, alive):
                seconds += outcome.seconds
                pending -= len(packed)
                right -= int(outcome.fooled.sum())
                kept.append(packed[~outcome.fooled])
                if pending:
                    self.progress.left(pending * cost + right * later + besides, label)
            alive = np.concatenate(kept)
            by_run.append(len(alive) / len(self.judge.images.y))
        result = Result(
            member.name,
            member.settings,
            accuracy=len(alive) / len(self.judge.images.y),
            seconds=round(seconds, 3),
            kind=member.kind,
            attacked=attacked,
            fooled=attacked - len(alive),
            runs=runs,
            by_run=tuple(by_run),
        )
        self._tell(label, result)
        return result, alive

    def _outcomes(
        self, search: Callable[[], Search], member: Contestant, place: int, run: int, alive: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Outcome]]:
        """Yields the numbers of each batch of a run, in order, and what the run does to it, or the state says it did.

        A few batches are searched at a time: what one leaves idle between its small operations the other one uses.
        """
        seed, began = stream(self.seed, place, run), time.perf_counter()
        waiting: deque[tuple[Key, np.ndarray, Any]] = deque()  # the outcome, or a function that gives the adversaries

        def next_of_all() -> tuple[np.ndarray, Outcome]:
            nonlocal began
            key, packed, outcome = waiting.popleft()
            if not isinstance(outcome, Outcome):
                outcome, changed = self.judge.decide(member.name, place, packed, outcome())
                ended = time.perf_counter()
                outcome, began = outcome._replace(seconds=ended - began), ended
                if self.state:
                    self.state.keep(key, outcome, changed)
                self.progress.done(len(packed) * self._costs[place])
            self.judge.count(member.name, outcome)
            return packed, outcome

        with ThreadPoolExecutor(in_flight()) as pool:
            for number, (x, y, packed) in enumerate(self.judge.images.batches(alive, self.judge.batch_size)):
                key = (place, run, number)
                outcome: Any = self.state.outcome(key) if self.state else None
                if outcome is None:
                    outcome = functools.partial(search(), x, y, packed, seed, run)
                    outcome = pool.submit(outcome).result if member.in_graph else outcome
                waiting.append((key, packed, outcome))
                if len(waiting) >= in_flight():
                    yield next_of_all()
            while waiting:
                yield next_of_all()

    def _work_after(self, place: int, entry: Entry, member: int, clean: int) -> tuple[int, int]:
        """Returns the work after a contestant: for each image that it leaves right, and besides."""
        work = [runs * cost for runs, cost in zip(self._runs, self._costs, strict=True)]
        if not self.line_up.columns:
            return sum(work[place + 1 :]), 0
        end = place + len(entry.members) - member
        return sum(work[place + 1 : end]), clean * sum(work[end:])

    def _tell(self, label: str, result: Result) -> None:
        images = len(self.judge.images.y)
        right = round(result.accuracy * images)
        self.progress.line(f"{label}: {right} of {images} images right, {result.seconds:.1f} s")


def _whole(entry: Entry, parts: list[Result]) -> Result:
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
