"""Writes a version of an exported classifier: the network's files, its model card, class names and hashes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from export.card import Facts
    from tfrobust.evaluation import Report

CLASS_NAMES = "assets/class_names.txt"


class Network(NamedTuple):
    """A network to write, and where."""

    classifier: Any
    precision: str
    folder: Path  # of the version
    name: str  # of the model
    samples: np.ndarray | None  # images (N, H, W, C) by which integers are scaled; None: there are no integers


class Format(NamedTuple):
    """A format of files that a classifier is exported to."""

    folder: str  # of the versions in a run's folder
    precisions: Mapping[str, str]  # and what each of them means, for the help of the command
    write: Callable[[Network], None]
    sampled: tuple[str, ...] = ()  # precisions that need samples
    measured: bool = True  # whether the file is evaluated by itself, since its runtime is not that of the classifier


def write_version(
    form: Format,
    classifier: Any,
    out: str | os.PathLike[str],
    facts: Facts | None = None,
    precision: str = "float32",
    *,
    samples: np.ndarray | None = None,
    measure: Callable[[Path], Report] | None = None,
) -> Path:
    """Writes the classifier to `out/N`, N the next free version number, in one atomic step.

    Args:
        form: The format.
        classifier: A Keras model with named outputs, `logits` among them, on images of one size.
        out: Folder of the versions, created if it is missing.
        facts: Facts for the card; None: nothing is known.
        precision: One of the format's.
        samples: Images (N, H, W, C) in [0, 1] by which a quantized network scales its integers.
        measure: Returns the report of the network in a version's folder, for its card; None: the card has the
            report of the classifier alone.

    Returns:
        The path of the new version.

    Raises:
        InvalidArgument: if the classifier, the precision or the samples are invalid, or the facts are of another
            classifier.
        OSError: if the folder cannot be written.
    """
    from export import card as _card
    from export import extra
    from tfrobust.classifiers import check_classifier
    from tfrobust.utils import graph as backend
    from tfrobust.utils.errors import invalid
    from tfrobust.utils.registry import unknown

    backend.require("The export")
    check_classifier(classifier, reader="export")
    shape = classifier.input_shape[1:]
    if None in shape:
        raise invalid("classifier for the export", "images of one size", f"(H, W, C) = {shape}")
    if precision not in form.precisions:
        raise unknown("precision", precision, form.precisions)
    if precision in form.sampled and (samples is None or not len(samples) or samples.shape[1:] != shape):
        received = None if samples is None else samples.shape
        raise invalid("samples", f"images (N, {', '.join(map(str, shape))}) for {precision}", received)
    kept = samples if precision in form.sampled else None
    card = _card.card(classifier, facts or _card.Facts(), precision)
    with _next_version(Path(out)) as (version, beside):
        for folder in (beside / extra.EXTRA, (beside / CLASS_NAMES).parent):
            folder.mkdir(parents=True)
        (beside / CLASS_NAMES).write_text("".join(f"{name}\n" for name in card["classes"]), encoding="utf-8")
        form.write(Network(classifier, precision, beside, Path(out).resolve().name, kept))
        if measure is not None:
            card = _card.measured(card, measure(beside))
        _card.write(beside, card)
        extra.write_sums(beside)
    return version


@contextlib.contextmanager
def _next_version(out: Path) -> Iterator[tuple[Path, Path]]:
    """Yields the folder of the next version and the one beside it that becomes it at the end of the block.

    Exports to one folder come one after the other, so that what is incomplete there was left by one that was killed.
    """
    from tfrobust.utils.files import locked, replacing, sweep

    with locked(out) as alone:
        if alone:
            sweep(out)
        taken = (int(path.name) for path in out.iterdir() if path.name.isdecimal())
        version = out / str(max(taken, default=0) + 1)
        with replacing(version) as beside:
            yield version, beside
