"""AELF: what its tables share (its appendix C and section 4).

Batches of 128; SGD from 0.1; no start noise; JT and its kin turn the second half of each batch adversarial; the last
classifier is kept ("don't adapt early stopping tricks"). AELFs and JT* begin with a complete standard training; choice:
the second phase is a full schedule with the rate restarted. choice: momentum 0.9, which the paper does not print.
"""

from __future__ import annotations

from typing import Any

from commands import config

COMMON = {"seed": 8, "weight_decay": 5e-4}  # the paper's seed; torch's draws are others

ADVERSARIAL = {"learning_rate": config.drops(0.1, (50, 100)), "epochs": 160}
STANDARD = {"objective": {"name": "standard"}, "learning_rate": config.drops(0.1, (40, 80)), "epochs": 100}
CIFAR = {"data": {"augment": {"pad": 2, "flip": True}}, **ADVERSARIAL}


ATTACKS = {"PGD-16": config.pgd_column(16, 0.02, start="none")}


def mnist(standard: config.Settings) -> dict[str, Any]:
    """Returns the setting on MNIST at 32x32; `standard` is the schedule, in each phase the same."""
    return {
        "data": {"name": "mnist", "augment": config.NO_AUGMENT, "image_size": (32, 32)},
        "model": {"name": "cnn_b", "activation": "leaky_relu"},
        "attack": config.pgd(0.3, 16, 0.02, start="none"),
        **standard,
        "evaluation": {"eps": 0.3, "attacks": ATTACKS},
        "tables": {"shifts": {"pixels": 8, "attacks": ATTACKS}},
    }


MNIST_COLUMNS = (
    "clean",
    *(f"shifted {shift} clean" for shift in config.DIRECTIONS),
    "PGD-16",
    *(f"shifted {shift} PGD-16" for shift in config.DIRECTIONS),
)


def joint(clean: float, adversarial: float, beta: float = 0.0) -> dict[str, Any]:
    """Returns JT on half batches: clean * CE(x) + adversarial * CE(x') (+ beta * the norms of the features: JT*)."""
    weights = {"clean_weight": clean, "adversarial_weight": adversarial}
    return {"objective": {"name": "joint", **weights, "share": 0.5, "beta": beta}}


def aelfs(clean: float, adversarial: float, beta: float) -> dict[str, Any]:
    """Returns the objective of the second phase of AELFs."""
    weights = {"clean_weight": clean, "adversarial_weight": adversarial}
    return {"objective": {"name": "aelfs", "beta": beta, **weights, "share": 0.5}}


def trades(beta: float, eps: float, steps: int, step_size: float) -> dict[str, Any]:
    """Returns TRADES; it keeps its own start, for without noise its attack has no gradient."""
    return {"objective": {"name": "trades", "beta": beta}, "attack": config.pgd(eps, steps, step_size)}


def after(standard: config.Settings, *frozen: str) -> dict[str, Any]:
    """Returns the two phases: a complete standard training, then what the row says, with `frozen` layers."""
    return {"phases": ({"objective": {"name": "standard"}, **standard}, {"frozen": frozen})}


def mnist_rows(standard: config.Settings) -> dict[str, dict[str, Any]]:
    """Returns the rows of tables 2 and 6, without figures."""
    return {
        "st": {"objective": {"name": "standard"}},
        "at": {"objective": {"name": "madry"}},
        "jt": joint(0.5, 0.5),
        "aelfs": {**aelfs(0.5, 0.5, beta=0.5), **after(standard, "head")},
    }
