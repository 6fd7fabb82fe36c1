"""How far the adversaries of attacks lie from those of a reference."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrobust.attacks import ball as ball_of
from tfrobust.evaluation.attack_list import line_up
from tfrobust.evaluation.scoring import Referee
from tfrobust.evaluation.tables import table
from tfrobust.evaluation.tables.accuracy import checked
from tfrobust.evaluation.tables.craft import craft
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.random import stream


def distances(
    classifiers: Mapping[str, Any],
    data: Any,
    attacks: Mapping[str, Any],
    *,
    eps: float,
    norm: str = "linf",
    bounds: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
    verbose: bool = True,
) -> table.Table:
    """Measures the mean L2 distance ||x' - x'_ref||_2 between the adversaries of attacks and those of a reference.

    The unit is the pixel range, whatever the bounds.

    The random start of an image is the same for all attacks that draw one alike, so that no distance is due to it.
    Every image is attacked, those that are wrong already too.

    Args:
        classifiers: name -> classifier that is attacked.
        data: as `evaluate` takes it; read once.
        attacks: label -> attack, as `evaluate` takes them; the first one is the reference.
        eps: radius in units of the pixels.
        norm: of the ball.
        bounds: least and greatest pixel value.
        batch_size: images in a batch.
        seed: of the random starts.
        verbose: print a line for each classifier and attack.

    Returns:
        A `Table` of mean distances: a row for each attack but the reference, a column for each classifier.

    Raises:
        ValueError: for fewer than two attacks and whatever `evaluate` refuses.

    Example:

    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> attacks = {"PGD": {"name": "pgd", "steps": 2}, "CW": {"name": "cw_linf", "steps": 2}}
    >>> digits = {"digits": tfrobust.models.get("digits")}
    >>> tfrobust.evaluation.distances(digits, data, attacks, eps=0.1, verbose=False).rows
    ('CW',)
    """
    if not isinstance(attacks, Mapping) or len(attacks) < 2:
        raise InvalidArgument(
            "Invalid value for `attacks`: expected a mapping label -> attack of a reference and at least one more. "
            f"Received: {attacks!r}"
        )
    ball = ball_of(norm, eps, bounds)
    images, classes = checked(classifiers, data, batch_size, ball.bounds)
    entries = line_up(attacks, norm, ball, classes).entries
    figures: dict[str, dict[str, float | None]] = {entry.name: {} for entry in entries[1:]}
    for name, classifier in classifiers.items():
        referee = Referee(classifier, ball, images.x.shape)
        made = (craft(referee, images, e, batch_size, functools.partial(stream, seed), classes) for e in entries)
        reference = next(made)
        for entry, z in zip(entries[1:], made, strict=True):
            apart = np.sqrt(np.square(z - reference).sum(axis=(1, 2, 3))) / ball.width
            figures[entry.name][name] = float(apart.mean())
            if verbose:
                print(f"{entry.name} on {name}: {apart.mean():.4g} from {entries[0].name}", flush=True)
    return table.made(
        f"distance from {entries[0].name}",
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
