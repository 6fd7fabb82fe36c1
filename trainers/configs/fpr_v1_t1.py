"""FPR-v1, table 1: MNIST. Rows: madry, at_id (implicit denoising, FPR-v2's feature regularization)."""

from ml_collections import ConfigDict

from commands import config
from trainers.configs import _fpr

ROWS: dict[str, config.Settings] = {
    "madry": {"objective": _fpr.MADRY, "paper": config.figures(_fpr.MNIST_COLUMNS, 98.72, 92.86, 95.97)},
    "at_id": {
        "objective": _fpr.regularization(0.01),  # 0.001 to 0.05 work as well, says the paper
        "paper": config.figures(_fpr.MNIST_COLUMNS, 98.66, 95.69, 96.90),
    },
}


def get_config(row: str = "at_id") -> ConfigDict:
    """Returns the configuration of a row."""
    return config.build(_fpr.MNIST, config.pick(__file__, ROWS, row))
