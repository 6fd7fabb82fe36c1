"""Thesis, table 3.8: CE in place of NCE. Rows: spat, paced_ce, ce (the last is TRADES)."""

from ml_collections import ConfigDict

from commands import config
from trainers.configs import _thesis

# Clean, PGD-20.
PAPER = {"spat": (84.26, 59.56), "paced_ce": (82.86, 53.55), "ce": (82.12, 51.82)}

ROWS: dict[str, config.Settings] = {
    "spat": {**_thesis.spat(), **_thesis.cosine("resnet18")},
    "paced_ce": {**_thesis.spat(), **_thesis.cosine("resnet18", None)},
    "ce": _thesis.BASELINES["trades"],
}


def get_config(row: str = "spat") -> ConfigDict:
    """Returns the configuration of a row."""
    return _thesis.ablation(__file__, row, ROWS, PAPER)
