"""Measures accuracy under corruptions, by kind and severity."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tfrobust import data as datasets
from tfrobust.evaluation.tables.accuracy import Accuracy
from tfrobust.evaluation.tables.corrupt import KINDS, SEVERITIES, corrupt
from tfrobust.evaluation.tables.table import Table, mean
from tfrobust.utils.errors import invalid_value
from tfrobust.utils.registry import unknown
from tfrobust.utils.text import percent
from tfrobust.utils.types import Bounds

# A data set with stored corrupted copies, and their name in TensorFlow Datasets.
STORED = {"cifar10": "cifar10_corrupted/{kind}_{severity}"}
# The kinds over which Hendrycks and Dietterich average, and their four extra ones, as TensorFlow Datasets spells them.
CIFAR_10_C = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "frosted_glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic", "pixelate", "jpeg_compression"),
)
EXTRA = ("gaussian_blur", "saturate", "spatter", "speckle_noise")


def corruptions(
    classifier: Any,
    data: Any,
    kinds: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    *,
    bounds: Bounds = (0.0, 1.0),
    batch_size: int = 256,
    seed: int = 0,
    verbose: bool = True,
) -> Table:
    """Measures accuracy on corrupted images: a row for each kind, a column for each severity, and their means.

    For the data set "cifar10", given by its name, the stored copies are read: CIFAR-10-C (Hendrycks and Dietterich
    2019, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations), through TensorFlow Datasets.
    All other images are corrupted by `corrupt`: the families of kinds are the same, but the images are not CIFAR-10-C,
    and the figures of the two cannot be compared. The row "mean" is over the kinds, without "clean".

    Args:
        classifier, bounds, batch_size: as in `evaluate`.
        data: name of a data set, whose test split is read and brought to the bounds, or data as `evaluate` takes them.
        kinds: names of corruptions; None: all (of CIFAR-10-C its 15, without the 4 extra ones: gaussian_blur, saturate,
            spatter, speckle_noise).
        severities: severities from 1 to 5.
        seed: seed of the random numbers, which are functions of (seed, kind, number of the image).
        verbose: whether to print a line for each kind.

    Returns:
        A `Table`: rows "clean", the kinds, "mean"; columns the severities, "mean".

    Raises:
        ValueError: for unknown kinds and severities, and for everything that `evaluate` refuses.
        OSError: if CIFAR-10-C is not stored and cannot be downloaded.

    Example:

    >>> x, y = np.random.default_rng(0).random((4, 8, 8, 1), "float32"), np.array([0, 1, 2, 3])
    >>> classifier = tfrobust.models.get("digits")
    >>> table = tfrobust.evaluation.corruptions(classifier, (x, y), ["fog"], [1, 5], verbose=False)
    >>> table.rows, table.columns
    (('clean', 'fog', 'mean'), ('1', '5', 'mean'))
    """
    stored = STORED.get(data) if isinstance(data, str) else None
    kinds = _known(kinds, CIFAR_10_C if stored else tuple(KINDS), (*CIFAR_10_C, *EXTRA) if stored else tuple(KINDS))
    severities = _severities(severities)

    def on(name: str) -> Accuracy:
        loaded = datasets.load(name, "test", batch_size=batch_size)
        return Accuracy(classifier, _within(bounds, loaded), batch_size, bounds)

    measured = on(data) if isinstance(data, str) else Accuracy(classifier, data, batch_size, bounds)

    def accuracy(kind: str, severity: int) -> float:
        if stored:
            return float(on(stored.format(kind=kind, severity=severity)).right().mean())

        def change(x: Any, numbers: Any) -> Any:
            return corrupt(x, kind, severity, seed=seed, numbers=numbers, bounds=bounds)

        return float(measured.right(change).mean())

    columns = [str(severity) for severity in severities]
    clean = float(measured.right().mean())
    figures: dict[str, dict[str, float | None]] = {"clean": dict.fromkeys([*columns, "mean"], clean)}
    for kind in kinds:
        row = [accuracy(kind, severity) for severity in severities]
        figures[kind] = dict(zip([*columns, "mean"], [*row, mean(row)], strict=True))
        if verbose:
            print(f"{kind}: {', '.join(map(percent, row))}", flush=True)
    figures["mean"] = {column: mean([figures[kind][column] for kind in kinds]) for column in figures["clean"]}
    note = "CIFAR-10-C." if stored else "The families of CIFAR-10-C made by tfrobust; not CIFAR-10-C itself."
    return Table.from_rows(
        "accuracy under corruptions, by severity",
        figures,
        len(measured.images.y),
        seed,
        settings={"data": data if isinstance(data, str) else "arrays", "kinds": kinds, "severities": severities},
        notes=(note,),
    )


def _within(bounds: Bounds, data: Any) -> Any:
    """Returns a loaded data set, whose pixels are fractions, with pixels within the bounds."""
    low, high = bounds
    return data if (low, high) == (0.0, 1.0) else data.map(lambda x, y: (low + (high - low) * x, y))


def _known(kinds: Sequence[str] | None, all_of_them: Sequence[str], known: Sequence[str]) -> list[str]:
    if isinstance(kinds, str) or (kinds is not None and not len(kinds)):
        raise invalid_value("kinds", "a list of names, or None for all", kinds)
    if others := [kind for kind in kinds or () if kind not in known]:
        raise unknown("kind of corruption", others[0], known)
    return list(all_of_them if kinds is None else kinds)


def _severities(severities: Sequence[int]) -> list[int]:
    given = list(np.atleast_1d(severities))
    if not given or any(severity not in SEVERITIES for severity in given):
        raise invalid_value("severities", "integers from 1 to 5", severities)
    return [int(severity) for severity in given]
