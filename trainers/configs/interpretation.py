"""Small runs whose attention and gradients are compared (results/interpretation.md), minutes to an hour on 2 cores.

A row is DATA_METHOD. The network is that of FPR-v2, table 2, with attention in the last three methods; their schedule
is shorter than FPR's 205 epochs.
"""

from typing import Any

from ml_collections import ConfigDict

from commands import config
from trainers.configs import _fpr

DATA: dict[str, dict[str, Any]] = {
    "digits": {
        "data": {"name": "digits", "batch_size": 64, "augment": config.NO_AUGMENT},
        "attack": {"name": "pgd", "eps": 0.15, "steps": 10},
        "epochs": 30,
    },
    # choice: 16x16 pixels and 3 steps, for the time; the evaluation makes as many as everywhere.
    "cifar10": {
        "data": {"name": "cifar10", "batch_size": 64, "image_size": (16, 16), "augment": {"pad": 2, "flip": True}},
        "attack": {"name": "pgd", "eps": 8 / 255, "steps": 3, "step_size": 4 / 255},
        "epochs": 12,
    },
}
PLAIN = {"model": {"name": "madry_resnet", "width": 1, "attention": ()}}
ATTENDED = {"model": {"name": "madry_resnet", "width": 1, "attention": (4,)}}
METHODS: dict[str, dict[str, Any]] = {
    "plain": {**PLAIN, **config.objective("standard")},
    "madry": {**PLAIN, **_fpr.MADRY},
    "attention_plain": {**ATTENDED, **config.objective("standard")},
    "attention_madry": {**ATTENDED, **_fpr.MADRY},
    "feature_regularization": {**ATTENDED, **_fpr.regularization(0.01)},
}
ROWS = {f"{data}_{method}": {**DATA[data], **METHODS[method]} for data in DATA for method in METHODS}


def get_config(row: str = "digits_feature_regularization") -> ConfigDict:
    """Returns the configuration of a row."""
    setting = config.pick(__file__, ROWS, row)
    rate = {"name": "CosineDecay", "initial_learning_rate": 0.05, "decay_steps": setting["epochs"]}
    eps = setting["attack"]["eps"]
    evaluation = {"evaluation": {"attacks": {"PGD-20": config.pgd_column(20, eps / 4)}, "eps": eps}}
    return config.build({"learning_rate": rate, "weight_decay": 2e-4}, setting, evaluation)
