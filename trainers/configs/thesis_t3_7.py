"""Thesis, table 3.7: SPAT without its self-paced factors.

"We let g = 0" is a slip of the text: plain cross entropy is factors of 1. choice: L_rob is TRADES' KL, weight 6.
"""

from commands import config
from trainers.configs import _thesis

ROWS: dict[str, config.Settings] = {
    "spat": _thesis.spat(),
    "plain_accuracy": _thesis.spat(paced_accuracy=False),
    "plain_robustness": _thesis.spat(paced_robustness=False),
    "plain": _thesis.spat(paced_accuracy=False, paced_robustness=False),
}

# Clean, PGD-20.
PAPER = {
    "spat": (84.26, 59.56),
    "plain_accuracy": (82.49, 58.74),
    "plain_robustness": (84.01, 56.14),
    "plain": (83.33, 54.58),
}

get_config = _thesis.ablation(__file__, ROWS, PAPER)
