"""AELF, table 5: CIFAR-100, WRN-28-10. `_leaky` is leaky ReLU (the paper's ST*, AELFs*).

The figures of at and trades_6 are those of Song et al. 2020 on an "irregular network, WRN-32"; choice: WRN-28-10 here
too, for a wide ResNet has 6n + 4 layers. Its RLFAT, a method that is not in this library, is left out.
"""

from typing import Any

from commands import config
from trainers.configs import _aelf

COMMON = {
    "data": {"name": "cifar100"},
    # choice: the attack of the evaluation, for that of the training is not printed.
    "attack": config.pgd(0.03, 7, 0.0075, start="none"),
    "evaluation": {"eps": 0.03, "attacks": {"PGD-7": config.pgd_column(7, 0.0075, start="none")}},
}


def wrn(activation: str = "relu") -> dict[str, Any]:
    """Returns the network. choice: 10 times wide, no dropout, for the text names neither."""
    return {"model": {"name": "wrn_28_10", "dropout": 0.0, "activation": activation}}


ROWS: dict[str, config.Settings] = {
    "at": {**config.objective("madry"), **wrn()},
    "trades_6": {**_aelf.trades(6.0, 0.03, 7, 0.0075), **wrn()},
    "st": {**_aelf.STANDARD, **wrn()},
    "aelfs": {**_aelf.AELFS, **wrn()},
    "st_leaky": {**_aelf.STANDARD, **wrn("leaky_relu")},
    "aelfs_leaky": {**_aelf.AELFS, **wrn("leaky_relu")},
}

# Clean, PGD-7.
PAPER = {
    "at": (55.86, 23.32),
    "trades_6": (52.13, 27.26),
    "st": (80.27, 0.14),
    "aelfs": (65.08, 26.69),
    "st_leaky": (80.20, 0.11),
    "aelfs_leaky": (65.17, 27.11),
}

get_config = config.table(__file__, ROWS, PAPER, ("clean", "PGD-7"), _aelf.CIFAR, COMMON, default="aelfs_leaky")
