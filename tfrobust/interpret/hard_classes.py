"""Counts the classes to which untargeted attacks lead, and compares them with what the clean network says of them."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from scipy import stats

from tfrobust import losses
from tfrobust.classifiers import check_classifier, head_of
from tfrobust.interpret.batches import Search, batches, graph, logits_of, sums
from tfrobust.interpret.relevance import spearman
from tfrobust.layers import ClassActivationMap
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Bounds, Tensor


class HardClasses(NamedTuple):
    """The classes to which an untargeted attack leads, for each label.

    Args:
        counts: `(C, C)` integers: images of class i (row) that were right and are predicted as j (column) after the
            attack; on the diagonal those that stayed right.
        statistic: chi-square of the fooled images against an even spread over the C - 1 other classes, summed over the
            classes that have fooled images.
        degrees: degrees of freedom, C - 2 for each of these classes.
        p_value: probability of a deviation at least as great, if all wrong classes are equally likely; None if there
            is nothing to test (2 classes, or no fooled images).
        least_expected: least number of images that an even spread puts into a cell; below 5 the p-value is rough.
    """

    counts: np.ndarray
    statistic: float
    degrees: int
    p_value: float | None
    least_expected: float

    @property
    def fooled(self) -> np.ndarray:
        """The number of fooled images of each class, `(C,)`."""
        return self._wrong.sum(axis=1)

    @property
    def shares(self) -> np.ndarray:
        """The share of the fooled images of class i that is predicted as j, `(C, C)`; NaN if none was fooled."""
        fooled = self.fooled[:, None]
        return np.divide(self._wrong, fooled, out=np.full(self.counts.shape, np.nan), where=fooled > 0)

    @property
    def _wrong(self) -> np.ndarray:
        return self.counts * (1 - np.eye(len(self.counts), dtype=int))

    def pairs(self, most: int = 5) -> list[tuple[int, int, float]]:
        """Returns the pairs of the greatest counts: (class, predicted class, share of the fooled images)."""
        first = np.argsort(-self._wrong, axis=None, kind="stable")[:most]
        pairs = np.transpose(np.unravel_index(first, self.counts.shape)).tolist()
        return [(i, j, float(self.shares[i, j])) for i, j in pairs if self._wrong[i, j]]


class Agreement(NamedTuple):
    """Spearman's rank correlation of two `(C, C)` arrays off their diagonals, and its p-value.

    The p-value is one-sided, by permutations of the classes of one array, since its cells are not independent.
    """

    correlation: float
    p_value: float


def hard_classes(
    classifier: Any, data: Any, attack: Any, *, bounds: Bounds = (0.0, 1.0), batch_size: int = 256, seed: int = 0
) -> HardClasses:
    """Counts the predictions of each class after an untargeted attack, and tests whether all are equally likely.

    Images that are wrong before the attack are left out, and so are images without a prediction after it (logits that
    are NaN).

    Args:
        classifier: a classifier with named outputs.
        data: data as `evaluate` takes them; read batch by batch.
        attack: an attack of `tfrobust.attacks`, its name or config, or a callable `(classify, x, y) -> x_adv`.
        bounds: least and greatest pixel value.
        batch_size: batch size of arrays; changes no figure.
        seed: seed of the random starts.

    Returns:
        A `HardClasses`.

    Example:

    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> found = tfrobust.interpret.hard_classes(tfrobust.models.get("digits"), data, tfrobust.attacks.fgsm(eps=0.1))
    >>> found.counts.shape
    (10, 10)

    Reference: thesis, figure 3.1 (PGD-20).
    """
    search = Search(classifier, attack, seed)

    def sent(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        before, after = logits_of(classifier, x), losses.predicted(logits_of(classifier, z))
        counted = (losses.correct(before, y) > 0) & (after >= 0)
        classes = before.shape[-1]
        return tf.math.confusion_matrix(y, ops.maximum(after, 0), classes, weights=ops.cast(counted, "int32"))

    run = graph(sent)
    read = batches([classifier], data, "count of hard classes", (), batch_size, bounds)
    counts, _ = sums(read, lambda batch: {"counts": run(batch.x, batch.y, search(batch))})
    return hard_classes_of(counts["counts"])


def hard_classes_of(counts: Any) -> HardClasses:
    """Returns the `HardClasses` of a table of counts, with the test against an even spread.

    Args:
        counts: `(C, C)`, images of class i (row) that are predicted as j (column) after an attack.

    Returns:
        A `HardClasses`.

    Example:

    >>> found = tfrobust.interpret.hard_classes_of([[5, 30, 0], [15, 5, 15], [0, 0, 9]])
    >>> found.statistic, found.degrees, found.p_value < 1e-6
    (30.0, 2, True)
    """
    counts = np.asarray(counts, "int64")
    classes = len(counts)
    others = counts[~np.eye(classes, dtype=bool)].reshape(classes, classes - 1)
    others = others[others.sum(axis=1) > 0]
    degrees = len(others) * (classes - 2)
    if not degrees:
        return HardClasses(counts, 0.0, 0, None, 0.0)
    statistic = float(stats.chisquare(others, axis=1).statistic.sum())
    least = float(others.sum(axis=1).min() / (classes - 1))
    return HardClasses(counts, statistic, degrees, float(stats.chi2.sf(statistic, degrees)), least)


def mean_probabilities(classifier: Any, data: Any, *, bounds: Bounds = (0.0, 1.0), batch_size: int = 256) -> np.ndarray:
    """Returns the mean softmax probability of class j over the images of class i that are right.

    By the thesis' lemma 1 the input gradient of the cross entropy of class i is a sum over the other classes' w_j, each
    weighted by its probability sigma_j: an untargeted attack leads to the classes of the greatest sigma_j. The lemma is
    for a network that is right; images that are wrong are left out, as `hard_classes` leaves them out.

    Args:
        classifier: a classifier with named outputs.
        data: data as `evaluate` takes them; read batch by batch.
        bounds: least and greatest pixel value.
        batch_size: batch size of arrays; changes no figure.

    Returns:
        `(C, C)` float64, row i for class i; NaN for a class without an image that is right.

    Example:

    >>> data = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> tfrobust.interpret.mean_probabilities(tfrobust.models.get("digits"), data).shape
    (10, 10)

    Reference: thesis, lemma 1.
    """

    def summed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits_of(classifier, x)
        right = losses.correct(logits, y)[:, None]
        own = ops.one_hot(y, logits.shape[-1]) * right  # (B, C), zeros for a wrong image
        probabilities = ops.where(right > 0, ops.softmax(logits), 0.0)  # 0 * NaN would be NaN
        return ops.transpose(own) @ probabilities, ops.sum(own, axis=0)

    run = graph(summed)
    read = batches([classifier], data, "mean of probabilities", (), batch_size, bounds)
    totals, _ = sums(read, lambda batch: dict(zip(("sums", "images"), run(batch.x, batch.y), strict=True)))
    images = totals["images"][:, None]
    return np.divide(totals["sums"], images, out=np.full(totals["sums"].shape, np.nan), where=images > 0)


def class_prototypes(classifier: Any) -> np.ndarray:
    """Returns the head's weight vector of each class; for a sigmoid, the first of two classes has zeros.

    Args:
        classifier: a classifier whose last layer is dense or a normalized cosine softmax.

    Returns:
        `(C, D)` float32.

    Raises:
        ValueError: for a classifier whose last layer has no kernel.

    Example:

    >>> tfrobust.interpret.class_prototypes(tfrobust.models.get("digits")).shape
    (10, 256)
    """
    check_classifier(classifier)
    head = head_of(classifier)
    kernel = getattr(ClassActivationMap(head) if isinstance(head, keras.layers.Dense) else head, "kernel", None)
    if kernel is None or len(kernel.shape) != 2:
        raise InvalidArgument(
            "Class prototypes are the columns of the last dense layer: expected a classifier of tfrobust.models or "
            f"tfrobust.expose(model). Received: logits of the layer {head.name!r} ({type(head).__name__})"
        )
    rows = np.asarray(ops.convert_to_numpy(kernel), "float32").T
    return np.concatenate([np.zeros_like(rows), rows]) if len(rows) == 1 else rows


def weight_norms(classifier: Any) -> np.ndarray:
    """Returns v_j = ||w_j||_2 of each class's prototype.

    Args:
        classifier: a classifier as `class_prototypes` takes it.

    Returns:
        `(C,)` float32.

    Example:

    >>> tfrobust.interpret.weight_norms(tfrobust.models.get("digits")).shape
    (10,)

    Reference: thesis, table 3.1.
    """
    return np.linalg.norm(class_prototypes(classifier), axis=1)


def prototype_cosines(classifier: Any) -> np.ndarray:
    """Returns cos(w_i, w_j) of all classes' prototypes; a prototype of zeros has cosine 0 with all others.

    The thesis calls classes with near prototypes hard pairs: by its lemma 1 an attack leads to the classes of the
    greatest probability (see `mean_probabilities`), and their prototypes lie near the image's features.

    Args:
        classifier: a classifier as `class_prototypes` takes it.

    Returns:
        `(C, C)` float32.

    Example:

    >>> cosines = tfrobust.interpret.prototype_cosines(tfrobust.models.get("digits"))
    >>> bool(np.allclose(cosines, cosines.T)), round(float(cosines[3, 3]), 3)
    (True, 1.0)

    Reference: thesis, lemma 1 and equation 3.8.
    """
    rows = class_prototypes(classifier)
    units = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return units @ units.T


def agreement(shares: Any, predictor: Any, *, permutations: int = 999, seed: int = 0) -> Agreement:
    """Computes Spearman's rank correlation of two `(C, C)` arrays off their diagonals.

    Args:
        shares: an array such as `HardClasses.shares`; cells that are NaN in one of the two are left out.
        predictor: an array such as `mean_probabilities` or `prototype_cosines`.
        permutations: number of permutations of the classes of `predictor`, rows and columns together, for the p-value
            (a Mantel test).
        seed: seed of the permutations.

    Returns:
        An `Agreement`; NaN if an array is constant.

    Raises:
        ValueError: for arrays that do not have the same shape `(C, C)`.

    Example:

    >>> cosines = np.random.default_rng(0).random((6, 6))
    >>> tfrobust.interpret.agreement(np.exp(cosines), cosines).correlation
    1.0
    """
    shares, predictor = (np.asarray(part, "float64") for part in (shares, predictor))
    if shares.shape != predictor.shape or shares.ndim != 2 or shares.shape[0] != shares.shape[1]:
        raise InvalidArgument(f"Expected two arrays (C, C) of one shape. Received: {shares.shape}, {predictor.shape}")
    known = ~np.eye(len(shares), dtype=bool) & ~np.isnan(shares)

    def correlation(theirs: np.ndarray) -> float:
        cells = known & ~np.isnan(theirs)
        if not cells.any():
            return float("nan")
        found = spearman(shares[cells][None], theirs[cells][None])
        return round(float(found[0]), 12)  # so that equal correlations stay equal

    found = correlation(predictor)
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(len(shares)) for _ in range(permutations))
    as_great = sum(correlation(predictor[np.ix_(order, order)]) >= found for order in orders)
    return Agreement(found, (1 + as_great) / (1 + permutations) if np.isfinite(found) else float("nan"))
