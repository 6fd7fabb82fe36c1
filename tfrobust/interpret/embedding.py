"""Lays out features of clean and of attacked images in two dimensions."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from tfrobust import losses
from tfrobust.interpret.batches import Batch, Search, batches, graph
from tfrobust.utils.errors import invalid
from tfrobust.utils.types import Bounds, Tensor
from tfrobust.utils.validation import check_integer


class Embedding(NamedTuple):
    """Features in two dimensions of N clean images, followed by the attacked ones: M = 2 N rows, or N without attack.

    Args:
        points: `(M, 2)` float32; distances have no unit, and only near neighbours are meaningful.
        labels: true classes, `(M,)` int32.
        predicted: predicted classes, `(M,)` int32; -1 if there is no prediction (logits that are NaN).
        attacked: whether a row is that of an attacked image, `(M,)` bool.
    """

    points: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    attacked: np.ndarray


def embed(
    classifier: Any,
    data: Any,
    attack: Any = None,
    *,
    images: int = 500,
    perplexity: float = 30.0,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
) -> Embedding:
    """Lays the features of clean and attacked images out in two dimensions by t-SNE, both in one map.

    Args:
        classifier: a classifier with the output `features`.
        data: data as `evaluate` takes them; only the first images are read.
        attack: an attack of `tfrobust.attacks`, its name or config, or a callable; None: clean images alone.
        images: number of the data's first images; t-SNE compares each two of them.
        perplexity: about the number of neighbours of a point; for few images at most a third of the rows.
        bounds: least and greatest pixel value.
        batch_size: batch size of arrays.
        seed: seed of the attack's random starts and of t-SNE, which starts from the first two principal components.

    Returns:
        An `Embedding`.

    Raises:
        ValueError: for fewer than 2 images, an invalid attack or data, and a classifier without features.

    Example:

    >>> data = np.random.default_rng(0).random((6, 8, 8, 1), "float32"), np.arange(6)
    >>> tfrobust.interpret.embed(tfrobust.models.get("digits"), data, tfrobust.attacks.fgsm(eps=0.1)).points.shape
    (12, 2)

    Reference: thesis, figure 3.2 (1000 clean images).
    """
    check_integer("images", images, 2)
    search = None if attack is None else Search(classifier, attack, seed)

    def seen(x: Tensor) -> tuple[Tensor, Tensor]:
        outputs = classifier(x, training=False)
        return ops.cast(outputs["features"], "float32"), losses.predicted(outputs["logits"])

    run, left = graph(seen), images
    sides: tuple[list[Any], list[Any]] = ([], [])
    labels = []
    for batch in batches([classifier], data, "map of features", ["features"], batch_size, bounds, endless=True):
        part = Batch(*(tensor[:left] for tensor in batch))
        for side, z in zip(sides, (part.x,) if search is None else (part.x, search(part)), strict=False):
            side.append(run(z))
        labels.append(np.asarray(part.y))
        left -= len(part.y)
        if not left:
            break
    rows = [row for side in sides for row in side]
    features, predicted = (np.concatenate([np.asarray(row[part]) for row in rows]) for part in (0, 1))
    if (count := sum(map(len, labels))) < 2:
        raise invalid("data", "at least 2 images", count)
    y = np.concatenate(labels * (len(rows) // len(labels)))
    return Embedding(_t_sne(features, perplexity, seed), y, predicted, np.arange(len(y)) >= count)


def _t_sne(features: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    flat = features.reshape(len(features), -1)
    neighbours = min(perplexity, max(len(flat) / 3, 1.0))
    start = "pca" if flat.shape[1] > 1 else "random"
    return TSNE(2, perplexity=neighbours, init=start, random_state=seed).fit_transform(flat).astype("float32")
