"""The thesis: SPAT (chapter 3) and DRA with adversarial fine-tuning (chapter 4): what their tables share.

Chapter 3: CIFAR-10 for 100 epochs in batches of 128, 0.1 falling at 75 and 90, PGD 10 x eps/4 at 8/255. choice: decay
2e-4 and the usual crops and flips; the last classifier is kept. MNIST for 80 epochs at 0.01, PGD 40 x 0.01 at 0.3.
Chapter 4: decay 2e-4, batches of 128, crops and flips in both trainings; fine-tuning for 60 epochs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from commands import config

EPS = 8 / 255


def spat(alpha: float = 0.2, beta: float = 0.2, accuracy: bool = True, robustness: bool = True) -> dict[str, Any]:
    """Returns SPAT's loss; without a pace its factors are 1 (accuracy), its term is the plain KL (robustness)."""
    return {
        "objective": {
            "name": "spat",
            "weight": 6.0,
            "alpha": alpha,
            "beta": beta,
            "paced_accuracy": accuracy,
            "paced_robustness": robustness,
            "detached": False,  # choice: the gradient flows through the factors, as the equations are printed
        }
    }


def cosine(network: str, scale: float | None = 5.0) -> dict[str, Any]:
    """Returns a network with normalized embeddings and weights of length s; None: its own logits beside the cosines."""
    return {"model": {"name": network, "head": {"name": "cosine", "scale": scale}}}


# "Default hyperparameter settings presented in the original papers": lambda 6 in TRADES, 5 in MART, and 0.5 in ALP.
# choice: ALP as its authors have it, with both cross entropies at 0.5; equation 2.13 would be CE(x) + lambda L.
BASELINES: dict[str, dict[str, Any]] = {
    "madry": {"objective": {"name": "madry"}},
    "alp": {
        "objective": {
            "name": "alp",
            "weight": 0.5,
            "clean_weight": 0.5,
            "adversarial_weight": 0.5,
            "distance": "mse",
            "label_smoothing": 0.0,
        }
    },
    "trades": {"objective": {"name": "trades", "beta": 6.0}},
    "mart": {"objective": {"name": "mart", "beta": 5.0}},
}

CIFAR = {
    "model": {"name": "resnet18"},
    "attack": config.pgd(EPS, 10, EPS / 4),
    "learning_rate": config.drops(0.1, (75, 90)),
    "weight_decay": 2e-4,
    "epochs": 100,
}


def columns(eps: float) -> dict[str, Any]:
    """Returns the attacks of chapter 3's evaluations.

    PGD-20 has steps of eps/10; choice: the others too, CW with 20 of them, all from uniform starts (MIM from x).
    choice: FAB is the untargeted one with 100 steps, AutoAttack its standard version; the thesis only cites both.
    """
    return {
        "FGSM": config.FGSM,
        "PGD-20": config.pgd_column(20, eps / 10),
        "PGD-100": config.pgd_column(100, eps / 10),
        "MIM-20": {"name": "mim", "steps": 20, "step_size": eps / 10},
        "FAB": {"name": "fab", "steps": 100},
        "CW": config.cw_column(20, eps / 10),
        "AutoAttack": {"name": "autoattack", "version": "standard"},
    }


def chosen(eps: float, labels: Iterable[str]) -> dict[str, Any]:
    """Returns the evaluation by some of the `columns`."""
    return {"evaluation": {"eps": eps, "attacks": {label: columns(eps)[label] for label in labels}}}


def black_box(eps: float, labels: Iterable[str], source: str) -> dict[str, Any]:
    """Returns the tables of a black box: the same attacks, made on a natural network that `source` describes."""
    return {"tables": config.transfer_of({"black box": source}, {label: columns(eps)[label] for label in labels})}


def ablation(file: str, row: str, rows: dict[str, config.Settings], paper: dict[str, tuple[float, float]]) -> Any:
    """Returns a row of tables 3.6 to 3.8: SPAT on CIFAR-10, clean and under PGD-20."""
    setting = config.pick(file, rows, row)
    figures = {"paper": config.figures(("clean", "PGD-20"), *paper[row])}
    return config.build(CIFAR, chosen(EPS, ["PGD-20"]), setting, figures)


# Chapter 4. choice: what is trained from scratch has chapter 3's schedule.
STANDARD = {
    "objective": {"name": "standard"},
    "learning_rate": CIFAR["learning_rate"],
    "epochs": CIFAR["epochs"],
}
SCRATCH = {"model": {"name": "resnet50"}, "weight_decay": 2e-4}
FINE_TUNING = 0.01  # choice: the rate of fine-tuning is not printed; a tenth of it in the clean epochs


def weak_columns(*fractions: tuple[str, float]) -> dict[str, Any]:
    """Returns chapter 4's evaluation: 20 steps of eps/20, which barely reach the edge; choice: from uniform starts."""
    attacks = {f"PGD {name}": config.pgd_column(20, eps / 20, eps=eps) for name, eps in fractions}
    return {"evaluation": {"eps": max(eps for _, eps in fractions), "attacks": attacks}}


CIFAR_EVALUATION = weak_columns(("2/255", 2 / 255), ("5/255", 5 / 255), ("8/255", 8 / 255))
CIFAR_COLUMNS = ("clean", "PGD 2/255", "PGD 5/255", "PGD 8/255")

FALLING = config.falls(2 / 255, 0.5 / 255, 50)


def dra(eps: Any, p: float = 1 / 3, steps: int = 5) -> dict[str, Any]:
    """Returns the attack; eps is the mean absolute change, a number or a schedule over the epochs of a phase."""
    return {"attack": {"name": "dra", "eps": eps, "steps": steps, "p": p, "start": "auto"}}


def fine_tuning(attack: config.Settings) -> dict[str, Any]:
    """Returns standard training, 50 epochs against the attack, 10 clean ones.

    choice: clean and adversarial images 1:1 in one update, where "iteratively" may also mean by turns.
    """
    return {
        "objective": {"name": "dra", "clean_weight": 0.5, "adversarial_weight": 0.5},
        **attack,
        "learning_rate": FINE_TUNING,
        "epochs": 50,
        "phases": (
            STANDARD,
            {},  # as above
            {"objective": {"name": "standard"}, "learning_rate": FINE_TUNING / 10, "epochs": 10},
        ),
    }
