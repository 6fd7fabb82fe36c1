"""AELF, table 4: CIFAR-10, WRN-40-10. Rows: at, rst_0.5, rst_1.0, rst_2.0, trades_1, trades_3, trades_6, the last two
with dropout (trades_3_dropout, trades_6_dropout), st, aelfs (ReLU), st_leaky, aelfs_leaky (the paper's ST*, AELFs*).

Only the last four are the paper's own runs; it took the others' figures from Yang et al. 2020, whose training it does
not describe: choice: its own. LLR, a method that is not in this library, is left out.
"""

from typing import Any

from ml_collections import ConfigDict

from commands import config
from trainers.configs import _aelf

COMMON = {
    "attack": config.pgd(0.031, 10, 0.0062, start="none"),
    "evaluation": {
        "eps": 0.031,
        "attacks": {
            "PGD-10": config.pgd_column(10, 0.0062, start="none"),
            "PGD-10 random start": config.pgd_column(10, 0.0062),  # choice: uniform
        },
    },
}
COLUMNS = ("clean", "PGD-10", "PGD-10 random start")


def wrn(activation: str = "relu", dropout: float = 0.2) -> dict[str, Any]:
    """Returns the network. choice: 10 times wide, as in Yang et al."""
    return {"model": {"name": "wrn_40_10", "dropout": dropout, "activation": activation}}


def rst(beta: float) -> dict[str, Any]:
    """Returns RST without extra data, CE(x) + beta CE(x') on whole batches."""
    weights = {"clean_weight": 1.0, "adversarial_weight": beta}
    return {"objective": {"name": "joint", **weights, "share": 1.0, "beta": 0.0}}


def trades(beta: float) -> dict[str, Any]:
    """Returns TRADES against the table's attack."""
    return _aelf.trades(beta, 0.031, 10, 0.0062)


AELFS = {**_aelf.aelfs(0.5, 0.5, beta=0.2), **_aelf.after(_aelf.STANDARD, "head")}
PLAIN = wrn(dropout=0.0)

ROWS: dict[str, config.Settings] = {
    "at": {"objective": {"name": "madry"}, **PLAIN},
    "rst_0.5": {**rst(0.5), **PLAIN},
    "rst_1.0": {**rst(1.0), **PLAIN},
    "rst_2.0": {**rst(2.0), **PLAIN},
    "trades_1": {**trades(1.0), **PLAIN},
    "trades_3": {**trades(3.0), **PLAIN},
    "trades_6": {**trades(6.0), **PLAIN},
    "trades_3_dropout": {**trades(3.0), **wrn()},
    "trades_6_dropout": {**trades(6.0), **wrn()},
    "st": {**_aelf.STANDARD, **wrn()},
    "aelfs": {**AELFS, **wrn()},
    "st_leaky": {**_aelf.STANDARD, **wrn("leaky_relu")},
    "aelfs_leaky": {**AELFS, **wrn("leaky_relu")},
}

# Clean, PGD-10; the own rows with a random start too.
PAPER = {
    "at": (83.51, 43.51),
    "rst_0.5": (85.11, 39.58),
    "rst_1.0": (84.61, 40.89),
    "rst_2.0": (83.87, 41.75),
    "trades_1": (84.96, 43.66),
    "trades_3": (85.55, 46.63),
    "trades_6": (84.46, 48.58),
    "trades_3_dropout": (86.43, 49.01),
    "trades_6_dropout": (84.69, 52.32),
    "st": (95.33, 0.11, 0.10),
    "aelfs": (90.42, 55.39, 55.46),
    "st_leaky": (95.71, 0.16, 0.15),
    "aelfs_leaky": (90.04, 56.86, 56.80),
}


def get_config(row: str = "aelfs_leaky") -> ConfigDict:
    """Returns the configuration of a row."""
    setting = config.pick(__file__, ROWS, row)
    paper = config.figures(COLUMNS[: len(PAPER[row])], *PAPER[row])
    return config.build(_aelf.COMMON, _aelf.CIFAR, COMMON, setting, {"paper": paper})
