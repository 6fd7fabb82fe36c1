"""Transfer: every source's adversaries against every target."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrobust.attacks import ball as ball_of
from tfrobust.evaluation.attack_list import line_up
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.scoring import Referee
from tfrobust.evaluation.tables import table
from tfrobust.evaluation.tables.accuracy import checked
from tfrobust.evaluation.tables.craft import craft
from tfrobust.evaluation.tables.noise import drawn, times_right
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.random import stream
from tfrobust.utils.text import percent
from tfrobust.utils.validation import check_integer

NOISE = 2**30  # the noise's place among the streams of random numbers


def transfer_table(
    sources: Mapping[str, Any],
    targets: Mapping[str, Any],
    data: Any,
    attacks: Any,
    *,
    eps: float,
    norm: str = "linf",
    bounds: tuple[float, float] = (0.0, 1.0),
    draws: int = 10,
    batch_size: int = 256,
    seed: int = 0,
    verbose: bool = True,
) -> table.Table:
    """Measures how adversaries that were made on some classifiers do against others.

    A figure is the share of all images that the target has right clean and under the adversary that the attack made on
    the source, one adversary an image. Every source is attacked once for all targets. Where a source is a target itself
    the figure is `evaluate`'s white-box accuracy of that attack. The other rows: "clean", and "random noise", the mean
    over `draws` points drawn uniformly from the ball.

    An attack that ends as soon as its source is fooled transfers worse than one that goes on: take those that return
    their last iterate.

    Args:
        sources: name -> classifier that is attacked.
        targets: name -> classifier that meets the adversaries; all as `evaluate` takes them, of the same classes.
        data: as `evaluate` takes it; read once.
        attacks: a mapping label -> attack, or what else `evaluate` takes.
        eps: radius in units of the pixels.
        norm: "linf", "l2" or "l1".
        bounds: least and greatest pixel value.
        draws: of random noise for each image; 0: no such row.
        batch_size: images in a batch; changes no figure, unless an attack couples the rows.
        seed: of the random starts.
        verbose: print a line for each source and attack.

    Returns:
        A `Table`: rows "clean", "random noise" and "SOURCE ATTACK", a column for each target.

    Raises:
        ValueError: for no sources or targets, classifiers that disagree about classes, and whatever `evaluate` refuses.

    Example:

    >>> a, b = (tfrobust.models.get("digits") for _ in range(2))
    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> table = tfrobust.evaluation.transfer_table(
    ...     {"a": a}, {"a": a, "b": b}, data, {"FGSM": "fgsm"}, eps=0.1, verbose=False
    ... )
    >>> table.rows, table.columns
    (('clean', 'random noise', 'a FGSM'), ('a', 'b'))
    """
    for argument, given in (("sources", sources), ("targets", targets)):
        if not isinstance(given, Mapping) or not given:
            raise InvalidArgument(
                f"Invalid value for `{argument}`: expected a mapping name -> classifier. Received: {given!r}"
            )
    check_integer("draws", draws, 0)
    ball = ball_of(norm, eps, bounds)
    images, classes = checked({**sources, **targets}, data, batch_size, ball.bounds)
    entries = line_up(attacks, norm, ball, classes).entries
    places = list(itertools.accumulate((len(entry.members) for entry in entries), initial=0))  # as `evaluate` counts
    referees = {name: Referee(target, ball, images.x.shape) for name, target in targets.items()}
    clean = {name: _right(referee, images, images.x, batch_size) for name, referee in referees.items()}

    figures = {"clean": {name: float(right.mean()) for name, right in clean.items()}}
    if draws:
        point, noise = drawn("uniform", ball.radius, norm, ball.bounds), stream(seed, NOISE)
        figures["random noise"] = {
            name: float((clean[name] * times_right(target, images, point, draws, noise, batch_size)).mean() / draws)
            for name, target in targets.items()
        }
    for source, classifier in sources.items():
        same = [name for name, target in targets.items() if target is classifier]
        referee = referees[same[0]] if same else Referee(classifier, ball, images.x.shape)
        for entry, place in zip(entries, places, strict=False):
            z = craft(referee, images, entry, batch_size, functools.partial(stream, seed), classes, place)
            row = {name: clean[name] & _right(other, images, z, batch_size) for name, other in referees.items()}
            figures[f"{source} {entry.name}"] = {name: float(right.mean()) for name, right in row.items()}
            if verbose:
                shares = ", ".join(f"{name} {percent(right.mean())}" for name, right in row.items())
                print(f"{entry.name} on {source}: {shares}", flush=True)
    return table.made(
        "accuracy under transferred adversaries",
        figures,
        len(images.y),
        seed,
        settings={
            "eps": float(eps),
            "norm": norm,
            "bounds": list(ball.bounds),
            "draws": int(draws),
            "attacks": {entry.name: entry.settings for entry in entries},
        },
        notes=("Rows are the source and its attack, columns the targets; where both are one it is the white box.",),
    )


def _right(referee: Referee, images: Images, z: np.ndarray, batch_size: int) -> np.ndarray:
    everything = np.arange(len(images.y))
    return np.concatenate([referee(x, y, z[n]).right for x, y, n in images.batches(everything, batch_size)])
