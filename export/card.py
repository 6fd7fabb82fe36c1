"""The model card of an exported classifier: its data, its training and its evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tfrobust
from commands import provenance
from commands.build import PER_PHASE, given, phases_of
from commands.workdir import Workdir, data_of, read_json
from export import pictures
from export.extra import EXTRA
from tfrobust.classifiers import digest
from tfrobust.evaluation import Report
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.versions import versions

FILE = "model_card.json"
UNEVALUATED = "This classifier was exported without an evaluation: nothing is known of its accuracy under attack."
# Figures of a report on the card.
FIGURES = (
    "clean_accuracy",
    "robust_accuracy",
    "robust_accuracy_8bit",
    "eps",
    "norm",
    "images",
    "seed",
    "alarms",
    "checks",
    "notes",
    "versions",
)
ALL_PHASES = (
    "seed",
    "weight_decay",
    "weight_decay_on",
    "model",
    "fine_tune",
    "mixed_precision",
    "search_dtype",
    "data",
)
OF_A_FIT = (*PER_PHASE, *ALL_PHASES)


class Facts(NamedTuple):
    """Facts for the card that are not in the classifier; None: unknown."""

    class_names: Sequence[str] = ()  # in the order of the labels; empty: numbers
    data: Mapping[str, Any] | None = None  # name and options of its data set, as `tfrobust.data.load` takes them
    training: Mapping[str, Any] | None = None  # objective, attack and settings of each fit, and the code that ran
    report: Report | None = None


def card(classifier: Any, facts: Facts, precision: str) -> dict[str, Any]:
    """Returns the model card, as JSON holds it.

    Raises:
        InvalidArgument: if a weight is not finite, the evaluation is of other weights, or the number of class names is
            wrong.
    """
    _check_finite(classifier)
    weights = digest(classifier)
    if facts.report is not None and facts.report.classifier != weights:
        raise InvalidArgument(
            "The evaluation is of another classifier: expected one of the very weights that are exported (evaluate it "
            f"again). Received: weights {facts.report.classifier or 'of no Keras model'} there, {weights} here"
        )
    classes = classifier.output["logits"].shape[-1]
    names = list(facts.class_names) or [str(label) for label in range(classes)]
    if len(names) != classes:
        raise InvalidArgument(f"Invalid class names: expected {classes}. Received: {len(names)} of the data")
    return {
        "classifier": {
            "name": classifier.name,
            "parameters": classifier.count_params(),
            "weights": weights,
            "precision": precision,
        },
        "input": {
            **dict(zip(("height", "width", "channels"), classifier.input_shape[1:], strict=True)),
            "pixels": "float32 in [0, 1]; NaN and other values are refused",
            "uint8": "0..255",
            "image_bytes": f"PNG or JPEG of at most {pictures.MEGAPIXELS} megapixels, resized to height and width",
        },
        "classes": names,
        "data": facts.data,
        "training": facts.training,
        "evaluation": UNEVALUATED if facts.report is None else _evaluation(facts.report),
        "versions": versions(),
    }


def _check_finite(classifier: Any) -> None:
    """Checks that no weight is NaN or infinite, as those of a training that diverged are."""
    broken = [v.path for v in classifier.variables if not np.isfinite(np.asarray(v, "float64")).all()]
    if broken:
        more = f" and {len(broken) - 1} more variables" if broken[1:] else ""
        raise InvalidArgument(
            "Invalid classifier for an export: expected finite weights. Received: NaN or infinite ones in "
            f"{broken[0]}{more}; train it again, with a smaller learning rate or clipped gradients"
        )


def measured(card: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Returns the card of a file with the file's own evaluation; that of the classifier stands beside it."""
    return {**card, "evaluation": _evaluation(report), "classifier_evaluation": card["evaluation"]}


def _evaluation(report: Report) -> dict[str, Any]:
    """Returns the figures of a report that a user of the classifier needs."""
    results = [{"name": r.name, "settings": r.settings, "accuracy": r.accuracy} for r in report.flat]
    return {**{name: getattr(report, name) for name in FIGURES}, "attacks": results}


def of_run(workdir: Workdir, config: Mapping[str, Any]) -> Facts:
    """Returns the facts of a run: data, settings of every fit, code, and the evaluation if there is one."""
    data = data_of(config)
    return Facts(
        class_names=tfrobust.data.info(**data).class_names,
        data=data,
        training={"fits": [_fit(phase) for phase in phases_of(config)], "code": provenance.read(workdir.provenance)},
        report=Report.load(workdir.evaluation) if workdir.evaluation.is_file() else None,
    )


def _fit(phase: Mapping[str, Any]) -> dict[str, Any]:
    fit, attack = {name: phase[name] for name in OF_A_FIT}, given(phase["attack"])
    fit["objective"] = tfrobust.objectives.get(phase["objective"]).get_config()
    fit["attack"] = tfrobust.attacks.get(attack).get_config() if attack else None
    return fit


def write(version: Path, card: Mapping[str, Any]) -> None:
    """Writes the card into a version."""
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (version / EXTRA / FILE).write_text(text, encoding="utf-8")


def read(version: Path) -> dict[str, Any]:
    """Returns the card of an exported version; raises `FileNotFoundError` if there is none."""
    file = version / EXTRA / FILE
    if not file.is_file():
        raise FileNotFoundError(f"Expected a version that `tfrobust export` wrote, with {file}. Received: no such file")
    return read_json(file)
