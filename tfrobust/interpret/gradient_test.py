"""Tests whether a classifier trained on clean images recognizes the gradient maps of another classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from tfrobust import losses
from tfrobust.evaluation import Table
from tfrobust.evaluation.tables.accuracy import check_named
from tfrobust.interpret.batches import Bounds, batches, graph, logits_of
from tfrobust.interpret.gradients import check_deviations, gradient, rescaled

Tensor = Any


def gradient_map_test(
    judge: Any,
    classifiers: Mapping[str, Any],
    data: Any,
    *,
    deviations: float = 3.0,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
) -> Table:
    """Measures how often the classifier `judge` predicts the label for the gradient map of another classifier.

    A map is d CE(x, y) / d x of the classifier under test, rescaled to the pixel range for each image: either as it is
    ("raw"), or after clipping to mean +- `deviations` standard deviations ("clipped"). The papers read a high accuracy
    as good alignment of gradients and images. They test the training images too: call this once for each split.

    The gradient points away from the label: it darkens a bright object. A judge of bright strokes on a dark ground, as
    in digits, sees their negative and is right less often than by chance. The columns "negated" are for the maps of
    -d CE / d x, the papers' maps with the opposite sign.

    Args:
        judge: a classifier that was trained on clean images alone.
        classifiers: name -> classifier whose gradients `judge` classifies.
        data: as `evaluate` takes them; read once, batch by batch.
        deviations: of the clipped maps.
        bounds: least and greatest pixel value.
        batch_size: of arrays.

    Returns:
        A `Table` of accuracies: a row for each classifier, columns "raw", "clipped", "raw, negated" and "clipped,
        negated". Its settings hold `judge_accuracy`, the accuracy of `judge` on the images themselves.

    Raises:
        ValueError: without classifiers, and for invalid data or classifiers, or different numbers of classes.

    Example:

    >>> x, y = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> judge, other = tfrobust.models.get("digits"), tfrobust.models.get("digits")
    >>> tfrobust.interpret.gradient_map_test(judge, {"other": other}, (x, y)).columns
    ('raw', 'clipped', 'raw, negated', 'clipped, negated')

    Reference: FPR-v1, table 3; FPR-v2, table 4.
    """
    check_named("classifiers", classifiers)
    forms = {"raw": (1, None), "clipped": (1, check_deviations(deviations))}
    forms |= {f"{form}, negated": (-1, clipped) for form, (_, clipped) in forms.items()}
    low, high = bounds

    def judged(z: Tensor, y: Tensor) -> Tensor:
        return ops.sum(losses.correct(logits_of(judge, z), y))

    def tested(classifier: Any) -> Any:
        def right(x: Tensor, y: Tensor) -> Tensor:
            maps = gradient(classifier, x, y)
            return [judged(low + (high - low) * rescaled(sign * maps, form), y) for sign, form in forms.values()]

        return graph(right)

    on_images, on_maps = graph(judged), {name: tested(classifier) for name, classifier in classifiers.items()}
    right = {name: np.zeros(len(forms)) for name in classifiers}
    images, of_judge = 0, 0.0
    everyone = [judge, *classifiers.values()]
    for x, y, _ in batches(everyone, data, "gradient map test", (), batch_size, bounds):
        images += len(y)
        of_judge += float(on_images(x, y))
        for name, run in on_maps.items():
            right[name] += np.asarray(run(x, y))
    return Table.from_rows(
        "gradient-map test",
        {name: dict(zip(forms, (counts / images).tolist(), strict=True)) for name, counts in right.items()},
        images,
        0,
        settings={"deviations": float(deviations), "bounds": list(bounds), "judge_accuracy": of_judge / images},
    )
