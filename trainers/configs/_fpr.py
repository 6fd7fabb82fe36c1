"""FPR-v1 and FPR-v2, feature prioritization and regularization: what their tables share.

choice, for the papers print no schedule: CIFAR and SVHN by that of Madry's CIFAR-10 challenge, whose network and
attack they take: SGD, batch 128, decay 2e-4, crops and flips, rate 0.1 for 40000 updates, 0.01 until 60000, 0.001
until 80000, which are 102, 153 and 205 epochs of CIFAR-10; the last classifier is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from commands import config

# Black box: adversaries of an independently trained copy of the same method with the same configuration.
TWIN = {"black box": "a twin of the same row, trained with --config.seed=1"}

CIFAR = {
    "attack": config.pgd(8 / 255, 5, 2 / 255),  # choice: from a uniform start, as Madry's
    "learning_rate": config.drops(0.1, (102, 153)),
    "weight_decay": 2e-4,
    "epochs": 205,
}
# "The settings are the same as in Madry et al.": those of its MNIST challenge are Adam 1e-4, batches of 50, 100000
# updates (83 epochs), no decay and no augmentation. choice: followed to the letter, for at a rate of 0.1 a network
# without BatchNorm does not begin to learn at eps 0.3.
MNIST_ATTACKS = {"PGD-40": config.pgd_column(40, 0.01)}
MNIST = {
    "data": {"name": "mnist", "batch_size": 50, "augment": config.NO_AUGMENT},
    "model": {"name": "fpr_mnist"},
    "attack": config.pgd(0.3, 40, 0.01),
    "optimizer": {"name": "adam"},
    "learning_rate": 1e-4,
    "epochs": 83,
    "evaluation": {"eps": 0.3, "attacks": MNIST_ATTACKS},
    "tables": config.transfer_of(TWIN, MNIST_ATTACKS),
}
MNIST_COLUMNS = ("clean", "PGD-40", "black box PGD-40")

MADRY = {"name": "madry"}

# choice: steps of 2/255 at every count, uniform starts.
ATTACKS = {
    "PGD-5": config.pgd_column(5, 2 / 255),
    "PGD-20": config.pgd_column(20, 2 / 255),
    "PGD-100": config.pgd_column(100, 2 / 255),
    "PGD-200": config.pgd_column(200, 2 / 255),
    "CW-30": config.cw_column(30, 2 / 255),
    "CW-100": config.cw_column(100, 2 / 255),
}
COLUMNS = ("clean", *ATTACKS, *(f"black box {label}" for label in ATTACKS))


def regularization(weight: float) -> dict[str, Any]:
    """Returns CE(x') + weight * ||f(x) - f(x')||_2."""
    return {"name": "feature_regularization", "weight": weight}


def rows(attention: Sequence[int], suffix: str, width: int = 1) -> dict[str, dict[str, Any]]:
    """Returns the four methods; `suffix` is what the paper calls the regularizer, `attention` the attended blocks."""
    plain = {"name": "madry_resnet", "width": width, "attention": ()}
    attended = {"name": "madry_resnet", "width": width, "attention": tuple(attention)}
    return {
        "madry": {"model": plain, "objective": MADRY},
        f"at_{suffix}": {"model": plain, "objective": regularization(0.1)},
        "at_att": {"model": attended, "objective": MADRY},
        f"at_att_{suffix}": {"model": attended, "objective": regularization(0.01)},
    }


def v2_table(
    file: str, row: str, paper: Mapping[str, Sequence[float]], width: int = 1, data: Mapping[str, Any] | None = None
) -> ConfigDict:
    """Returns a row of one of FPR-v2's large tables, which differ in width, data and figures.

    Args:
        file: the config file.
        row: of the table.
        paper: each row's figures, in the order of `COLUMNS`.
        width: of the network.
        data: what of the data differs from CIFAR-10's.
    """
    setting = config.pick(file, rows((4,), "reg", width), row)
    measured = {"evaluation": {"eps": 8 / 255, "attacks": ATTACKS}, "tables": config.transfer_of(TWIN, ATTACKS)}
    return config.build(CIFAR, setting, {"data": data or {}, **measured, "paper": config.figures(COLUMNS, *paper[row])})
