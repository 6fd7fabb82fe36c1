"""Settings that AELF's tables share (its appendix C and section 4).

Batches of 128; SGD from 0.1; no start noise; JT and its variants attack the second half of each batch; the last
classifier is kept ("don't adapt early stopping tricks"). AELFs and JT* begin with a complete standard training; choice:
the second phase is a full schedule with the rate restarted. choice: momentum 0.9, which the paper does not print.
"""

from collections.abc import Sequence
from typing import Any

from commands import config

# The paper's seed; torch draws other numbers from it. Its "l2 regularization" is that of PyTorch's SGD, which decays
# every parameter.
COMMON = {"seed": 8, "weight_decay": 5e-4, "weight_decay_on": "all"}

ADVERSARIAL = {"learning_rate": config.drops(0.1, (50, 100)), "epochs": 160}
STANDARD = {**config.objective("standard"), "learning_rate": config.drops(0.1, (40, 80)), "epochs": 100}
CIFAR = {**COMMON, "data": {"augment": {"pad": 2, "flip": True}}, **ADVERSARIAL}


def joint(
    clean: float, adversarial: float, beta: float = 0.0, name: str = "joint", share: float = 0.5
) -> dict[str, Any]:
    """Returns JT: clean * CE(x) + adversarial * CE(x') (+ beta * the norms of the features: JT*, or AELFs by name)."""
    return config.objective(name, clean_weight=clean, adversarial_weight=adversarial, share=share, beta=beta)


def trades(beta: float, eps: float, steps: int, step_size: float) -> dict[str, Any]:
    """Returns TRADES; it keeps its own start, because its attack has no gradient without noise."""
    return {**config.objective("trades", beta=beta), "attack": config.pgd(eps, steps, step_size)}


def after(standard: config.Settings, *frozen: str) -> dict[str, Any]:
    """Returns two phases: a complete standard training, then the row's own training with `frozen` layers.

    Without its phases (`--config.phases='()'`) a row is the second one alone, which begins with `fine_tune`.
    """
    return {"frozen": frozen, "phases": ({**config.objective("standard"), **standard, "frozen": ()}, {})}


AELFS = {**joint(0.5, 0.5, beta=0.2, name="aelfs"), **after(STANDARD, "head")}  # on CIFAR, with a wide ResNet


def mnist_table(file: str, paper: config.Paper, drops: Sequence[float], epochs: int) -> config.GetConfig:
    """Returns the `get_config` of table 2 or 6: MNIST at 32x32.

    Args:
        file: the config file.
        paper: row -> figures: clean and shifted left, right, up, down; the same under PGD-16.
        drops: epochs after which the rate falls, in each phase.
        epochs: epochs of each phase.
    """
    schedule = {"learning_rate": config.drops(0.1, drops), "epochs": epochs}
    rows = {
        "st": config.objective("standard"),
        "at": config.objective("madry"),
        "jt": joint(0.5, 0.5),
        "aelfs": {**joint(0.5, 0.5, beta=0.5, name="aelfs"), **after(schedule, "head")},
    }
    attacks = {"PGD-16": config.pgd_column(16, 0.02, start="none")}
    setting = {
        "data": {"name": "mnist", "augment": config.NO_AUGMENT, "image_size": (32, 32)},
        "model": {"name": "cnn_b", "activation": "leaky_relu"},
        "attack": config.pgd(0.3, 16, 0.02, start="none"),
        **schedule,
        "evaluation": {"eps": 0.3, "attacks": attacks},
        "tables": {"shifts": {"pixels": 8, "attacks": attacks}},
    }
    columns = [
        label
        for column in ("clean", *attacks)
        for label in (column, *(f"shifted {direction} {column}" for direction in config.DIRECTIONS))
    ]
    return config.table(file, rows, paper, columns, COMMON, setting, default="aelfs")
