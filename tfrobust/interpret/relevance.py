"""Measures whether the positions whose features an attack moves least have the most attention."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops
from scipy import stats

from tfrobust.interpret.batches import Batch, Search, batches, graph, sums
from tfrobust.utils.types import Bounds, Tensor

RESAMPLES = 999  # number of resamples of the bootstrap
AT_ONCE = 10**7  # numbers that the bootstrap draws at a time


class Relevance(NamedTuple):
    """Attention by robustness rank of one block with P positions.

    Args:
        attention: mean attention weight of the position of each rank, `(P,)`; rank 0 moves least, P - 1 most.
        distance: mean L2 distance of the local features of each rank, `(P,)`.
        correlation: mean over the images of Spearman's rank correlation between a position's distance and its
            attention weight, in [-1, 1]; negative if robust positions have more attention.
        low: lower bound of the correlation's interval; see `attention_against_robustness`.
        high: upper bound of the correlation's interval.
        images: number of images.
        undefined: number of images left out of the correlation, since all their distances or weights are equal.
    """

    attention: np.ndarray
    distance: np.ndarray
    correlation: float
    low: float
    high: float
    images: int
    undefined: int


def attention_against_robustness(
    classifier: Any,
    data: Any,
    attack: Any,
    *,
    confidence: float = 0.95,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
) -> dict[str, Relevance]:
    """Averages the attention weights of positions ranked by how far an attack moves their features, for each block.

    The distance of a position n is ||l_n(x') - l_n(x)||_2; the weight is that of the clean image. Each image ranks its
    own positions. The interval of the correlation is a percentile bootstrap over the images (`scipy.stats.bootstrap`,
    999 resamples): positions of one image are not independent, images are.

    Args:
        classifier: a classifier with the outputs `attention` and `local_features`.
        data: data as `evaluate` takes them; read batch by batch.
        attack: an attack of `tfrobust.attacks`, its name or config, or a callable `(classify, x, y) -> x_adv`.
        confidence: confidence level of the interval.
        bounds: least and greatest pixel value.
        batch_size: batch size of arrays; changes no figure.
        seed: seed of the random starts and of the bootstrap.

    Returns:
        block -> `Relevance`.

    Raises:
        ValueError: for a classifier without attention (the error says which one to build), and invalid attacks or data.

    Example:

    >>> classifier = tfrobust.models.get("madry_resnet", input_shape=(8, 8, 3), attention=(3,))
    >>> data = np.random.default_rng(0).random((4, 8, 8, 3), "float32"), np.array([0, 1, 2, 3])
    >>> found = tfrobust.interpret.attention_against_robustness(classifier, data, tfrobust.attacks.fgsm(eps=0.1))
    >>> found["block3"].attention.shape
    (16,)

    Reference: FPR-v2, figure 2.
    """
    search = Search(classifier, attack, seed)

    def moved(x: Tensor, z: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        clean, adv = (classifier(pixels, training=False) for pixels in (x, z))
        pairs = {}
        for block, weights in clean["attention"].items():
            before, after = (ops.cast(side["local_features"][block], "float32") for side in (clean, adv))
            distance = ops.sqrt(ops.sum(ops.square(after - before), axis=-1))
            pairs[block] = tuple(ops.reshape(part, (ops.shape(x)[0], -1)) for part in (distance, weights))
        return pairs

    run = graph(moved)
    correlations: dict[str, list[np.ndarray]] = {}

    def measure(batch: Batch) -> dict[str, list[np.ndarray]]:
        """Returns the sums over the images of attention and distance by rank, for each block."""
        ranked = {}
        for block, (distance, weights) in run(batch.x, search(batch)).items():
            distance, weights = np.asarray(distance), np.asarray(weights)
            order = distance.argsort(axis=1, kind="stable")
            sorted_by_rank = (np.take_along_axis(part, order, 1) for part in (weights, distance))
            ranked[block] = [part.sum(axis=0, dtype="float64") for part in sorted_by_rank]
            correlations.setdefault(block, []).append(spearman(distance, weights))
        return ranked

    needs = ["attention", "local_features"]
    read = batches([classifier], data, "comparison of attention and robustness", needs, batch_size, bounds)
    totals, images = sums(read, measure)
    found = {}
    for block, total in totals.items():
        every = np.concatenate(correlations[block])
        defined = every[~np.isnan(every)]
        interval = _mean_with_interval(defined, confidence, seed)
        attention, distance = total / images
        found[block] = Relevance(attention, distance, *interval, images=images, undefined=images - len(defined))
    return found


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns Spearman's rank correlation of each row of two arrays `(N, P)`, `(N,)`; NaN where a row is constant."""
    a, b = (stats.rankdata(part, axis=1) for part in (a, b))  # equal values share their mean rank
    a, b = (part - part.mean(axis=1, keepdims=True) for part in (a, b))
    sizes = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return np.divide((a * b).sum(axis=1), sizes, out=np.full(len(a), np.nan), where=sizes > 0)


def _mean_with_interval(values: np.ndarray, confidence: float, seed: int) -> tuple[float, float, float]:
    if len(values) < 2:  # nothing to resample
        mean = float(values.mean()) if len(values) else float("nan")
        return mean, float("nan"), float("nan")
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, AT_ONCE // len(values)),
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(values.mean()), float(interval.low), float(interval.high)
