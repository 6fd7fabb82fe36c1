"""Runs attacks on the images that they have not fooled yet, packed into full batches."""

import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tfrobust.evaluation.attack_list import NamedAttack
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.scoring import check_result
from tfrobust.utils.graph import in_flight

Item = TypeVar("Item")


class Batch(NamedTuple):
    """One batch of a run."""

    x: np.ndarray
    y: np.ndarray
    numbers: np.ndarray  # numbers of the images in the data
    run: int
    number: int  # number of the batch in the run


def open_after_runs(
    images: Images,
    numbers: np.ndarray,
    batch_size: int,
    prepare: Callable[[Batch], Callable[[], Any]],
    record: Callable[[Batch, Any], np.ndarray],
    *,
    runs: int = 1,
    in_threads: bool = False,
    devices: int = 1,
) -> Iterator[np.ndarray]:
    """Makes runs of an attack, each on the images that are still open, and yields the numbers of these after each run.

    Args:
        images: all images.
        numbers: numbers of the images that are open before the first run.
        batch_size: images in a batch.
        prepare: function of a batch that returns its search, a function without arguments.
        record: function of a batch and the result of its search, called in the order of the batches, which returns
            which images of the batch are still open, `(B,)` bool.
        runs: number of runs.
        in_threads: whether two batches are searched at a time, so that one uses processors that the other leaves idle.
        devices: number of devices that search batches in turn.
    """
    at_once = devices * in_flight()
    for run in range(runs):
        with ThreadPoolExecutor(at_once) as pool:
            batches = (Batch(*part, run, number) for number, part in enumerate(images.batches(numbers, batch_size)))
            prepared = ((batch, prepare(batch)) for batch in batches)
            searches = ((batch, pool.submit(search).result if in_threads else search) for batch, search in prepared)
            still_open = [batch.numbers[record(batch, search())] for batch, search in _ahead(searches, at_once)]
        numbers = np.concatenate([numbers[:0], *still_open])
        yield numbers


def _ahead(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yields the items in order, each after so many have been taken, the item itself included."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) >= count:
            yield waiting.popleft()
    yield from waiting


class AdversaryFinder:
    """Finds one adversary of each image on one classifier, also of images that it has wrong already.

    An image gets the adversary of the first run that fools the classifier, else the result of the first run if that is
    allowed, else the image itself. For attacks without a radius all runs are made, and the nearest adversary is kept.

    Args:
        classifier: the classifier under attack, as a callable attack expects it.
        attacks: attacks that run one after the other.
        score: `(x, y, z) -> (allowed, fooled)`, both `(B,)`: which adversaries are allowed, and which of them fool.
        classes: number of classes.
        seed: `(index of the attack, run) -> (2,)`.
        first: index of the first attack.
    """

    def __init__(
        self,
        classifier: Any,
        attacks: Sequence[NamedAttack],
        score: Callable[[Any, Any, Any], tuple[np.ndarray, np.ndarray]],
        classes: int,
        seed: Callable[[int, int], Any],
        first: int = 0,
    ) -> None:
        self._attacks = attacks
        self._score = score
        self._classes = classes
        self._seed = seed
        self._first = first
        # An attack is traced when it first has images to attack, and once for all batches.
        self._search = functools.cache(lambda place, shape: attacks[place].search(classifier, np.empty(shape)))

    def __call__(self, images: Images, numbers: np.ndarray, batch_size: int) -> np.ndarray:
        """Returns an adversary of each image, `(N, H, W, C)`; the noise is a function of the images' `numbers`."""
        z, far = images.x.copy(), np.full(len(images.y), np.inf)

        def attack(place: int, member: NamedAttack) -> None:
            search = self._search(place, (1, *images.x.shape[1:]))

            def prepare(batch: Batch) -> Callable[[], Any]:
                seed = self._seed(self._first + place, batch.run)
                return functools.partial(search, batch.x, batch.y, numbers[batch.numbers], seed, batch.run)

            def record(batch: Batch, x_adv: Any) -> np.ndarray:
                found = check_result(member.name, x_adv, batch.x)
                allowed, fooled = self._score(batch.x, batch.y, found)
                its_far = member.far(found, batch.x, fooled)
                kept = (its_far < far[batch.numbers]) | (allowed & (place == 0 and batch.run == 0))
                z[batch.numbers[kept]] = found[kept]
                far[batch.numbers] = np.minimum(its_far, far[batch.numbers])
                return far[batch.numbers] > 0

            runs = member.runs(self._classes)
            options: dict[str, Any] = {"runs": runs, "in_threads": member.in_graph}
            deque(open_after_runs(images, np.flatnonzero(far > 0), batch_size, prepare, record, **options), maxlen=0)

        for place, member in enumerate(self._attacks):
            if (far > 0).any():
                attack(place, member)
        return z
