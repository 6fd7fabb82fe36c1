"""Measures input gradients: the share of an image that they cover, and how well a classifier recognizes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops

from tfrobust import losses
from tfrobust.evaluation import Table
from tfrobust.evaluation.tables.accuracy import check_named
from tfrobust.interpret.batches import batches, graph, logits_of, sums
from tfrobust.interpret.gradients import check_deviations, gradient, rescaled
from tfrobust.interpret.gradients import normalized as by_maximum
from tfrobust.utils.errors import invalid
from tfrobust.utils.types import Bounds, Tensor
from tfrobust.utils.validation import check_nonnegative

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
    share measures how broad the gradient is, independent of its size. Without division, as in the paper's figure of
    signs, a sharper loss has a larger share.

    Args:
        classifiers: name -> classifier.
        data: data as `evaluate` takes them; read once, batch by batch.
        thresholds: numbers of at least 0: fractions of the image's greatest gradient, or loss per pixel range if not
            `normalized`.
        normalized: whether to divide each image's gradient by its greatest value.
        bounds: least and greatest pixel value.
        batch_size: batch size of arrays.

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
        raise invalid("value for `thresholds`", "at least one number", "none")
    for threshold in thresholds:
        check_nonnegative("thresholds", threshold)

    def covered(classifier: Any) -> Any:
        def shares(x: Tensor, y: Tensor) -> Tensor:
            g = gradient(classifier, x, y)
            size = ops.max(ops.abs(by_maximum(g) if normalized else (bounds[1] - bounds[0]) * g), axis=-1)
            return ops.stack([ops.sum(ops.mean(ops.cast(size > least, "float32"), axis=(1, 2))) for least in numbers])

        return graph(shares)

    numbers = list(map(float, thresholds))
    runs = {name: covered(classifier) for name, classifier in classifiers.items()}
    read = batches(classifiers.values(), data, "coverage", (), batch_size, bounds)
    totals, images = sums(read, lambda batch: {name: run(batch.x, batch.y) for name, run in runs.items()})
    return Table.from_rows(
        "share of pixels by the least gradient",
        {name: total / images for name, total in totals.items()},
        images,
        0,
        columns=(f"{threshold:g}" for threshold in thresholds),
        measure="share of pixels",
        settings={"thresholds": numbers, "normalized": normalized, "bounds": list(bounds)},
    )


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
    as good alignment of gradients and images. They test the training images too: call this function for each split.

    The gradient points away from the label and darkens a bright object. For bright strokes on a dark ground, as in
    digits, the map is a negative of the image, and `judge` is right less often than by chance. The columns "negated"
    are for the maps of -d CE / d x, the papers' maps with the opposite sign.

    Args:
        judge: a classifier that was trained on clean images alone.
        classifiers: name -> classifier whose gradients `judge` classifies.
        data: data as `evaluate` takes them; read once, batch by batch.
        deviations: standard deviations to which the clipped maps are clipped.
        bounds: least and greatest pixel value.
        batch_size: batch size of arrays.

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

    runs: dict[Any, Any] = {None: graph(judged)}  # `judge` has no name
    runs |= {name: tested(classifier) for name, classifier in classifiers.items()}
    read = batches([judge, *classifiers.values()], data, "gradient map test", (), batch_size, bounds)
    right, images = sums(read, lambda batch: {name: run(batch.x, batch.y) for name, run in runs.items()})
    accuracy = float(right.pop(None) / images)
    return Table.from_rows(
        "gradient-map test",
        {name: counts / images for name, counts in right.items()},
        images,
        0,
        columns=forms,
        settings={"deviations": float(deviations), "bounds": list(bounds), "judge_accuracy": accuracy},
    )
