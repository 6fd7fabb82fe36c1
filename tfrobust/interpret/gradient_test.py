"""Whether a classifier's gradient maps look like their images to another that was trained on images alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from tfrobust import losses
from tfrobust.evaluation.tables import table
from tfrobust.interpret.batches import Bounds, batches, graph, logits_of
from tfrobust.interpret.gradients import check_deviations, gradient, rescaled
from tfrobust.utils.errors import InvalidArgument

Tensor = Any


def gradient_map_test(
    judge: Any,
    classifiers: Mapping[str, Any],
    data: Any,
    *,
    deviations: float = 3.0,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
) -> table.Table:
    """Measures how often a judge gives the label to the gradient map of another classifier.

    A map is d CE(x, y) / d x of the classifier under test, brought to the pixel range image by image: as it is ("raw"),
    or clipped to mean +- `deviations` standard deviations before ("clipped"). The papers read a high accuracy as good
    alignment of gradients and images; they test the training images too: call it once for each split.

    The gradient points away from the label: where the object is bright it darkens it. A judge that reads strokes on a
    dark ground, as of digits, then sees their negative and is right less often than by chance. The columns "negated"
    are those of the maps of -d CE / d x, the papers' without their sign.

    Args:
        judge: a classifier that was trained on clean images alone.
        classifiers: name -> classifier whose gradients are shown to it.
        data: as `evaluate` takes them; read once, batch by batch.
        deviations: of the clipped maps.
        bounds: least and greatest pixel value.
        batch_size: of arrays.

    Returns:
        A `Table` of accuracies: a row for each classifier, columns "raw", "clipped", "raw, negated" and "clipped,
        negated". Its settings hold `judge_accuracy`, the judge's on the images themselves.

    Raises:
        ValueError: for no classifiers, what is no classifier or no data, and classifiers that differ in their classes.

    Example:

    >>> x, y = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> judge, other = tfrobust.models.get("digits"), tfrobust.models.get("digits")
    >>> tfrobust.interpret.gradient_map_test(judge, {"other": other}, (x, y)).columns
    ('raw', 'clipped', 'raw, negated', 'clipped, negated')

    Reference: FPR-v1, table 3; FPR-v2, table 4.
    """
    check_named(classifiers)
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
    return table.made(
        "gradient-map test",
        {name: dict(zip(forms, (counts / images).tolist(), strict=True)) for name, counts in right.items()},
        images,
        0,
        settings={"deviations": float(deviations), "bounds": list(bounds), "judge_accuracy": of_judge / images},
    )


def check_named(classifiers: Any) -> None:
    """Refuses what is no mapping of at least one classifier.

    Raises:
        ValueError: in words.
    """
    if not isinstance(classifiers, Mapping) or not classifiers:
        raise InvalidArgument(
            f"Invalid value for `classifiers`: expected a mapping name -> classifier. Received: {classifiers!r}"
        )
