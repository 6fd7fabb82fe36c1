"""Settings that InfoFeature's tables share (its sections 4, 4.1 and 4.2).

Its section 4.2 names smoothing of 0.5 (the true class keeps 0.5, the rest share 0.5), BatchNorm in inference mode
while an attack searches, and early stopping. choice: for all its rows, the baselines and table 1 too, since "the
remaining hyperparameters" are said to be unchanged. choice: batches of 128. choice: a fiftieth of train is held out,
and the best is chosen on it, never on the test set.
"""

from collections.abc import Sequence
from typing import Any

from commands import config


def _attacks(step: float, fgsm: config.Settings, suffix: str = "") -> dict[str, Any]:
    return {
        f"FGSM{suffix}": fgsm,
        f"PGD-7{suffix}": config.pgd_column(7, step),
        f"PGD-20{suffix}": config.pgd_column(20, step),
        f"CW-20{suffix}": config.cw_column(20, step),
    }


# The paper prints the counts and "step size 2". It normalizes images to [-1, 1] before the attack and says that eps is
# doubled there, but not the step, which is then 1/255 of the pixel range; in the code whose preprocessing it follows
# FGSM starts at random, with a step of 4/255. This reading is the likely one: with steps of 2/255 PGD-7 and PGD-20 end
# alike, where the paper has 16 points between them. choice: uniform starts.
ATTACKS = {
    **_attacks(2 / 255, config.FGSM),
    **_attacks(1 / 255, config.pgd_column(1, 4 / 255), " at half the step"),
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
HALF_STEP = {"attack": config.pgd(8 / 255, 7, 1 / 255)}  # the likely reading, in training


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
    # CE(x') + 0.1 mean((z - z')^2): equation 1 with the logits' distance as its regularizer.
    "alp": _smoothed("alp", weight=0.1, clean_weight=0.0, adversarial_weight=1.0, distance="mse"),
    "fm": {**_smoothed("feature_matching", distance="mse", **FM), **GRAD_CAM},
    # By section 4.1 alone, which names the maps and the weight 10. choice: CE(x') and clipped maps of all classes.
    "fm_maps": _smoothed("feature_matching", weight=10.0, distance="mse"),
    # Equation 3 with lambda_1 = 0, as section 4.1 says: the search of these two has no cross entropy.
    "feature_scatter": {**_smoothed("feature_scatter"), **ONE_STEP},
    "adv_interpolation": {**config.objective("adv_interpolation", smoothing=0.5), **ONE_STEP},
    # choice: CE(x') alone is minimized; equation 8 read literally would be minimize_distance=True.
    "infofeature": _smoothed("infofeature", weight=0.1, distance="l2", classes="all", minimize_distance=False),
    # The same case of InfoFeature's own attack, "also considered" in section 1 and printed nowhere.
    "infofeature_maps": _smoothed("infofeature", weight=1.0, cross_entropy_weight=0.0),
}


def table(
    file: str,
    paper: config.Paper,
    *settings: config.Settings,
    rows: config.Rows = METHODS,
    columns: Sequence[str] = COLUMNS,
    default: str = "infofeature",
) -> config.GetConfig:
    """Returns the `get_config` of a table whose rows are names of `METHODS`; see `commands.config.table`."""
    rows = {name: rows[name] for name in paper}
    return config.table(file, rows, paper, columns, COMMON, *settings, default=default)


def white_box_table(file: str, paper: config.Paper, *settings: config.Settings) -> config.GetConfig:
    """Returns the `get_config` of a table of white-box attacks, whose steps are read in both ways.

    The paper's figures stand beside both readings, and a row that is trained with the shared attack has a twin,
    "ROW_half_step". Figures of the worst of several runs may follow those of the best.
    """
    printed = 1 + len(ATTACKS) // 2

    def twice(row: Sequence[float]) -> tuple[float, ...]:
        runs = (row[first : first + printed] for first in range(0, len(row), printed))
        return tuple(figure for run in runs for figure in (*run, *run[1:]))

    attacked = [name for name in ("madry", "alp", "fm", "infofeature") if name in paper]
    rows = {**METHODS, **{f"{name}_half_step": {**METHODS[name], **HALF_STEP} for name in attacked}}
    figures = {name: twice(row) for name, row in paper.items()}
    figures.update({f"{name}_half_step": figures[name] for name in attacked})
    columns = (*COLUMNS, *(f"worst run {label}" for label in COLUMNS))
    return table(file, figures, *settings, rows=rows, columns=columns)
