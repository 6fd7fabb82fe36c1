"""AELF, table 6: table 2 in 30 epochs. Rows: st, at, jt, aelfs."""

from ml_collections import ConfigDict

from commands import config
from trainers.configs import _aelf

SCHEDULE = {"learning_rate": config.drops(0.1, (10, 20)), "epochs": 30}
ROWS = _aelf.mnist_rows(SCHEDULE)

# Clean and shifted left, right, up, down; the same attacked.
PAPER = {
    "st": (99.60, 98.57, 96.07, 94.55, 93.04, 0.0, 0.0, 0.0, 0.0, 0.0),
    "at": (99.31, 92.33, 90.87, 60.32, 64.22, 93.35, 67.66, 67.75, 24.43, 30.40),
    "jt": (99.29, 92.79, 93.99, 68.28, 67.68, 92.97, 68.80, 72.93, 27.05, 32.67),
    "aelfs": (99.27, 95.67, 93.52, 77.18, 80.89, 93.39, 77.19, 74.40, 48.68, 45.12),
}


def get_config(row: str = "aelfs") -> ConfigDict:
    """Returns the configuration of a row."""
    setting = config.pick(__file__, ROWS, row)
    paper = config.figures(_aelf.MNIST_COLUMNS, *PAPER[row])
    return config.build(_aelf.COMMON, _aelf.mnist(SCHEDULE), setting, {"paper": paper})
