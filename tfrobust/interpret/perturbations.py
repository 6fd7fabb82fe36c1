"""Attacks side by side: how far apart their perturbations are, what iterations and DRA's share of values bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from tfrobust import attacks as members
from tfrobust import losses
from tfrobust.classifiers import in_inference
from tfrobust.evaluation import plain
from tfrobust.evaluation.tables import table
from tfrobust.interpret.batches import Bounds, Search, batches, graph, logits_of, made
from tfrobust.interpret.gradient_test import check_named
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.random import ImageNoise, stream
from tfrobust.utils.validation import check_integer

Tensor = Any

STEPS = (1, 2, 3, 5, 7, 10, 20)
SHARES = (1 / 12, 1 / 6, 1 / 3, 1 / 2, 2 / 3, 1.0)


def perturbation_distances(
    classifier: Any,
    data: Any,
    attacks: Mapping[str, Any],
    *,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
) -> table.Table:
    """Measures the mean L2 distance ||x'_a - x'_b||_2 between the adversaries of each two attacks, in pixel ranges.

    The random start of an image is the same for all attacks that draw one alike. `tfrobust.evaluation.distances`
    measures those from one reference, for several classifiers.

    Args:
        classifier: under attack.
        data: as `evaluate` takes them; read batch by batch.
        attacks: label -> attack of `tfrobust.attacks`, its name or config, or a callable `(classify, x, y) -> x_adv`.
        bounds: least and greatest pixel value.
        batch_size: of arrays; changes no figure.
        seed: of the random starts.

    Returns:
        A `Table` of distances in units of the pixel range: a row and a column for each attack; 0 on the diagonal.

    Raises:
        ValueError: for no attacks, and what is no classifier, no attack or no data.

    Example:

    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> attacks = {"FGSM": tfrobust.attacks.fgsm(eps=0.1), "noise": tfrobust.attacks.random_noise(eps=0.1, draws=1)}
    >>> table = tfrobust.interpret.perturbation_distances(tfrobust.models.get("digits"), data, attacks)
    >>> table["FGSM", "FGSM"], table["FGSM", "noise"] > 0
    (0.0, True)

    Reference: InfoFeature, table 2.
    """
    _check_attacks(attacks)
    searches = {name: Search(classifier, attack, seed) for name, attack in attacks.items()}
    total, images = np.zeros((len(searches),) * 2), 0

    def apart(*found: Tensor) -> Tensor:
        rows = [[ops.sum(ops.sqrt(ops.sum(ops.square(a - b), axis=(1, 2, 3)))) for b in found] for a in found]
        return ops.stack([ops.stack(row) for row in rows])

    run = graph(apart)
    for batch in batches([classifier], data, "comparison of attacks", (), batch_size, bounds):
        total += np.asarray(run(*(search(batch) for search in searches.values())))
        images += len(batch.y)
    means = total / images / (bounds[1] - bounds[0])
    return table.made(
        "distances between adversaries",
        {a: dict(zip(searches, row, strict=True)) for a, row in zip(searches, means.tolist(), strict=True)},
        images,
        seed,
        measure="mean L2 distance",
        settings={"bounds": list(bounds), "attacks": plain(attacks)},
    )


def attack_strength(
    classifier: Any,
    data: Any,
    attacks: Mapping[str, Any],
    steps: Sequence[int] = STEPS,
    *,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
) -> table.Table:
    """Measures the accuracy that iterative attacks leave, by their number of iterations.

    Ball, start and step size are the attack's own at every count (a step size that was left open is that of the
    attack's own count); each count begins anew, without restarts.

    Args:
        classifier: under attack.
        data: as `evaluate` takes them; read batch by batch.
        attacks: label -> an attack of `tfrobust.attacks` that ascends a loss, such as pgd, or its name or config.
        steps: counts of iterations, each at least 1.
        bounds: least and greatest pixel value.
        batch_size: of arrays; changes no figure.
        seed: of the random starts.

    Returns:
        A `Table` of accuracies: a row for each attack; a column "0" (the clean accuracy) and one for each count.

    Raises:
        ValueError: for no attacks, one without iterations, and what is no classifier or no data.

    Example:

    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> attacks = {"PGD": tfrobust.attacks.pgd(eps=0.1, step_size=0.025)}
    >>> tfrobust.interpret.attack_strength(tfrobust.models.get("digits"), data, attacks, [1, 3]).columns
    ('0', '1', '3')

    Reference: InfoFeature, figure 4.
    """
    _check_attacks(attacks)
    adversaries = {name: _iterative(attack) for name, attack in attacks.items()}
    counts = [check_integer("steps", count) for count in steps]

    def left(adversary: Any) -> Any:
        def right(x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor, count: Tensor) -> Tensor:
            again = adversary._around(adversary.attack.once()._with(steps=count))
            return _right(classifier, again.search(in_inference(classifier), x, y, ImageNoise(seed, numbers)), y)

        return graph(right)

    runs = {name: left(adversary) for name, adversary in adversaries.items()}
    clean = graph(lambda x, y: _right(classifier, x, y))
    columns = [0, *counts]
    right, images = {name: np.zeros(len(columns)) for name in runs}, 0
    start = stream(seed, 0)
    for batch in batches([classifier], data, "comparison of attacks", (), batch_size, bounds):
        before = float(clean(batch.x, batch.y))
        for name, run in runs.items():
            right[name] += [before, *(float(run(*batch, start, np.int32(count))) for count in counts)]
        images += len(batch.y)
    return table.made(
        "accuracy by iterations",
        {
            name: dict(zip(map(str, columns), (counted / images).tolist(), strict=True))
            for name, counted in right.items()
        },
        images,
        seed,
        settings={"bounds": list(bounds), "attacks": plain(adversaries), "steps": counts},
    )


def dra_success(
    classifiers: Mapping[str, Any],
    data: Any,
    shares: Sequence[float] = SHARES,
    *,
    eps: float | None = None,
    steps: int = 5,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
) -> table.Table:
    """Measures how often DRA fools, by its p, the share of an image's values that it changes at a step.

    Args:
        classifiers: name -> classifier under attack.
        data: as `evaluate` takes them; read batch by batch.
        shares: values of p, each in (0, 1].
        eps: greatest mean absolute change in units of the pixels; None: 1/255 of their range.
        steps: iterations of 2.5 * eps / steps.
        bounds: least and greatest pixel value.
        batch_size: of arrays; changes no figure.
        seed: kept in the table; DRA draws nothing.

    Returns:
        A `Table` of success rates, fooled images of those that were right, in [0, 1]: a row for each classifier, a
        column for each p. None where nothing was right.

    Raises:
        ValueError: for shares outside (0, 1], no classifiers, and what is no classifier or no data.

    Example:

    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> digits = {"digits": tfrobust.models.get("digits")}
    >>> tfrobust.interpret.dra_success(digits, data, [0.5, 1.0], eps=0.05).columns
    ('0.5', '1')

    Reference: thesis, figure 4.4 (CIFAR-10, eps 1/255 and 2/255).
    """
    check_named(classifiers)
    eps = (bounds[1] - bounds[0]) / 255 if eps is None else eps
    made_with = [members.dra(eps, steps=steps, p=share, bounds=bounds) for share in shares]

    def tested(classifier: Any) -> tuple[list[Search], Any, Any]:
        def fooled(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
            before, after = (losses.correct(logits_of(classifier, part), y) for part in (x, z))
            return ops.sum(before * (1 - after))

        clean = graph(lambda x, y: _right(classifier, x, y))
        return [Search(classifier, attack, seed) for attack in made_with], clean, graph(fooled)

    runs = {name: tested(classifier) for name, classifier in classifiers.items()}
    right, hit = dict.fromkeys(runs, 0.0), {name: np.zeros(len(made_with)) for name in runs}
    images = 0
    for batch in batches(classifiers.values(), data, "test of DRA", (), batch_size, bounds):
        images += len(batch.y)
        for name, (searches, clean, fooled) in runs.items():
            right[name] += float(clean(batch.x, batch.y))
            hit[name] += [float(fooled(batch.x, batch.y, search(batch))) for search in searches]
    columns = [f"{share:.4g}" for share in shares]
    return table.made(
        "success of DRA by p",
        {
            name: {
                column: count / right[name] if right[name] else None
                for column, count in zip(columns, counts, strict=True)
            }
            for name, counts in hit.items()
        },
        images,
        seed,
        measure="success rate",
        settings={"eps": float(eps), "steps": steps, "bounds": list(bounds), "shares": list(map(float, shares))},
    )


def _right(classifier: Any, z: Tensor, y: Tensor) -> Tensor:
    return ops.sum(losses.correct(logits_of(classifier, z), y))


def _iterative(attack: Any) -> members.Adversary:
    adversary = made(attack)
    if not isinstance(adversary, members.Adversary):
        raise InvalidArgument(
            "Strength by iterations needs attacks that ascend a loss, such as tfrobust.attacks.pgd(...). "
            f"Received: {attack!r}"
        )
    return adversary


def _check_attacks(attacks: Any) -> None:
    if not isinstance(attacks, Mapping) or not attacks:
        raise InvalidArgument(f"Invalid value for `attacks`: expected a mapping label -> attack. Received: {attacks!r}")
