"""FPR-v1, table 2: CIFAR-10, attention at blocks 3 and 4. Rows: madry, at_id, at_att, at_att_id."""

from ml_collections import ConfigDict

from commands import config
from trainers.configs import _fpr

COLUMNS = ("clean", "PGD-5", "black box PGD-5")
PAPER = {
    "madry": (80.79, 49.89, 60.13),
    "at_id": (79.52, 52.35, 61.82),
    "at_att": (82.71, 51.06, 63.88),  # "0.01 for AT-att and AT-att-id", says the text; AT-att has no such term
    "at_att_id": (81.86, 52.50, 63.66),
}


def get_config(row: str = "at_att_id") -> ConfigDict:
    """Returns the configuration of a row."""
    setting = config.pick(__file__, _fpr.rows((3, 4), "id"), row)
    # The paper prints no step count for its evaluation; FPR-v2 gives the same figures as PGD with 5 steps.
    attacks = {"PGD-5": _fpr.ATTACKS["PGD-5"]}
    measured = {"evaluation": {"eps": 8 / 255, "attacks": attacks}, "tables": config.transfer_of(_fpr.TWIN, attacks)}
    return config.build(_fpr.CIFAR, setting, {**measured, "paper": config.figures(COLUMNS, *PAPER[row])})
