"""Handwritten digits of scikit-learn, 8x8 pixels: the default, trained in about a minute on 2 cores.

The argument picks the objective: `--config=trainers/configs/digits.py:trades`.
"""

from typing import Any

from ml_collections import ConfigDict, config_dict

from commands import config as _base

SMOOTH = {"smoothing": 0.5}
# Warm-ups of GAIRAT and MAIL take about half of their authors' training; choice: a fifth of this one.
WARM_UP = {"warmup": 8}
MAIL = {"constant": config_dict.placeholder(float), **WARM_UP}

# The objectives' own arguments, so that any of them can be overridden: --config.objective.beta=3
OBJECTIVES: dict[str, dict[str, Any]] = {
    "standard": {"smoothing": 0.0},
    "madry": {"smoothing": 0.0},
    "joint": {"clean_weight": 0.5, "adversarial_weight": 0.5, "share": 1.0, "beta": 0.0},
    "trades": {"beta": 6.0},
    "mart": {"beta": 5.0},
    "alp": {"weight": 0.1, "clean_weight": 0.0, "adversarial_weight": 1.0, "distance": "mse", "smoothing": 0.0},
    "feature_matching": {"weight": 10.0, "distance": "mse", "smoothing": 0.0},
    "feature_scatter": SMOOTH,
    "adv_interpolation": SMOOTH,
    "infofeature": {"weight": 0.1, "distance": "l2", "classes": "all", "minimize_distance": False, **SMOOTH},
    "feature_regularization": {"weight": 0.1},
    "aelf": {"weight": 0.3, "distance": "l2"},
    "aelfs": {"beta": 0.1, "clean_weight": 0.5, "adversarial_weight": 0.5, "share": 1.0},
    "spat": {
        "weight": 6.0,
        "alpha": 0.2,
        "beta": 0.2,
        "paced_accuracy": True,
        "paced_robustness": True,
        "detached": False,
    },
    "gairat": {"bias": -1.0, **WARM_UP},
    "mail_at": {"slope": 10.0, "bias": -0.5, **MAIL},
    "mail_trades": {"beta": 5.0, "slope": 2.0, "bias": 0.0, **MAIL},
    "dra": {
        "clean_weight": 0.5,
        "adversarial_weight": 0.5,
        "bound": config_dict.placeholder(float),
        "rate": 0.01,
    },
    # choice: the warm-up of 10 epochs is for 200.
    "awp": {"objective": {"name": "trades", "beta": 6.0}, "gamma": 0.005, "warmup": 4},
    # Wong et al. 2020 (Fast is Better than Free), algorithm 3: FGSM from a uniform start, with a step past the ball.
    "fast": {"name": "madry", "smoothing": 0.0},
}


def cosine_decay(rate: float, epochs: int) -> dict[str, Any]:
    """Returns the rate that falls to zero."""
    return {"name": "CosineDecay", "initial_learning_rate": rate, "decay_steps": epochs}


def training(rate: float, epochs: int, monitor: str) -> dict[str, Any]:
    """Returns a fit: its schedule, and what the kept classifier is chosen by."""
    return {"learning_rate": cosine_decay(rate, epochs), "epochs": epochs, "monitor": monitor}


STANDARD = training(1e-3, 20, "val_accuracy")
CLEAN = {"objective": {"name": "standard"}}
DRA = {
    # choice: on 8x8 images a mean absolute change of 0.08 to 0.02, in the proportion of the thesis' 2/255 to 0.5/255.
    "name": "dra",
    "eps": _base.falls(0.08, 0.02, 25),
    "steps": 5,
    "p": 1 / 3,
}

# What a row has beside its objective.
ROWS: dict[str, dict[str, Any]] = {
    "standard": STANDARD,
    # choice: under Adam nothing holds the scale of the features (results/digits.md).
    "aelf": {
        "model": {"name": "digits", "activation": "leaky_relu"},
        "optimizer": {"name": "sgd"},
        **training(0.2, 40, "val_robust_accuracy"),
        "weight_decay": 5e-4,
    },
    "aelfs": {
        "model": {"name": "digits", "activation": "leaky_relu"},
        "phases": ({**CLEAN, **STANDARD}, {"frozen": ("head",)}),
    },
    "spat": {"model": {"name": "digits", "head": "cosine"}},
    "dra": {
        "phases": (
            {**CLEAN, **STANDARD},
            {"attack": DRA, **training(1e-3, 25, "val_robust_accuracy")},
            {**CLEAN, **training(1e-4, 5, "")},
        )
    },
}
# Attacks of one step in place of the usual: its size over eps, which it follows, and where it begins.
ONE_STEP: dict[str, tuple[float, dict[str, Any]]] = {
    "feature_scatter": (1.0, {}),
    "adv_interpolation": (1.0, {}),
    "fast": (1.25, {"start": "uniform"}),
}


def get_config(row: str = "madry") -> ConfigDict:
    """Returns the configuration of a run; every field can be overridden as `--config.field=value`."""
    arguments = _base.pick(__file__, OBJECTIVES, row)
    one_step = {"steps": 1, **ONE_STEP[row][1]} if row in ONE_STEP else {}
    config = _base.build(
        {
            "data": {"name": "digits", "batch_size": 64, "validation": 0.1, "augment": _base.NO_AUGMENT},
            "model": {"name": "digits"},
            "objective": {"name": row, **arguments},
            # None leaves an argument to the attack's own default.
            "attack": {
                "name": "pgd",
                "eps": 0.15,
                "steps": 10,
                "step_size": config_dict.placeholder(float),
                "norm": config_dict.placeholder(str),
                "start": config_dict.placeholder(str),
                "restarts": config_dict.placeholder(int),
                **one_step,
            },
            "optimizer": {"name": "adam"},
            **training(2e-3, 40, "val_robust_accuracy"),
            "evaluation": {"attacks": "quick"},
        },
        ROWS.get(row, {}),
    )
    if row in ONE_STEP:
        del config.attack.step_size
        config.attack.step_size = config.attack.get_ref("eps") * ONE_STEP[row][0]
    # The ball of training, unless another is given.
    config.evaluation.eps = config.attack.get_ref("eps") * 1
    config.evaluation.norm = config.attack.get_oneway_ref("norm")
    return config
