"""Settings that the tables of FPR-v1 and FPR-v2 (feature prioritization and regularization) share.

choice, for the papers print no schedule: CIFAR and SVHN by that of Madry's CIFAR-10 challenge, whose network and
attack they take: SGD, batch 128, decay 2e-4, crops and flips, rate 0.1 for 40000 updates, 0.01 until 60000, 0.001
until 80000, which are 102, 153 and 205 epochs of CIFAR-10; the last classifier is kept.
"""

from collections.abc import Sequence
from typing import Any

from commands import config

# Black box: adversaries of an independently trained copy of the same method with the same configuration.
TWIN = "a twin of the same row, trained with --config.seed=1"
CIFAR = {
    "attack": config.pgd(8 / 255, 5, 2 / 255),  # choice: from a uniform start, as Madry's
    "learning_rate": config.drops(0.1, (102, 153)),
    "weight_decay": 2e-4,
    "epochs": 205,
}
# choice: steps of 2/255 at every count, uniform starts.
ATTACKS = {
    **{f"PGD-{steps}": config.pgd_column(steps, 2 / 255) for steps in (5, 20, 100, 200)},
    **{f"CW-{steps}": config.cw_column(steps, 2 / 255) for steps in (30, 100)},
}
MADRY = config.objective("madry")


def network(width: int = 1, attended: Sequence[int] = (), **options: Any) -> dict[str, Any]:
    """Returns the papers' residual network.

    choice: "the original ResNet" of four blocks is that of Madry's CIFAR-10 challenge, in the form of his own code.
    """
    attention = tuple(attended)
    return {"model": {"name": "madry_resnet", "width": width, "attention": attention, "original": True, **options}}


def regularization(weight: float) -> dict[str, Any]:
    """Returns CE(x') + weight * ||f(x) - f(x')||_2."""
    return config.objective("feature_regularization", weight=weight)


def natural_table(file: str, rows: config.Rows, paper: config.Paper, default: str) -> config.GetConfig:
    """Returns the `get_config` of networks trained on natural CIFAR-10; the papers print their clean accuracy alone."""
    # choice: the schedule of the other rows, and an attack, which shows that they are not robust.
    measured = {"evaluation": {"eps": 8 / 255, "attacks": {"PGD-5": ATTACKS["PGD-5"]}}}
    return config.table(file, rows, paper, ("clean",), CIFAR, config.objective("standard"), measured, default=default)


def judge(file: str) -> config.GetConfig:
    """Returns the `get_config` of the network that labels gradient maps, "the same Resnet model" on natural images."""
    return natural_table(file, {"judge": network()}, {"judge": (88.79,)}, default="judge")


def mnist_table(file: str, regularized: str) -> config.GetConfig:
    """Returns the `get_config` of table 1, which is the same in both papers but for the name of the regularized row."""
    rows = {"madry": MADRY, regularized: regularization(0.01)}  # 0.001 to 0.05 work as well, says the paper
    # Clean, PGD-40, black box PGD-40.
    paper = {"madry": (98.72, 92.86, 95.97), regularized: (98.66, 95.69, 96.90)}
    attacks = {"PGD-40": config.pgd_column(40, 0.01)}
    # "The settings are the same as in Madry et al.": those of its MNIST challenge are Adam 1e-4, batches of 50, 100000
    # updates (91 epochs of 55000 images, for 5000 are held out), no decay, no augmentation, and weights that start from
    # its own distribution. choice: followed to the letter, for at a rate of 0.1 a network without BatchNorm does not
    # begin to learn at eps 0.3.
    setting = {
        "data": {"name": "mnist", "batch_size": 50, "validation": 5000 / 60000, "augment": config.NO_AUGMENT},
        "model": {"name": "fpr_mnist", "original": True},
        "attack": config.pgd(0.3, 40, 0.01),
        "optimizer": {"name": "adam"},
        "learning_rate": 1e-4,
        "epochs": 91,
        **config.black_box(0.3, attacks, TWIN),
    }
    return config.table(file, rows, paper, config.black_box_columns(attacks), setting, default=regularized)


def resnet_table(
    file: str,
    paper: config.Paper,
    suffix: str = "reg",
    attended: Sequence[int] = (4,),
    attacks: config.Settings = ATTACKS,
    width: int = 1,
    data: config.Settings | None = None,
) -> config.GetConfig:
    """Returns the `get_config` of one of the large tables: four methods on a residual network.

    Args:
        file: the config file.
        paper: row -> figures: clean, the attacks, the attacks as a black box, and those of the gradient-map test.
        suffix: the paper's name of the regularizer.
        attended: blocks with attention.
        attacks: columns of the evaluation.
        width: width of the network.
        data: fields of `data` that differ from those of CIFAR-10.
    """
    plain, attention = network(width), network(width, attended)
    rows = {
        "madry": {**plain, **MADRY},
        f"at_{suffix}": {**plain, **regularization(0.1)},
        "at_att": {**attention, **MADRY},
        f"at_att_{suffix}": {**attention, **regularization(0.01)},
    }
    settings = (CIFAR, {"data": data or {}}, config.black_box(8 / 255, attacks, TWIN))
    columns = (*config.black_box_columns(attacks), *config.GRADIENT_MAPS)
    return config.table(file, rows, paper, columns, *settings, default=f"at_att_{suffix}")
