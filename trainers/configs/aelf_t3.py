"""AELF, table 3: CIFAR-10, CNN_B. A row's number is TRADES' beta, or the weight of the clean cross entropy (jt_0.4 has
0.4 : 0.6)."""

from commands import config
from trainers.configs import _aelf

COMMON = {
    # choice: one activation for all rows; the table that describes CNN_B is lost.
    "model": {"name": "cnn_b", "activation": "leaky_relu"},
    "attack": config.pgd(0.031, 5, 0.01, start="none"),
    "weight_decay": 2e-4,  # "because CNN_B is very small"
    "evaluation": {
        "eps": 0.031,
        "attacks": {
            "PGD-5": config.pgd_column(5, 0.01, start="none"),
            "PGD-10": config.pgd_column(10, 0.005, start="none"),
        },
    },
}
WEIGHTS = {"0.4": (0.4, 0.6), "0.5": (0.5, 0.5), "0.6": (0.6, 0.4)}
FIRST = _aelf.after(_aelf.STANDARD)
FROZEN = _aelf.after(_aelf.STANDARD, "head")

ROWS: dict[str, config.Settings] = {
    "st": _aelf.STANDARD,
    "at": config.objective("madry"),
    **{f"trades_{beta}": _aelf.trades(float(beta), 0.031, 5, 0.01) for beta in (1, 2, 3)},
    **{f"jt_{name}": _aelf.joint(*weights) for name, weights in WEIGHTS.items()},
    **{f"jt_star_{name}": {**_aelf.joint(*weights, 0.5), **FIRST} for name, weights in WEIGHTS.items()},
    **{f"aelfs_{name}": {**_aelf.joint(*weights, 0.5, "aelfs"), **FROZEN} for name, weights in WEIGHTS.items()},
}

PAPER = {
    "st": (92.08, 0.0, 0.0),
    "at": (81.16, 42.07, 41.39),
    "trades_1": (83.04, 40.28, 39.66),
    "trades_2": (81.18, 43.98, 43.55),
    "trades_3": (79.14, 44.93, 44.63),
    "jt_0.4": (83.27, 40.26, 39.60),
    "jt_0.5": (84.38, 38.77, 38.01),
    "jt_0.6": (84.85, 37.86, 37.14),
    "jt_star_0.4": (83.63, 43.60, 42.99),
    "jt_star_0.5": (84.63, 42.08, 41.35),
    "jt_star_0.6": (86.10, 40.37, 39.63),
    "aelfs_0.4": (83.77, 45.90, 45.45),
    "aelfs_0.5": (85.77, 43.85, 43.25),
    "aelfs_0.6": (86.75, 40.90, 40.07),
}

COLUMNS = ("clean", "PGD-5", "PGD-10")

get_config = config.table(__file__, ROWS, PAPER, COLUMNS, _aelf.CIFAR, COMMON, default="aelfs_0.5")
