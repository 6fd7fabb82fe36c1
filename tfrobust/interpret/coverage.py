"""Measures how much of an image the gradient of a network covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from tfrobust.evaluation import Table
from tfrobust.evaluation.tables.accuracy import check_named
from tfrobust.interpret.batches import Bounds, batches, graph
from tfrobust.interpret.gradients import gradient
from tfrobust.interpret.gradients import normalized as by_maximum
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.validation import check_nonnegative

Tensor = Any

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)


def coverage(
    classifiers: Mapping[str, Any],
    data: Any,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    normalized: bool = True,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
) -> Table:
    """Measures the share of an image's pixels whose gradient exceeds a threshold, averaged over the images.

    A pixel counts if max_c |G[h, w, c]| > threshold, with G = d CE(x, y) / d x. Divided by max |G| of each image, the
    share measures how broad the gradient is, whatever its size. Without this, as in the paper's figure of signs, a
    sharper loss has a larger share.

    Args:
        classifiers: name -> classifier.
        data: as `evaluate` takes them; read once, batch by batch.
        thresholds: each at least 0; fractions of the image's greatest, or loss per pixel range if not normalized.
        normalized: divide each image's gradient by its greatest value.
        bounds: least and greatest pixel value.
        batch_size: of arrays.

    Returns:
        A `Table` of shares in [0, 1]: a row for each classifier, a column for each threshold.

    Raises:
        ValueError: without thresholds or classifiers, for negative thresholds, and invalid classifiers or data.

    Example:

    >>> x, y = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> tfrobust.interpret.coverage({"digits": tfrobust.models.get("digits")}, (x, y), [0.1, 0.5]).columns
    ('0.1', '0.5')

    Reference: AELF, section 2.2 and figure 4, where broader attention is shown by pictures alone.
    """
    check_named("classifiers", classifiers)
    if not len(thresholds):
        raise InvalidArgument("Invalid value for `thresholds`: expected at least one number. Received: none")
    for threshold in thresholds:
        check_nonnegative("thresholds", threshold)

    def covered(classifier: Any) -> Any:
        def shares(x: Tensor, y: Tensor) -> Tensor:
            g = gradient(classifier, x, y)
            size = ops.max(ops.abs(by_maximum(g) if normalized else (bounds[1] - bounds[0]) * g), axis=-1)
            return ops.stack(
                [ops.sum(ops.mean(ops.cast(size > t, "float32"), axis=(1, 2))) for t in map(float, thresholds)]
            )

        return graph(shares)

    runs = {name: covered(classifier) for name, classifier in classifiers.items()}
    totals = {name: np.zeros(len(thresholds)) for name in classifiers}
    images = 0
    for x, y, _ in batches(classifiers.values(), data, "coverage", (), batch_size, bounds):
        images += len(y)
        for name, run in runs.items():
            totals[name] += np.asarray(run(x, y))
    columns = [f"{threshold:g}" for threshold in thresholds]
    return Table.from_rows(
        "share of pixels by the least gradient",
        {name: dict(zip(columns, (total / images).tolist(), strict=True)) for name, total in totals.items()},
        images,
        0,
        measure="share of pixels",
        settings={"thresholds": list(map(float, thresholds)), "normalized": normalized, "bounds": list(bounds)},
    )
