"""Measures accuracy under random noise, by its size."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from tfrobust import losses
from tfrobust.attacks import Ball
from tfrobust.attacks import ball as ball_of
from tfrobust.classifiers import in_inference
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.tables.accuracy import Accuracy
from tfrobust.evaluation.tables.table import Table
from tfrobust.utils.errors import invalid
from tfrobust.utils.graph import specs, traced
from tfrobust.utils.random import ImageNoise, stream
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Bounds, Tensor
from tfrobust.utils.validation import check_integer

KINDS = ("uniform", "gaussian")
SIZES = (2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255)  # fractions of the pixel range


def noise(
    classifier: Any,
    data: Any,
    eps: Sequence[float] | None = None,
    kinds: Sequence[str] = KINDS,
    *,
    draws: int = 20,
    norm: str = "linf",
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
    verbose: bool = True,
) -> Table:
    """Measures accuracy under random noise of several sizes, in the mean over many draws and for the worst of them.

    Uniform noise is a point drawn uniformly from the ball of radius eps. Gaussian noise is x + eps * N(0, 1), which eps
    does not bound. Both are clipped to the bounds. The row "... mean" is the share of (image, draw) that is right, the
    row "... worst" the share of images that every draw leaves right, which falls with the number of draws.

    Args:
        classifier, data, norm, bounds, batch_size: as in `evaluate`.
        eps: sizes in units of the pixels; None: 2, 4, 8, 16 and 32 of 255 parts of their range.
        kinds: "uniform", "gaussian" or both.
        draws: number of draws for each image.
        seed: seed of the draws, which are functions of (seed, draw, number of the image) and scale with eps.
        verbose: whether to print a line for each kind.

    Returns:
        A `Table`: a row for the mean and one for the worst of the draws of each kind; columns "clean" and each eps.

    Raises:
        ValueError: for an unknown kind, invalid sizes and counts, and for everything that `evaluate` refuses.

    Example:

    >>> x, y = np.full((4, 8, 8, 1), 0.5, "float32"), np.array([0, 1, 2, 3])
    >>> classifier = tfrobust.models.get("digits")
    >>> tfrobust.evaluation.noise(classifier, (x, y), [0.1], ["uniform"], draws=2, verbose=False).rows
    ('uniform mean', 'uniform worst of 2')
    """
    draws = check_integer("draws", draws)
    sizes = np.array(SIZES) * (bounds[1] - bounds[0]) if eps is None else eps
    radii = [float(radius) for radius in np.atleast_1d(sizes)]
    if not radii:
        raise invalid("value for `eps`", "at least one size", "none")
    if others := [kind for kind in kinds if kind not in KINDS]:
        raise unknown("kind of noise", others[0], KINDS)
    measured = Accuracy(classifier, data, batch_size, bounds)
    clean = float(measured.right().mean())
    figures: dict[str, dict[str, float | None]] = {}
    for index, kind in enumerate(kinds):
        rows = [f"{kind} mean", f"{kind} worst of {draws}"]
        figures.update({row: {"clean": clean} for row in rows})
        for radius in radii:
            draw = noise_of(kind, ball_of(norm, radius, bounds))
            count = times_right(classifier, measured.images, draw, draws, stream(seed, KINDS.index(kind)), batch_size)
            shares = [float(count.mean() / draws), float((count == draws).mean())]
            for row, share in zip(rows, shares, strict=True):
                figures[row][f"{radius:.4g}"] = share
        if verbose:
            print(f"noise, {index + 1} of {len(kinds)} kinds: {kind}", flush=True)
    return Table.from_rows(
        "accuracy under random noise, by eps",
        figures,
        len(measured.images.y),
        seed,
        settings={"eps": radii, "kinds": list(kinds), "draws": draws, "norm": norm, "bounds": list(bounds)},
    )


def noise_of(kind: str, ball: Ball) -> Callable[[Tensor, Any], Tensor]:
    """Returns `(x, noise) -> z`: "uniform" in the ball, or "gaussian" with its radius as the standard deviation."""
    if kind == "uniform":
        return ball.start
    return lambda x, noise: ops.clip(x + ball.radius * noise.normal(x), *ball.bounds)


def times_right(
    classifier: Any, images: Images, draw: Callable[[Tensor, Any], Tensor], draws: int, seed: Tensor, batch_size: int
) -> np.ndarray:
    """Returns how many draws leave each image right, `(N,)`; a loop in a graph makes all draws of a batch."""
    classify = in_inference(classifier)

    def counted(x: Tensor, y: Tensor, numbers: Tensor, seed: Tensor) -> Tensor:
        noise = ImageNoise(seed, numbers)

        def once(number: Tensor, count: Tensor) -> Tensor:
            logits = ops.cast(classify(draw(x, noise.fold(number)))["logits"], "float32")
            return count + ops.cast(losses.correct(logits, y), "float32")

        return ops.fori_loop(0, draws, once, ops.zeros_like(ops.cast(y, "float32")))

    run = traced(counted, *specs(images.x))
    batches = images.batches(np.arange(len(images.y)), batch_size)
    return np.concatenate([np.asarray(run(x, y, packed, seed)) for x, y, packed in batches]).astype("int64")
