"""Trainings that the rows of several objectives in `trainers/configs/digits.py` consist of, as fields of a config."""

from typing import Any


def cosine_decay(rate: float, epochs: int) -> dict[str, Any]:
    """Returns a learning rate that falls to zero over the epochs."""
    return {"name": "CosineDecay", "initial_learning_rate": rate, "decay_steps": epochs}


def training(rate: float, epochs: int, monitor: str) -> dict[str, Any]:
    """Returns the fields of one fit; `monitor` chooses the classifier that is kept."""
    return {"learning_rate": cosine_decay(rate, epochs), "epochs": epochs, "monitor": monitor}


STANDARD = training(1e-3, 20, "val_accuracy")
STANDARD_PHASE = {"objective": {"name": "standard"}, **STANDARD}
WARMUP = {"warmup": 8}  # choice: a fifth of the training; GAIRAT's and MAIL's authors take about half of theirs
ONE_STEP = {"steps": 1, "relative_step_size": 1.0}
