"""Thesis, table 4.3: CIFAR-10, ResNet-50. The number of TRADES is 1/lambda, the weight of the KL."""

from commands import config
from trainers.configs import _thesis

TRADES = {"attack": config.pgd(0.031, 10, 0.007), **_thesis.SCHEDULE}  # choice: its authors' attack
ROWS: dict[str, config.Settings] = {
    "vanilla": {**TRADES, **_thesis.STANDARD},
    "trades_0.05": {**config.objective("trades", beta=0.05), **TRADES},
    "trades_0.01": {**config.objective("trades", beta=0.01), **TRADES},
    "dra": _thesis.fine_tuning(_thesis.dra(_thesis.FALLING)),
}

# Clean, PGD at 2/255, 5/255, 8/255.
PAPER = {
    "vanilla": (93.7, 45.0, 15.9, 5.6),  # its table 4.1 has 93.0 and 0.0 at 8/255
    "trades_0.05": (91.4, 53.5, 25.8, 8.6),
    "trades_0.01": (92.6, 49.4, 19.2, 6.3),
    "dra": (93.8, 64.9, 31.0, 10.9),
}

get_config = _thesis.resnet_table(__file__, ROWS, PAPER)
