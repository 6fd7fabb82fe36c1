"""What all configs share: the fields, how a row is laid over them, shorthands for their values.

A method is data: a table is a mapping from its rows to what they set, laid over what their paper has in common.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, config_dict

from commands.cli import Mistake

Settings = Mapping[str, Any]

NO_AUGMENT = {"pad": 0, "flip": False}
SGD = {"name": "sgd", "momentum": 0.9}

# Every field of a run. The values are those that most of the papers' rows have.
FIELDS: Settings = {
    "seed": 0,
    "data": {
        "name": "cifar10",
        "batch_size": 128,
        "validation": 0.0,  # the share of train that is held out
        "augment": {"pad": 4, "flip": True},
        "image_size": config_dict.placeholder(tuple),  # (height, width) that images are resized to
        "steps_per_epoch": config_dict.placeholder(int),  # an epoch shorter, or longer, than a pass over the data
    },
    "model": {},
    "fine_tune": "",  # a .keras file to go on with, in place of `model`; all of it is trained but what is `frozen`
    "objective": {},
    "attack": {},
    "search_in_training_mode": False,  # True: BatchNorm takes the batch's statistics while an attack searches
    "optimizer": SGD,
    # A number, or a Keras schedule over epochs, for papers give epochs, not steps.
    "learning_rate": 0.1,
    "weight_decay": 0.0,  # the update's decay * w on kernels, i.e. L2(decay / 2) in the loss
    "epochs": 1,
    "frozen": (),  # layers that are not trained; "head" is the one that gives the logits
    # Fits, each from what the one before kept: dicts of what differs from the fields above. None: one fit.
    "phases": (),
    # What the kept classifier is chosen by, on validation data; empty keeps the last.
    "monitor": "",
    "ema": 0.0,  # momentum of the averages of the weights that are validated and kept, such as 0.999; 0: none
    "mixed_precision": False,
    "jit_compile": "auto",  # XLA: "on", "off", or "auto", which is on for a GPU
    "steps_per_execution": 1,  # steps between two looks of Keras; more take less of the host's time
    # The devices: "auto" is all GPUs where there are several; "none", "mirrored", "multi_worker": docs/distributed.md.
    "strategy": "auto",
    # On the test split, when the training is done; no attacks, no evaluation.
    "evaluation": {"attacks": "", "norm": "linf"},
    # What trainers.beyond measures, kind -> settings: shifts, corruptions, noise, transfer, distances.
    "tables": {},
    "paper": {},  # the row's figures in percent, under the labels of the evaluation's attacks and of the tables
    "search": {  # of tuning.search; a training does not read it: docs/tuning.md
        # Dicts {"field": "objective.beta", "min": 1.0, "max": 20.0, "sampling": "log"} or {"field": ..., "values":
        # [...]}; none: the weights of the objective itself.
        "space": (),
        "tuner": "random",  # or grid, hyperband, bayesian
        "trials": 10,  # of random and bayesian; a grid has its points, hyperband what its epochs give
        "min_clean_accuracy": config_dict.placeholder(float),  # of the winner, on validation data
        "clean_weight": 0.0,  # w in the score w * clean + (1 - w) * robust accuracy
        "hopeless_after": 0,  # epochs after which a trial that is robust no better than by chance ends; 0: never
        "finalists": 3,  # the best trials, which are evaluated again by `standard`; 0: none
    },
}
PARTWISE = ("data", "evaluation", "search")


def build(*settings: Settings) -> ConfigDict:
    """Lays settings over `FIELDS`, the later over the earlier; nothing of theirs is shared with the result.

    Args:
        *settings: fields and their values. `data` and `evaluation` are set part by part, any other field as a whole.

    Raises:
        Mistake: for a field that no run reads.
    """
    merged = copy.deepcopy(dict(FIELDS))
    for setting in settings:
        if unknown := sorted(set(setting) - set(FIELDS)):
            raise Mistake(f"Unknown field: expected one of {', '.join(FIELDS)}. Received: {', '.join(unknown)}")
        for field, value in copy.deepcopy(dict(setting)).items():
            merged[field] = {**merged[field], **value} if field in PARTWISE else value
    return _in_order(merged)


def pick(file: str, rows: Mapping[str, Settings], row: str) -> Settings:
    """Returns what a row of a table sets.

    Args:
        file: the config file, as its `__file__`.
        rows: the table.
        row: its row's name.

    Raises:
        Mistake: for an unknown row; it lists the known ones.
    """
    if row not in rows:
        name = os.path.basename(file)
        raise Mistake(f"Unknown row of {name}: expected one of {', '.join(rows)}. Received: {row!r}")
    return rows[row]


def figures(columns: Sequence[str], *values: float) -> dict[str, float]:
    """Returns a row's figures by their columns; a column that the row lacks is not a figure: an error."""
    return dict(zip(columns, map(float, values), strict=True))


def drops(rate: float, epochs: Sequence[float], factor: float = 0.1) -> dict[str, Any]:
    """Returns the schedule that multiplies the rate by `factor` after each of the epochs."""
    values = [round(rate * factor**k, 12) for k in range(len(epochs) + 1)]
    return {"name": "PiecewiseConstantDecay", "boundaries": [float(e) for e in epochs], "values": values}


def falls(first: float, last: float, epochs: float) -> dict[str, Any]:
    """Returns the schedule that goes linearly from `first` to `last`."""
    return {
        "name": "PolynomialDecay",
        "initial_learning_rate": first,
        "decay_steps": epochs,
        "end_learning_rate": last,
    }


def pgd(eps: float, steps: int, step_size: float, start: str = "auto") -> dict[str, Any]:
    """Returns the config of a training attack; "auto" is the objective's own start, else uniform in the ball."""
    return {"name": "pgd", "eps": eps, "steps": steps, "step_size": step_size, "start": start}


# Where images are shifted to, in the order of AELF's tables.
DIRECTIONS = ("left", "right", "up", "down")

# Columns of an evaluation. Those without an eps take `evaluation.eps`.

FGSM = {"name": "fgsm"}


def pgd_column(steps: int, step_size: float, start: str = "uniform", **more: Any) -> dict[str, Any]:
    """Returns PGD with its last iterate, as papers report it."""
    return {"name": "pgd", "steps": steps, "step_size": step_size, "start": start, **more}


def cw_column(steps: int, step_size: float) -> dict[str, Any]:
    """Returns PGD on the margin.

    choice: it is what the field runs as "CW" in the Linf ball; the papers only cite Carlini and Wagner 2017.
    """
    return {"name": "cw_linf", "steps": steps, "step_size": step_size, "start": "uniform", "keep": "last"}


def transfer_of(sources: Mapping[str, str], attacks: Settings) -> dict[str, Any]:
    """Returns the `tables` of a transfer table; its figures stand under "SOURCE ATTACK".

    Args:
        sources: name -> what classifier the user has to give, in words.
        attacks: label -> attack, made on each source.
    """
    return {"transfer": {"sources": dict(sources), "attacks": dict(attacks)}}


def _in_order(value: Any) -> Any:
    """Returns the `ConfigDict` of a dict that keeps the order, of fields and of a table's columns."""
    if not isinstance(value, dict):
        return value
    return ConfigDict({key: _in_order(part) for key, part in value.items()}, sort_keys=False)
