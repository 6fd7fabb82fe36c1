"""Measures how far apart the adversaries of attacks lie."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfrobust.attacks import ball as ball_of
from tfrobust.evaluation.attack_list import list_attacks
from tfrobust.evaluation.runner import AdversaryFinder
from tfrobust.evaluation.scoring import Scorer
from tfrobust.evaluation.tables.accuracy import read_for_all
from tfrobust.evaluation.tables.table import Table
from tfrobust.utils.errors import invalid_value
from tfrobust.utils.random import stream
from tfrobust.utils.types import Bounds


def distances(
    classifiers: Mapping[str, Any],
    data: Any,
    attacks: Mapping[str, Any],
    *,
    eps: float,
    norm: str = "linf",
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
    verbose: bool = True,
) -> Table:
    """Measures the mean L2 distance ||x' - x'_ref||_2 between the adversaries of attacks and those of a reference.

    The unit is the pixel range. The random start of an image is the same for all attacks that draw
    it in the same way, so that no distance comes from it. Every image is attacked, also those that are already wrong.

    Args:
        classifiers: name -> classifier that is attacked.
        attacks: label -> attack, as `evaluate` takes them; the first one is the reference.
        data, eps, norm, bounds, batch_size, seed: as in `evaluate`.
        verbose: whether to print a line for each classifier and attack.

    Returns:
        A `Table` of mean distances: a row for each attack but the reference, a column for each classifier.

    Raises:
        ValueError: for fewer than two attacks, and for everything that `evaluate` refuses.

    Example:

    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> attacks = {"PGD": {"name": "pgd", "steps": 2}, "CW": {"name": "cw_linf", "steps": 2}}
    >>> digits = {"digits": tfrobust.models.get("digits")}
    >>> tfrobust.evaluation.distances(digits, data, attacks, eps=0.1, verbose=False).rows
    ('CW',)
    """
    if not isinstance(attacks, Mapping) or len(attacks) < 2:
        raise invalid_value("attacks", "a mapping label -> attack of a reference and at least one more", attacks)
    ball = ball_of(norm, eps, bounds)
    images, classes = read_for_all(classifiers, data, batch_size, ball.bounds)
    reference, *others = entries = list_attacks(attacks, ball, classes).entries
    figures: dict[str, dict[str, float | None]] = {entry.name: {} for entry in others}
    for name, classifier in classifiers.items():
        scorer = Scorer(classifier, ball, images.x.shape)
        seeds = functools.partial(stream, seed)
        finders = [AdversaryFinder(classifier, e.members, scorer.allowed_and_fooled, classes, seeds) for e in entries]
        batches = (
            [finder(images.of(packed), packed, batch_size) for finder in finders]
            for _, _, packed in images.batches(np.arange(len(images.y)), batch_size)
        )
        means, _ = mean_distances(batches, ball.width)
        for entry, apart in zip(others, means[0, 1:].tolist(), strict=True):
            figures[entry.name][name] = apart
            if verbose:
                print(f"{entry.name} on {name}: {apart:.4g} from {reference.name}", flush=True)
    return Table.from_rows(
        f"distance from {reference.name}",
        figures,
        len(images.y),
        seed,
        measure="mean L2 distance of adversaries",
        settings={
            "eps": float(eps),
            "norm": norm,
            "bounds": list(ball.bounds),
            "attacks": {entry.name: entry.settings for entry in entries},
        },
    )


def mean_distances(batches: Iterable[Sequence[np.ndarray]], width: float) -> tuple[np.ndarray, int]:
    """Returns the mean L2 distances between the adversaries of each two of A attacks, `(A, A)`, and number of images.

    Args:
        batches: for each batch of images, the adversaries `(B, H, W, C)` of each attack; one batch is kept at a time.
        width: the pixel range, which is the unit of the distances.
    """
    total, count = np.zeros(()), 0
    for found in batches:
        rows = [[np.sqrt(np.square(a - b).sum(axis=(1, 2, 3))).sum(dtype="float64") for b in found] for a in found]
        total, count = total + np.array(rows), count + len(found[0])
    return total / count / width, count
