"""Settings that InfoFeature's tables share (its sections 4, 4.1 and 4.2).

Its section 4.2 names smoothing of 0.5 (the true class keeps 0.5, the rest share 0.5), BatchNorm in inference mode
while an attack searches, and early stopping. choice: for all its rows, the baselines and table 1 too, since "the
remaining hyperparameters" are said to be unchanged. choice: batches of 128. choice: a fiftieth of train is held out,
and the best is chosen on it, never on the test set.
"""

from collections.abc import Sequence
from typing import Any

from commands import config

# choice: steps of 2/255 and uniform starts, as in training; the paper gives the counts alone.
ATTACKS = {
    "FGSM": config.FGSM,
    "PGD-7": config.pgd_column(7, 2 / 255),
    "PGD-20": config.pgd_column(20, 2 / 255),
    "CW-20": config.cw_column(20, 2 / 255),
}
COLUMNS = ("clean", *ATTACKS)
COMMON = {
    "data": {"validation": 0.02},
    "attack": config.pgd(8 / 255, 7, 2 / 255),
    "learning_rate": config.drops(0.1, (60, 90)),
    "weight_decay": 2e-4,
    "epochs": 120,
    "monitor": "val_robust_accuracy",
    "evaluation": {"eps": 8 / 255, "attacks": ATTACKS},
}
RESNET18 = {"model": {"name": "resnet18"}}
WRN = {"model": {"name": "wrn_28_10"}, "epochs": 200}  # the rate still falls at 60 and 90


def _smoothed(name: str, **arguments: Any) -> dict[str, Any]:
    return config.objective(name, **arguments, off_label_smoothing=0.5)


# Feature matching by its authors' public code: 10 * MSE of Grad-CAM of the true class, 20 * 0.5 * MSE of the logits,
# the mean of the cross entropy over clean and attacked images. choice: Grad-CAM by its definition; that code divides it
# by the number of logits in the batch, which leaves next to nothing of the first term.
FM = {"weight": 10.0, "classes": "true", "logit_weight": 10.0, "clean_weight": 0.5, "adversarial_weight": 0.5}
GRAD_CAM = {"model": {**RESNET18["model"], "head": {"name": "dense", "form": "grad_cam"}}}

ONE_STEP = {"attack": config.pgd(8 / 255, 1, 8 / 255, start="uniform")}  # of the two methods' own papers
METHODS: dict[str, dict[str, Any]] = {
    "standard": {**_smoothed("standard"), "monitor": "val_accuracy"},
    "madry": _smoothed("madry"),
    # CE(x') + 0.1 mean((z - z')^2): equation 3 with no clean cross entropy.
    "alp": _smoothed("alp", weight=0.1, clean_weight=0.0, adversarial_weight=1.0, distance="mse"),
    "fm": {**_smoothed("feature_matching", distance="mse", **FM), **GRAD_CAM},
    # By section 4.1 alone, which names the maps and the weight 10. choice: CE(x') and clipped maps of all classes.
    "fm_maps": _smoothed("feature_matching", weight=10.0, distance="mse"),
    "feature_scatter": {**_smoothed("feature_scatter"), **ONE_STEP},
    "adv_interpolation": {**config.objective("adv_interpolation", smoothing=0.5), **ONE_STEP},
    # choice: CE(x') alone is minimized; equation 8 read literally would be minimize_distance=True.
    "infofeature": _smoothed("infofeature", weight=0.1, distance="l2", classes="all", minimize_distance=False),
}


def table(
    file: str,
    paper: config.Paper,
    *settings: config.Settings,
    columns: Sequence[str] = COLUMNS,
    default: str = "infofeature",
) -> config.GetConfig:
    """Returns the `get_config` of a table whose rows are names of `METHODS`; see `commands.config.table`."""
    rows = {name: METHODS[name] for name in paper}
    return config.table(file, rows, paper, columns, COMMON, *settings, default=default)
