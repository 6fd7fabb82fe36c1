"""Measures transfer: the adversaries of every source against every target."""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrobust.attacks import ball as ball_of
from tfrobust.evaluation.attack_list import list_attacks
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.runner import AdversaryFinder
from tfrobust.evaluation.scoring import Score, Scorer
from tfrobust.evaluation.tables.accuracy import check_named, read_for_all
from tfrobust.evaluation.tables.noise import noise_of, times_right
from tfrobust.evaluation.tables.table import Table
from tfrobust.utils.random import stream
from tfrobust.utils.text import percent
from tfrobust.utils.types import Bounds
from tfrobust.utils.validation import check_integer

NOISE = 2**30  # index of the noise among the streams of random numbers
PLAIN = " (plain)"  # ends the label of a row that counts the changed images alone


def transfer_table(
    sources: Mapping[str, Any],
    targets: Mapping[str, Any],
    data: Any,
    attacks: Any,
    *,
    eps: float,
    norm: str = "linf",
    bounds: Bounds = (0.0, 1.0),
    draws: int = 10,
    batch_size: int = 256,
    seed: int = 0,
    verbose: bool = True,
) -> Table:
    """Measures the accuracy of classifiers under adversaries that were found on other classifiers.

    A figure is the share of all images on which the target is right, clean and on the adversary that the attack found
    on the source, one adversary for each image. Every source is attacked once for all targets. If the source is the
    target itself, the figure is the white-box accuracy of that attack by `evaluate`. The other rows are "clean", and
    "random noise", the mean over `draws` points drawn uniformly from the ball.

    Beside each of the rows of changed images stands one with "(plain)" at its end, the share of all images on which the
    target is right after the change, whether or not it is right on the clean image: the accuracy that papers print.

    An attack that stops as soon as its source is fooled transfers worse than one that continues: take attacks that
    return their last iterate.

    Args:
        sources: name -> classifier that is attacked.
        targets: name -> classifier that is tested on the adversaries; all have the same classes.
        attacks: a mapping label -> attack, or another form that `evaluate` takes.
        data, eps, norm, bounds, batch_size, seed: as in `evaluate`.
        draws: number of draws of random noise for each image; 0: no such row.
        verbose: whether to print a line for each source and attack.

    Returns:
        A `Table`: rows "clean", "random noise" and "SOURCE ATTACK", the last two with "... (plain)" beside them; a
        column for each target.

    Raises:
        ValueError: without sources or targets, for classifiers of different numbers of classes, and for everything that
            `evaluate` refuses.

    Example:

    >>> a, b = (tfrobust.models.get("digits") for _ in range(2))
    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> table = tfrobust.evaluation.transfer_table(
    ...     {"a": a}, {"a": a, "b": b}, data, {"FGSM": "fgsm"}, eps=0.1, verbose=False
    ... )
    >>> table.rows, table.columns
    (('clean', 'random noise', 'random noise (plain)', 'a FGSM', 'a FGSM (plain)'), ('a', 'b'))
    """
    for argument, given in (("sources", sources), ("targets", targets)):
        check_named(argument, given)
    draws = check_integer("draws", draws, 0)
    ball = ball_of(norm, eps, bounds)
    images, classes = read_for_all({**sources, **targets}, data, batch_size, ball.bounds)
    entries = list_attacks(attacks, ball, classes).entries
    firsts = list(itertools.accumulate((len(e.members) for e in entries), initial=0))  # indices as in `evaluate`
    seeds = functools.partial(stream, seed)
    scorers = {name: Scorer(target, ball, images.x.shape) for name, target in targets.items()}
    clean = {name: _right(scorer, images, images.x, batch_size) for name, scorer in scorers.items()}

    figures = {"clean": {name: float(right.mean()) for name, right in clean.items()}}

    def add(label: str, times: Mapping[str, np.ndarray], of: int = 1) -> None:
        """Adds both rows of a label; `times`: target -> `(N,)`, on how many of `of` changes of an image it is right."""
        figures[label] = {name: float((clean[name] * count).mean() / of) for name, count in times.items()}
        figures[label + PLAIN] = {name: float(count.mean() / of) for name, count in times.items()}

    if draws:
        drawn = images, noise_of("uniform", ball), draws, stream(seed, NOISE), batch_size
        add("random noise", {name: times_right(target, *drawn) for name, target in targets.items()}, draws)
    for source, classifier in sources.items():
        known = (scorers[name] for name, target in targets.items() if target is classifier)
        scorer = next(known, None) or Scorer(classifier, ball, images.x.shape)
        for entry, first in zip(entries, firsts, strict=False):
            find = AdversaryFinder(scorer.given, entry.members, scorer.allowed_and_fooled, classes, seeds, first)
            z = find(images, np.arange(len(images.y)), batch_size)
            label = f"{source} {entry.name}"
            add(label, {name: _right(other, images, z, batch_size) for name, other in scorers.items()})
            if verbose:
                shares = ", ".join(f"{name} {percent(share)}" for name, share in figures[label].items())
                print(f"{entry.name} on {source}: {shares}", flush=True)
    return Table.from_rows(
        "accuracy under transferred adversaries",
        figures,
        len(images.y),
        seed,
        settings={
            "eps": float(eps),
            "norm": norm,
            "bounds": list(ball.bounds),
            "draws": draws,
            "attacks": {entry.name: entry.settings for entry in entries},
        },
        notes=(
            "Rows are the source and its attack, columns the targets; equal ones give the white-box accuracy.",
            f"Images count that are right, clean and changed; in rows{PLAIN} those that are right when changed.",
        ),
    )


def _right(scorer: Scorer, images: Images, z: np.ndarray, batch_size: int) -> np.ndarray:
    batches = images.batches(np.arange(len(images.y)), batch_size)
    return Score.joined(scorer(x, y, z[numbers]) for x, y, numbers in batches).right
