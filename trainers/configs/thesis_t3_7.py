"""Thesis, table 3.7: SPAT without its self-paced factors. Rows: spat, plain_accuracy, plain_robustness, plain.

"We let g = 0" is a slip of the text: plain cross entropy is factors of 1. choice: L_rob is TRADES' KL, weight 6.
"""

from ml_collections import ConfigDict

from commands import config
from trainers.configs import _thesis

# Clean, PGD-20.
PAPER = {
    "spat": (84.26, 59.56),
    "plain_accuracy": (82.49, 58.74),
    "plain_robustness": (84.01, 56.14),
    "plain": (83.33, 54.58),
}
HEAD = _thesis.cosine("resnet18")

ROWS: dict[str, config.Settings] = {
    "spat": {**_thesis.spat(), **HEAD},
    "plain_accuracy": {**_thesis.spat(accuracy=False), **HEAD},
    "plain_robustness": {**_thesis.spat(robustness=False), **HEAD},
    "plain": {**_thesis.spat(accuracy=False, robustness=False), **HEAD},
}


def get_config(row: str = "spat") -> ConfigDict:
    """Returns the configuration of a row."""
    return _thesis.ablation(__file__, row, ROWS, PAPER)
