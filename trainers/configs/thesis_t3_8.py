"""Thesis, table 3.8: CE in place of NCE; the row "ce" is TRADES."""

from commands import config
from trainers.configs import _thesis

ROWS: dict[str, config.Settings] = {
    "spat": _thesis.spat(),
    "paced_ce": _thesis.spat(scale=None),
    "ce": _thesis.BASELINES["trades"],
}

# Clean, PGD-20.
PAPER = {"spat": (84.26, 59.56), "paced_ce": (82.86, 53.55), "ce": (82.12, 51.82)}

get_config = _thesis.ablation(__file__, ROWS, PAPER)
