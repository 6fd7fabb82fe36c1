"""AELF, table 2: MNIST at 32x32, CNN_B, 50 epochs. Rows: st, at, jt, aelfs."""

from ml_collections import ConfigDict

from commands import config
from trainers.configs import _aelf

SCHEDULE = {"learning_rate": config.drops(0.1, (20, 40)), "epochs": 50}
ROWS = _aelf.mnist_rows(SCHEDULE)

# Clean and shifted left, right, up, down; the same attacked.
PAPER = {
    "st": (99.54, 98.48, 96.91, 94.87, 95.36, 0.0, 0.0, 0.0, 0.0, 0.0),
    "at": (99.37, 92.95, 90.33, 64.86, 66.49, 93.36, 68.01, 67.15, 27.08, 29.62),
    "jt": (99.38, 92.50, 91.32, 69.10, 65.19, 92.72, 65.32, 68.77, 27.03, 29.97),
    "aelfs": (99.29, 95.77, 93.85, 75.33, 77.85, 94.06, 78.48, 76.50, 45.82, 44.65),
}


def get_config(row: str = "aelfs") -> ConfigDict:
    """Returns the configuration of a row."""
    setting = config.pick(__file__, ROWS, row)
    paper = config.figures(_aelf.MNIST_COLUMNS, *PAPER[row])
    return config.build(_aelf.COMMON, _aelf.mnist(SCHEDULE), setting, {"paper": paper})
