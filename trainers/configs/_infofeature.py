"""InfoFeature: what its tables share (its sections 4, 4.1 and 4.2).

Its section 4.2 names smoothing of 0.5 (the true class keeps 0.5, the rest share 0.5), BatchNorm in inference mode
while an attack searches, and early stopping. choice: for all its rows, the baselines and table 1 too, since "the
remaining hyperparameters" are said to be unchanged. choice: batches of 128. choice: a fiftieth of train is held out,
and the best is chosen on it, never on the test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from commands import config

SMOOTHING = 0.5
PGD = config.pgd(8 / 255, 7, 2 / 255)
ONE_STEP = config.pgd(8 / 255, 1, 8 / 255, start="uniform")  # of the two methods' own papers

COMMON = {
    "data": {"validation": 0.02},
    "attack": PGD,
    "learning_rate": config.drops(0.1, (60, 90)),
    "weight_decay": 2e-4,
    "epochs": 120,
    "monitor": "val_robust_accuracy",
    "evaluation": {
        "eps": 8 / 255,
        # choice: steps of 2/255 and uniform starts, as in training; the paper gives the counts alone.
        "attacks": {
            "FGSM": config.FGSM,
            "PGD-7": config.pgd_column(7, 2 / 255),
            "PGD-20": config.pgd_column(20, 2 / 255),
            "CW-20": config.cw_column(20, 2 / 255),
        },
    },
}
COLUMNS = ("clean", *COMMON["evaluation"]["attacks"])  # type: ignore[index]

RESNET18 = {"model": {"name": "resnet18"}}
WRN = {"model": {"name": "wrn_28_10"}, "epochs": 200}  # the rate still falls at 60 and 90

METHODS: dict[str, dict[str, Any]] = {
    "standard": {"objective": {"name": "standard", "off_label_smoothing": SMOOTHING}, "monitor": "val_accuracy"},
    "madry": {"objective": {"name": "madry", "off_label_smoothing": SMOOTHING}},
    # CE(x') + 0.1 mean((z - z')^2): equation 3 with no clean cross entropy.
    "alp": {
        "objective": {
            "name": "alp",
            "weight": 0.1,
            "clean_weight": 0.0,
            "adversarial_weight": 1.0,
            "distance": "mse",
            "off_label_smoothing": SMOOTHING,
        }
    },
    "fm": {
        "objective": {"name": "feature_matching", "weight": 10.0, "distance": "mse", "off_label_smoothing": SMOOTHING}
    },
    "feature_scatter": {"objective": {"name": "feature_scatter", "off_label_smoothing": SMOOTHING}, "attack": ONE_STEP},
    "adv_interpolation": {"objective": {"name": "adv_interpolation", "smoothing": SMOOTHING}, "attack": ONE_STEP},
    # choice: CE(x') alone is minimized; equation 8 read literally would be minimize_distance=True.
    "infofeature": {
        "objective": {
            "name": "infofeature",
            "weight": 0.1,
            "distance": "l2",
            "classes": "all",
            "off_label_smoothing": SMOOTHING,
            "minimize_distance": False,
        }
    },
}


def table(file: str, row: str, paper: Mapping[str, Sequence[float]], *settings: config.Settings) -> ConfigDict:
    """Returns a row of one of the tables; `paper` has its rows, each by its figures in the order of `COLUMNS`."""
    setting = config.pick(file, {name: METHODS[name] for name in paper}, row)
    return config.build(COMMON, *settings, setting, {"paper": config.figures(COLUMNS, *paper[row])})
