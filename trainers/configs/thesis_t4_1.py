"""Thesis, table 4.1: what adversarial training costs on MNIST and on CIFAR-10. The number of TRADES is 1/lambda, the
weight of the KL.

The thesis prints neither network nor attack beside the radii. choice: chapter 4's network on MNIST (table 4.2) and
chapter 3's ResNet-18 on CIFAR-10, each with the training of that table; PGD-20 of chapter 3, for the 20 steps of eps/20
in chapter 4 leave several percent of its vanilla networks, and this table has 0.3 and 0.0.
"""

from commands import config
from trainers.configs import _thesis, thesis_t4_2


def pgd_20(eps: float) -> dict[str, config.Settings]:
    """Returns the evaluation by chapter 3's PGD-20."""
    return {"evaluation": {"eps": eps, "attacks": _thesis.columns(eps, ["PGD-20"])}}


SETTINGS: dict[str, config.Settings] = {
    "mnist": {**thesis_t4_2.COMMON, **pgd_20(0.3)},
    "cifar10": {**_thesis.CIFAR, **pgd_20(_thesis.EPS)},
}
METHODS = {
    "vanilla": config.objective("standard"),
    "madry": _thesis.BASELINES["madry"],
    "trades_1": config.objective("trades", beta=1.0),
    "trades_6": _thesis.BASELINES["trades"],
    "mart": _thesis.BASELINES["mart"],
}
ROWS: dict[str, config.Settings] = {
    f"{data}_{name}": {**setting, **method} for data, setting in SETTINGS.items() for name, method in METHODS.items()
}

# Clean, PGD at eps 0.3 on MNIST and 8/255 on CIFAR-10.
PAPER = {
    "mnist_vanilla": (99.3, 0.3),  # its table 4.2 has 18.6, under 20 steps of eps/20
    "mnist_madry": (99.2, 95.6),
    "mnist_trades_1": (99.3, 94.1),
    "mnist_trades_6": (99.3, 96.0),
    "mnist_mart": (99.1, 96.2),
    "cifar10_vanilla": (93.0, 0.0),  # its table 4.3 has 93.7 and 5.6 for a ResNet-50, under 20 steps of eps/20
    "cifar10_madry": (87.3, 47.0),
    "cifar10_trades_1": (86.6, 44.3),
    "cifar10_trades_6": (81.2, 53.5),
    "cifar10_mart": (83.4, 52.8),
}

get_config = config.table(__file__, ROWS, PAPER, ("clean", "PGD-20"), default="cifar10_trades_6")
