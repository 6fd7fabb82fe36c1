"""AELF, table 4: CIFAR-10, WRN-40-10. `_leaky` is leaky ReLU (the paper's ST*, AELFs*).

Only the last four rows are the paper's own runs; it took the others' figures from Yang et al. 2020, whose training it
does not describe: choice: its own. LLR, a method that is not in this library, is left out.
"""

from typing import Any

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


def wrn(activation: str = "relu", dropout: float = 0.2) -> dict[str, Any]:
    """Returns the network. choice: 10 times wide, as in Yang et al."""
    return {"model": {"name": "wrn_40_10", "dropout": dropout, "activation": activation}}


def rst(beta: float) -> dict[str, Any]:
    """Returns RST without extra data, CE(x) + beta CE(x') on whole batches, and without dropout."""
    return {**_aelf.joint(1.0, beta, share=1.0), **wrn(dropout=0.0)}


def trades(beta: float, dropout: float) -> dict[str, Any]:
    """Returns TRADES against the table's attack."""
    return {**_aelf.trades(beta, 0.031, 10, 0.0062), **wrn(dropout=dropout)}


ROWS: dict[str, config.Settings] = {
    "at": {**config.objective("madry"), **wrn(dropout=0.0)},
    **{f"rst_{beta}": rst(beta) for beta in (0.5, 1.0, 2.0)},
    **{f"trades_{beta}": trades(float(beta), dropout=0.0) for beta in (1, 3, 6)},
    **{f"trades_{beta}_dropout": trades(float(beta), dropout=0.2) for beta in (3, 6)},
    "st": {**_aelf.STANDARD, **wrn()},
    "aelfs": {**_aelf.AELFS, **wrn()},
    "st_leaky": {**_aelf.STANDARD, **wrn("leaky_relu")},
    "aelfs_leaky": {**_aelf.AELFS, **wrn("leaky_relu")},
}

# Clean, PGD-10; the paper's own rows with a random start too.
PAPER: dict[str, tuple[float, ...]] = {
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
COLUMNS = ("clean", "PGD-10", "PGD-10 random start")

get_config = config.table(__file__, ROWS, PAPER, COLUMNS, _aelf.CIFAR, COMMON, default="aelfs_leaky")
