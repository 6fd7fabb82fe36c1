"""FPR-v2, table 1: MNIST. Rows: madry, at_reg. The figures and settings are those of FPR-v1's table 1."""

from ml_collections import ConfigDict

from commands import config
from trainers.configs import _fpr, fpr_v1_t1

ROWS: dict[str, config.Settings] = {"madry": fpr_v1_t1.ROWS["madry"], "at_reg": fpr_v1_t1.ROWS["at_id"]}


def get_config(row: str = "at_reg") -> ConfigDict:
    """Returns the configuration of a row."""
    return config.build(_fpr.MNIST, config.pick(__file__, ROWS, row))
