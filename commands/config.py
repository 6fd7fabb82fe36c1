"""Parts of all configs: the fields, the rows of tables, and shorthands for values.

A method is data: a table maps each of its rows to the fields that the row sets, on top of those its paper shares.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ml_collections import ConfigDict, config_dict

from commands.cli import Mistake

Settings = Mapping[str, Any]
Rows = Mapping[str, Settings]
Picked = TypeVar("Picked")
Paper = Mapping[str, Sequence[float]]  # row -> its figures
Columns = Sequence[str] | Mapping[str, Sequence[str]]  # labels of figures, for all rows or row -> its labels
GetConfig = Callable[..., ConfigDict]

NO_AUGMENT = {"pad": 0, "flip": False}
SGD = {"name": "sgd", "momentum": 0.9}

# Every field of a run, with the values of most of the papers' rows.
FIELDS: Settings = {
    "seed": 0,
    "data": {
        "name": "cifar10",
        "batch_size": 128,
        "validation": 0.0,  # the share of the training split that is held out
        "augment": {"pad": 4, "flip": True},
        "image_size": config_dict.placeholder(tuple),  # (height, width) that images are resized to
        "steps_per_epoch": config_dict.placeholder(int),  # an epoch shorter, or longer, than a pass over the data
        "cache": "auto",  # whether decoded images are kept in memory: "auto" (up to 1 GiB), "on" or "off"
        "on_error": "raise",  # or "skip": image files that cannot be decoded are left out, and counted in the report
    },
    "model": {},
    "fine_tune": "",  # a .keras file to fine-tune, in place of `model`; every layer is trained that is not `frozen`
    "objective": {},
    "attack": {},
    "search_in_training_mode": False,  # True: BatchNorm takes the batch's statistics while an attack searches
    # "bfloat16": attacks of training search in 16 bits; "auto": "float32", and a resumed run keeps what it began with.
    "search_dtype": "auto",
    "optimizer": SGD,
    # A number, or a Keras schedule over epochs, since papers give epochs and not steps.
    "learning_rate": 0.1,
    "weight_decay": 0.0,  # the update's decay * w, i.e. L2(decay / 2) in the loss
    "weight_decay_on": "kernels",  # or "all": biases and the parameters of BatchNorm decay too, as in PyTorch
    "epochs": 1,
    "frozen": (),  # names of layers that are not trained; "head" is the layer of the logits
    # Fits in sequence, each from the classifier that the previous one kept: dicts that override the fields above.
    # Empty: one fit.
    "phases": (),
    # The figure on validation data by which the kept classifier is chosen; empty keeps the last one.
    "monitor": "",
    "ema": 0.0,  # momentum of averaged weights, which are validated and kept, such as 0.999; 0: none
    "mixed_precision": False,
    "jit_compile": "auto",  # XLA: "on", "off", or "auto", which is on for a GPU
    "steps_per_execution": 1,  # steps in one call from Keras; more steps cost less host time
    # The devices: "auto" is all GPUs where there are several; "none", "mirrored", "multi_worker": docs/distributed.md.
    "strategy": "auto",
    # Modules, or FILE.py, that register what the other fields name; a training adds those that it finds.
    "imports": (),
    # The evaluation on the test split after the training; without attacks there is none.
    "evaluation": {"attacks": "", "norm": "linf"},
    # What `tfrobust beyond` measures, kind -> settings: shifts, corruptions, noise, transfer, distances.
    "tables": {},
    # The paper's figures in percent, by the labels of the evaluation's attacks, of the tables, and `GRADIENT_MAPS`.
    "paper": {},
    "search": {  # read by `tfrobust search` and not by a training: docs/tuning.md
        # Dicts {"field": "objective.beta", "min": 1.0, "max": 20.0, "sampling": "log"} or {"field": ..., "values":
        # [...]}; empty: the weights of the objective.
        "space": (),
        "tuner": "random",  # or "grid", "hyperband", "bayesian"
        "trials": 10,  # number of trials of random and bayesian; grid and hyperband have their own
        "min_clean_accuracy": config_dict.placeholder(float),  # constraint on the winner, on validation data
        "clean_weight": 0.0,  # w in the score w * clean + (1 - w) * robust accuracy
        "hopeless_after": 0,  # epochs after which a trial ends whose robust accuracy is near chance; 0: never
        "finalists": 3,  # number of the best trials that are evaluated again by `standard`; 0: none
    },
}
PARTWISE = ("data", "evaluation", "search")


def build(*settings: Settings) -> ConfigDict:
    """Returns `FIELDS` overridden by the settings in their order, as a copy; fields in `PARTWISE` are merged."""
    merged = copy.deepcopy(dict(FIELDS))
    for setting in settings:
        if unknown := sorted(set(setting) - set(FIELDS)):
            raise Mistake(f"Unknown field: expected one of {', '.join(FIELDS)}. Received: {', '.join(unknown)}")
        for field, value in copy.deepcopy(dict(setting)).items():
            merged[field] = {**merged[field], **value} if field in PARTWISE else value
    return in_order(merged)


def pick(file: str, rows: Mapping[str, Picked], row: str) -> Picked:
    """Returns a row of the table in a config file, whatever it is; a `Mistake` names the known rows."""
    if row not in rows:
        name = os.path.basename(file)
        raise Mistake(f"Unknown row of {name}: expected one of {', '.join(rows)}. Received: {row!r}")
    return rows[row]


def table(file: str, rows: Rows, paper: Paper, columns: Columns, *settings: Settings, default: str) -> GetConfig:
    """Returns the `get_config` of a paper's table: row -> the settings of all rows, those of the row, its figures.

    Args:
        file: the config file, as its `__file__`.
        rows: row -> its fields, which override those of all rows.
        paper: row -> its figures in the order of the columns; the last ones may be missing.
        columns: labels of the figures, for all rows or row -> its labels.
        *settings: fields of all rows; the later ones override the earlier ones.
        default: the row that is taken if none is named.
    """

    def get_config(row: str = default) -> ConfigDict:
        """Returns the configuration of a row."""
        setting = pick(file, rows, row)
        labels = columns[row] if isinstance(columns, Mapping) else columns
        return build(*settings, setting, {"paper": figures(labels[: len(paper[row])], *paper[row])})

    return get_config


def figures(columns: Sequence[str], *values: float) -> dict[str, float]:
    """Returns a row's figures by their columns; the row has a figure for each column."""
    return dict(zip(columns, map(float, values), strict=True))


def objective(name: str, **arguments: Any) -> dict[str, Any]:
    """Returns the field `objective`."""
    return {"objective": {"name": name, **arguments}}


def drops(rate: float, epochs: Sequence[float]) -> dict[str, Any]:
    """Returns the schedule that divides the rate by 10 after each of the epochs."""
    values = [round(rate * 0.1**k, 12) for k in range(len(epochs) + 1)]
    return {"name": "PiecewiseConstantDecay", "boundaries": [float(e) for e in epochs], "values": values}


def linear(first: float, last: float, epochs: float) -> dict[str, Any]:
    """Returns the schedule that changes linearly from `first` to `last` over the epochs, and stays there."""
    ends = {"initial_learning_rate": first, "end_learning_rate": last}
    return {"name": "PolynomialDecay", **ends, "decay_steps": epochs}


def pgd(eps: float, steps: int, step_size: float, start: str = "auto") -> dict[str, Any]:
    """Returns the config of a training attack; the start "auto" is that of the objective, else uniform in the ball."""
    return {"name": "pgd", "eps": eps, "steps": steps, "step_size": step_size, "start": start}


# Directions in which images are shifted, in the order of AELF's tables.
DIRECTIONS = ("left", "right", "up", "down")

# Columns of an evaluation. A column without an eps takes `evaluation.eps`.

FGSM = {"name": "fgsm"}


def pgd_column(steps: int, step_size: float, start: str = "uniform", **more: Any) -> dict[str, Any]:
    """Returns PGD that returns its last iterate, as papers report it."""
    return {"name": "pgd", "steps": steps, "step_size": step_size, "start": start, **more}


def cw_column(steps: int, step_size: float) -> dict[str, Any]:
    """Returns PGD on the margin.

    choice: this is the attack that the field calls "CW" in the Linf ball; the papers only cite Carlini and Wagner 2017.
    """
    return {"name": "cw_linf", "steps": steps, "step_size": step_size, "start": "uniform", "keep": "last"}


def transfer_of(sources: Mapping[str, str], attacks: Settings) -> dict[str, Any]:
    """Returns the `tables` field of a transfer table, whose figures are labelled "SOURCE ATTACK", and as `plain`.

    `sources` are name -> description of a classifier that the user gives, `attacks` are run on each source.
    """
    return {"transfer": {"sources": dict(sources), "attacks": dict(attacks)}}


# Labels of the figures of the gradient-map test of `tfrobust interpret`, in the order of FPR's tables.
GRADIENT_MAPS = tuple(f"gradient maps {split} {form}" for form in ("clipped", "raw") for split in ("train", "test"))


def black_box(eps: float, attacks: Settings, source: str) -> dict[str, Any]:
    """Returns the evaluation by some attacks, and the table of the same attacks on a source that a text describes."""
    return {"evaluation": {"eps": eps, "attacks": attacks}, "tables": transfer_of({"black box": source}, attacks)}


def black_box_columns(attacks: Settings) -> tuple[str, ...]:
    """Returns the labels of the figures of `black_box`."""
    return ("clean", *attacks, *black_box_labels(attacks))


def black_box_labels(attacks: Iterable[str]) -> tuple[str, ...]:
    """Returns the labels of the figures of `black_box` that are of the source's adversaries."""
    return tuple(plain(f"black box {label}") for label in attacks)


def plain(label: str) -> str:
    """Returns the label of a transfer table's row that counts changed images alone, the accuracy that papers print.

    The row without this ending counts the images that are right both clean and changed.
    """
    return f"{label} (plain)"


def in_order(value: Any) -> Any:
    """Returns the `ConfigDict` of a dict that keeps the order of fields and of a table's columns."""
    if not isinstance(value, dict):
        return value
    return ConfigDict({key: in_order(part) for key, part in value.items()}, sort_keys=False)


def completed(fields: Settings) -> dict[str, Any]:
    """Returns a config from JSON with the defaults of what it lacks: fields that are newer than its file."""
    defaults = json.loads(json.dumps(build().to_dict()))
    parts = {name: {**defaults[name], **fields[name]} for name in PARTWISE if isinstance(fields.get(name), Mapping)}
    return {**defaults, **fields, **parts}
