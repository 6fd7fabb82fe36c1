"""Settings that the tables of the thesis share: SPAT (chapter 3), DRA with adversarial fine-tuning (chapter 4).

Chapter 3: CIFAR-10 for 100 epochs in batches of 128, 0.1 falling at 75 and 90, PGD 10 x eps/4 at 8/255. Known from the
authors' public code (Self-Paced-Adversarial-Training): decay 2e-4, momentum 0.9, crops with padding 4 and flips. That
code trains with eps 0.031 and steps of 0.007, and its head has a bias; the text prints 8/255 and eps/4, and equation
3.10 has no bias: these rows follow the text. choice: the last classifier is kept. MNIST for 80 epochs at 0.01, PGD 40 x
0.01 at 0.3. Chapter 4: decay 2e-4, batches of 128, crops and flips in both trainings; fine-tuning for 60 epochs.

The PGD of that code ascends the cross entropy of the cosines, without the scale s that training has. The softmax of
numbers in [-1, 1] is nearly uniform, so that this loss weighs all wrong classes almost alike: the attack is weaker than
PGD on the logits s * cos, and leaves more images right. The printed PGD figures of SPAT therefore stand beside the
columns "... on cosines (as published)"; the columns on the logits, which compare SPAT with other rows, have no printed
figure. APGD-DLR does not depend on the scale, and shows how far either can be believed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from commands import config

EPS = 8 / 255
SCHEDULE = {"learning_rate": config.drops(0.1, (75, 90)), "epochs": 100}
CIFAR = {"model": {"name": "resnet18"}, "attack": config.pgd(EPS, 10, EPS / 4), "weight_decay": 2e-4, **SCHEDULE}


def spat(network: str = "resnet18", scale: float | None = 5.0, **arguments: Any) -> dict[str, Any]:
    """Returns SPAT's loss, with other arguments where they are given, and a network with normalized embeddings.

    The weights of the head have the length `scale`, the paper's s; None: its own logits beside the cosines.
    """
    usual = {"weight": 6.0, "alpha": 0.2, "beta": 0.2, "paced_accuracy": True, "paced_robustness": True}
    # The gradient flows through the factors, as in the equations and in the authors' public code.
    loss = config.objective("spat", **{**usual, **arguments}, detached=False)
    return {**loss, "model": {"name": network, "head": {"name": "cosine", "scale": scale}}}


ON_COSINES = {f"PGD-{steps}": f"PGD-{steps} on cosines (as published)" for steps in (20, 100)}

# "Default hyperparameter settings presented in the original papers": lambda 6 in TRADES, 5 in MART, and 0.5 in ALP.
# choice: ALP as its authors have it, with both cross entropies at 0.5; equation 2.13 would be CE(x) + lambda L.
ALP = {"weight": 0.5, "clean_weight": 0.5, "adversarial_weight": 0.5, "distance": "mse", "label_smoothing": 0.0}
BASELINES: dict[str, dict[str, Any]] = {
    "madry": config.objective("madry"),
    "alp": config.objective("alp", **ALP),
    "trades": config.objective("trades", beta=6.0),
    "mart": config.objective("mart", beta=5.0),
}


def columns(eps: float, labels: Iterable[str]) -> dict[str, Any]:
    """Returns some of the attacks of chapter 3's evaluations.

    PGD-20 has steps of eps/10; choice: the others too, CW with 20 of them, all from uniform starts (MIM from x).
    choice: FAB is the untargeted one with 100 steps, AutoAttack its standard version; the thesis only cites both.
    """
    known = {
        "FGSM": config.FGSM,
        "PGD-20": config.pgd_column(20, eps / 10),
        "PGD-100": config.pgd_column(100, eps / 10),
        "MIM-20": {"name": "mim", "steps": 20, "step_size": eps / 10},
        "FAB": {"name": "fab", "steps": 100},
        "CW": config.cw_column(20, eps / 10),
        "AutoAttack": {"name": "autoattack", "version": "standard"},
        "APGD-DLR": {"name": "apgd", "loss": "dlr"},
    }
    known |= {theirs: {**known[ours], "loss": "cosine_cross_entropy"} for ours, theirs in ON_COSINES.items()}
    return {label: known[label] for label in labels}


def published(label: str, row: config.Settings) -> str:
    """Returns the label of the column that measures what the thesis prints as `label`: with a scale s, without it.

    choice: where the head has no scale (table 3.8), PGD on its own logits is what was published.
    """
    scaled = row.get("model", {}).get("head", {}).get("scale")
    return ON_COSINES.get(label, label) if scaled else label


def table(
    file: str,
    rows: config.Rows,
    paper: config.Paper,
    eps: float,
    labels: Sequence[str],
    *settings: config.Settings,
    others: Sequence[str] = (),
    default: str = "spat",
) -> config.GetConfig:
    """Returns the `get_config` of a table of chapter 3: `config.table` of rows under the attacks of the labels.

    Each row has APGD-DLR, and one with scaled cosines the published form of PGD too; `others` label further figures.
    """
    theirs = {row: [published(label, setting) for label in labels] for row, setting in rows.items()}
    attacked = {
        row: {**setting, "evaluation": {"eps": eps, "attacks": columns(eps, _beside(labels, theirs[row]))}}
        for row, setting in rows.items()
    }
    figures = {row: ("clean", *theirs[row], *others) for row in rows}
    return config.table(file, attacked, paper, figures, *settings, default=default)


def _beside(ours: Sequence[str], theirs: Sequence[str]) -> Iterable[str]:
    """Returns our columns, each with the published one beside it where that is another, and APGD-DLR."""
    return dict.fromkeys([*(label for pair in zip(ours, theirs, strict=True) for label in pair), "APGD-DLR"])


def ablation(file: str, rows: config.Rows, paper: config.Paper, default: str = "spat") -> config.GetConfig:
    """Returns the `get_config` of tables 3.6 to 3.8: SPAT on CIFAR-10, clean and under PGD-20."""
    return table(file, rows, paper, EPS, ["PGD-20"], CIFAR, default=default)


def corruptions(
    file: str, rows: config.Rows, paper: config.Paper, kinds: Sequence[str], setting: config.Settings, default: str
) -> config.GetConfig:
    """Returns the `get_config` of a table of CIFAR-10-C, whose rows another table trains."""
    measured = {"evaluation": {"eps": EPS}, "tables": {"corruptions": {"kinds": kinds}}}
    rows = {row: rows[row] for row in paper}
    return config.table(file, rows, paper, [f"{kind} mean" for kind in kinds], setting, measured, default=default)


# Chapter 4. choice: a network that is trained from scratch has chapter 3's schedule.
STANDARD = {**config.objective("standard"), **SCHEDULE}
SCRATCH = {"model": {"name": "resnet50"}, "weight_decay": 2e-4}
FINE_TUNING = 0.01  # choice: the rate of fine-tuning is not printed; a tenth of it in the clean epochs
FALLING = config.linear(2 / 255, 0.5 / 255, 50)


def weak_columns(fractions: Mapping[str, float]) -> dict[str, Any]:
    """Returns chapter 4's evaluation: 20 steps of eps/20, which barely reach the edge; choice: from uniform starts."""
    attacks = {f"PGD {name}": config.pgd_column(20, eps / 20, eps=eps) for name, eps in fractions.items()}
    return {"evaluation": {"eps": max(fractions.values()), "attacks": attacks}}


def resnet_table(file: str, rows: config.Rows, paper: config.Paper, default: str = "dra") -> config.GetConfig:
    """Returns the `get_config` of tables 4.3 to 4.6: a ResNet on CIFAR-10, clean and under PGD at three radii."""
    evaluation = weak_columns({f"{pixels}/255": pixels / 255 for pixels in (2, 5, 8)})
    labels = ("clean", *evaluation["evaluation"]["attacks"])
    return config.table(file, rows, paper, labels, SCRATCH, evaluation, default=default)


def dra(eps: Any, p: float = 1 / 3, steps: int = 5) -> dict[str, Any]:
    """Returns the attack; eps is the mean absolute change, a number or a schedule over the epochs of a phase."""
    return {"attack": {"name": "dra", "eps": eps, "steps": steps, "p": p, "start": "auto"}}


def fine_tuning(attack: config.Settings) -> dict[str, Any]:
    """Returns standard training, 50 epochs against the attack, 10 clean ones.

    choice: clean and adversarial images 1:1 in one update, where "iteratively" may also mean by turns.
    """
    clean = {**config.objective("standard"), "learning_rate": FINE_TUNING / 10, "epochs": 10}
    return {
        **config.objective("dra", clean_weight=0.5, adversarial_weight=0.5),
        **attack,
        "learning_rate": FINE_TUNING,
        "epochs": 50,
        "phases": (STANDARD, {}, clean),  # the second phase is the one above
    }
