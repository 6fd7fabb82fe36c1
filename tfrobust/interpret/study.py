"""Runs all measurements of this package on one or more classifiers, and writes one page and its numbers."""

import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfrobust.data.containers import repeatable
from tfrobust.evaluation.tables.accuracy import check_named
from tfrobust.interpret import sections as _sections
from tfrobust.interpret.sections import Section, Subject
from tfrobust.utils import charts, html
from tfrobust.utils.files import replacing
from tfrobust.utils.registry import unknown
from tfrobust.utils.versions import versions


@dataclasses.dataclass(eq=False, repr=False)
class Study:
    """The result of `study`: sections of figures, tables and numbers.

    Args:
        sections: name -> section, in the order of the page.
        settings: settings of the measurements.
    """

    sections: dict[str, Section]
    settings: dict[str, Any]

    @property
    def numbers(self) -> dict[str, Any]:
        """Settings, the numbers of each section and omissions, ready for JSON; NaN and infinity become None."""
        return _plain(
            {
                "settings": self.settings,
                **{key: section.numbers for key, section in self.sections.items() if section.numbers},
                "left_out": {key: section.missing for key, section in self.sections.items() if section.missing},
            }
        )

    def html(self) -> str:
        """Returns the page as one file without external resources."""
        shown = [
            {
                **section._asdict(),
                "key": key,
                "pictures": [
                    {"uri": charts.uri(drawn.figure), "wide": drawn.wide, "caption": drawn.caption}
                    for drawn in section.figures
                ],
            }
            for key, section in self.sections.items()
        ]
        facts = [(name, _text(value)) for name, value in self.settings.items()]
        return html.render("interpretation.html", names=self.settings["classifiers"], sections=shown, facts=facts)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the page as FILE.html and the numbers as FILE.json; files are replaced only when complete."""
        page, numbers = self.html(), json.dumps(self.numbers, indent=2, allow_nan=False)
        for ending, text in ((".html", page), (".json", numbers + "\n")):
            with replacing(Path(path).with_suffix(ending)) as beside:
                beside.write_text(text, encoding="utf-8")

    def save_pictures(self, folder: str | os.PathLike[str]) -> None:
        """Writes each figure as `SECTION-N.svg`, N from 1; pictures of these names are replaced."""
        for key, section in self.sections.items():
            for number, drawn in enumerate(section.figures, 1):
                with replacing(Path(folder) / f"{key}-{number}.svg") as beside:
                    beside.write_bytes(charts.svg(drawn.figure))


def study(
    classifiers: Mapping[str, Any],
    data: Any,
    *,
    eps: float,
    norm: str = "linf",
    train: Any = None,
    judge: Any = None,
    class_names: Sequence[str] | None = None,
    sections: Sequence[str] = tuple(_sections.ALL),
    shown: int = 6,
    seed: int = 0,
    signs: Sequence[float] = _sections.SIGNS,
    verbose: bool = True,
) -> Study:
    """Runs and draws all measurements of this package, for classifiers side by side.

    Measurements that need an output which a classifier lacks, such as attention, are left out with a sentence.

    Args:
        classifiers: name -> classifier; all have the same classes.
        data: data as `evaluate` takes them, pixels in [0, 1]; read several times, and a generator is kept in memory.
        eps: radius of the attacks in units of the pixels; DRA's mean absolute change is a quarter of it.
        norm: norm of the ball: "linf" or "l2".
        train: images that the classifiers were trained on, for the tests that compare both; None: they are left out.
        judge: a classifier trained on clean images, for the gradient-map test; None: the test is left out.
        class_names: one name for each class; None: their numbers.
        sections: names of the sections to measure: "attention_maps", "class_activation_maps", "gradients",
            "gradient_map_test", "relevance", "hard_classes", "embedding", "coverage", "attacks".
        shown: number of the first images that are drawn.
        seed: seed of random starts, bootstrap, permutations and t-SNE.
        signs: thresholds of the raw |G|, in loss per unit of the pixels, above which the section "gradients" paints the
            sign of G; a row of pictures for each.
        verbose: whether to print a line for each section.

    Returns:
        A `Study`.

    Raises:
        ValueError: without classifiers, for unknown sections, a wrong number of names, and invalid classifiers or data.

    Example:

    >>> data = np.random.default_rng(0).random((6, 8, 8, 1), "float32"), np.arange(6)
    >>> small = {"digits": tfrobust.models.get("digits", features=8)}
    >>> found = tfrobust.interpret.study(small, data, eps=0.1, sections=["coverage"], verbose=False)
    >>> found.numbers["coverage"]["test"]["figures"]["digits"]["0.5"] > 0
    True
    """
    check_named("classifiers", classifiers)
    if others := set(sections) - set(_sections.ALL):
        raise unknown("section", sorted(others)[0], _sections.ALL)
    given = {"test": data} if train is None else {"train": train, "test": data}
    splits = {split: repeatable(images) for split, images in given.items()}
    subject = Subject(dict(classifiers), splits, eps, norm, judge, class_names, shown, seed, signs)
    began = time.perf_counter()
    measured: dict[str, Section] = {}
    for key in (key for key in _sections.ALL if key in sections):
        measured[key] = _sections.ALL[key](subject)
        if verbose:
            print(f"{measured[key].title}: done after {time.perf_counter() - began:.0f} s", flush=True)
    settings = {
        "classifiers": list(classifiers),
        "images": subject.images,
        "eps": float(eps),
        "norm": norm,
        "seed": seed,
        "seconds": time.perf_counter() - began,
        "versions": versions(),
    }
    return Study(measured, settings)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
