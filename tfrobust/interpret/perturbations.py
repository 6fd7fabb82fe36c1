"""Compares attacks: distances of their adversaries, accuracy by iterations, success of DRA by its share of values."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from tfrobust import attacks as members
from tfrobust import losses
from tfrobust.classifiers import in_inference
from tfrobust.evaluation import Table
from tfrobust.evaluation.tables.accuracy import check_named
from tfrobust.evaluation.tables.distances import mean_distances
from tfrobust.interpret.batches import Batch, Search, as_adversary, batches, graph, logits_of, sums
from tfrobust.utils.errors import InvalidArgument, invalid_value
from tfrobust.utils.random import ImageNoise, stream
from tfrobust.utils.text import for_json
from tfrobust.utils.types import Bounds, Tensor
from tfrobust.utils.validation import check_integer

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
) -> Table:
    """Measures the mean L2 distance ||x'_a - x'_b||_2 between the adversaries of each two attacks, in pixel ranges.

    The random start of an image is the same for all attacks that draw it in the same way.
    `tfrobust.evaluation.distances` measures the distances from one reference, for several classifiers.

    Args:
        classifier: the classifier under attack.
        data: data as `evaluate` takes them; read batch by batch.
        attacks: label -> attack of `tfrobust.attacks`, its name or config, or a callable `(classify, x, y) -> x_adv`.
        bounds: least and greatest pixel value.
        batch_size: batch size of arrays; changes no figure.
        seed: seed of the random starts.

    Returns:
        A `Table` of distances in units of the pixel range: a row and a column for each attack; 0 on the diagonal.

    Raises:
        ValueError: without attacks, and for invalid classifiers, attacks or data.

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
    read = batches([classifier], data, "comparison of attacks", (), batch_size, bounds)
    means, images = mean_distances(
        ([np.asarray(search(batch)) for search in searches.values()] for batch in read), bounds[1] - bounds[0]
    )
    return Table.from_rows(
        "distances between adversaries",
        dict(zip(searches, means, strict=True)),
        images,
        seed,
        columns=searches,
        measure="mean L2 distance",
        settings={"bounds": list(bounds), "attacks": for_json(attacks)},
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
) -> Table:
    """Measures the accuracy under iterative attacks, by their number of iterations.

    Ball, start and step size are those of the attack at every count (a default step size is that of the attack's own
    count). Each count starts again from the image, without restarts.

    Args:
        classifier: the classifier under attack.
        data: data as `evaluate` takes them; read batch by batch.
        attacks: label -> an attack of `tfrobust.attacks` that ascends a loss, such as pgd, or its name or config.
        steps: counts of iterations, each at least 1.
        bounds: least and greatest pixel value.
        batch_size: batch size of arrays; changes no figure.
        seed: seed of the random starts.

    Returns:
        A `Table` of accuracies: a row for each attack; a column "0" (the clean accuracy) and one for each count.

    Raises:
        ValueError: without attacks, for an attack without iterations, and invalid classifiers or data.

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
            again = adversary._with(restarts=1, steps=count)
            z = again.search(in_inference(classifier), x, y, ImageNoise(seed, numbers))
            return ops.sum(_is_right(classifier, z, y))

        return graph(right)

    runs = {name: left(adversary) for name, adversary in adversaries.items()}
    clean, start = graph(lambda x, y: ops.sum(_is_right(classifier, x, y))), stream(seed, 0)

    def measure(batch: Batch) -> dict[str, list[float]]:
        before = float(clean(batch.x, batch.y))
        return {
            name: [before, *(float(run(*batch, start, np.int32(count))) for count in counts)]
            for name, run in runs.items()
        }

    read = batches([classifier], data, "comparison of attacks", (), batch_size, bounds)
    right, images = sums(read, measure)
    return Table.from_rows(
        "accuracy by iterations",
        {name: counted / images for name, counted in right.items()},
        images,
        seed,
        columns=map(str, [0, *counts]),
        settings={"bounds": list(bounds), "attacks": for_json(adversaries), "steps": counts},
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
) -> Table:
    """Measures how often DRA fools a classifier, by p, the share of an image's values that it changes at each step.

    Args:
        classifiers: name -> classifier under attack.
        data: data as `evaluate` takes them; read batch by batch.
        shares: values of p, each in (0, 1].
        eps: greatest mean absolute change in units of the pixels; None: 1/255 of their range.
        steps: number of iterations, each of size eps / steps.
        bounds: least and greatest pixel value.
        batch_size: batch size of arrays; changes no figure.
        seed: number that is written into the table; DRA draws no random numbers.

    Returns:
        A `Table` of success rates, fooled images of those that were right, in [0, 1]: a row for each classifier, a
        column for each p; None if no image was right.

    Raises:
        ValueError: for shares outside (0, 1], without classifiers, and for invalid classifiers or data.

    Example:

    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> digits = {"digits": tfrobust.models.get("digits")}
    >>> tfrobust.interpret.dra_success(digits, data, [0.5, 1.0], eps=0.05).columns
    ('0.5', '1')

    Reference: thesis, figure 4.4 (CIFAR-10, eps 1/255 and 2/255).
    """
    check_named("classifiers", classifiers)
    eps = (bounds[1] - bounds[0]) / 255 if eps is None else eps
    attacks = [members.dra(eps, steps=steps, p=share, bounds=bounds) for share in shares]
    searches = {name: [Search(c, attack, seed) for attack in attacks] for name, c in classifiers.items()}
    is_right = {name: graph(functools.partial(_is_right, classifier)) for name, classifier in classifiers.items()}

    def measure(batch: Batch) -> dict[str, list[float]]:
        found = {}
        for name, run in is_right.items():
            before = np.asarray(run(batch.x, batch.y))
            after = [np.asarray(run(search(batch), batch.y)) for search in searches[name]]
            found[name] = [before.sum(), *((before * (1 - still)).sum() for still in after)]
        return found

    counts, images = sums(batches(classifiers.values(), data, "test of DRA", (), batch_size, bounds), measure)
    return Table.from_rows(
        "success of DRA by p",
        {name: [hit / right if right else None for hit in hits] for name, (right, *hits) in counts.items()},
        images,
        seed,
        columns=(f"{share:.4g}" for share in shares),
        measure="success rate",
        settings={"eps": float(eps), "steps": steps, "bounds": list(bounds), "shares": list(map(float, shares))},
    )


def _is_right(classifier: Any, z: Tensor, y: Tensor) -> Tensor:
    return losses.correct(logits_of(classifier, z), y)


def _iterative(attack: Any) -> members.GradientAttack:
    adversary = as_adversary(attack)
    if not isinstance(adversary, members.GradientAttack):
        raise InvalidArgument(
            "Strength by iterations needs attacks that ascend a loss, such as tfrobust.attacks.pgd(...). "
            f"Received: {attack!r}"
        )
    return adversary


def _check_attacks(attacks: Any) -> None:
    if not isinstance(attacks, Mapping) or not attacks:
        raise invalid_value("attacks", "a mapping label -> attack", attacks)
