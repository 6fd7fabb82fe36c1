"""Handwritten digits of scikit-learn, 8x8 pixels: the default, trained in about a minute on 2 cores.

The argument picks the objective: `--config=trainers/configs/digits.py:trades`.
"""

from ml_collections import ConfigDict, config_dict

# The objectives' own arguments, so that any of them can be overridden: --config.objective.beta=3
OBJECTIVES = {
    "standard": {},
    "madry": {},
    "joint": {"clean_weight": 0.5, "adversarial_weight": 0.5, "share": 1.0},
    "trades": {"beta": 6.0},
    "feature_regularization": {"weight": 0.1},
}


def get_config(objective: str = "madry") -> ConfigDict:
    """Returns the configuration of a run; every field can be overridden as `--config.field=value`."""
    if objective not in OBJECTIVES:
        raise ValueError(f"Unknown row of digits.py: expected one of {', '.join(OBJECTIVES)}. Received: {objective!r}")
    epochs = 20 if objective == "standard" else 40
    config = ConfigDict(
        {
            "seed": 0,
            "data": {"name": "digits", "batch_size": 64, "validation": 0.1, "augment": {"pad": 0, "flip": False}},
            "model": {"name": "digits"},
            "objective": {"name": objective, **OBJECTIVES[objective]},
            # None leaves an argument to the attack's own default.
            "attack": {
                "name": "pgd",
                "eps": 0.15,
                "steps": 10,
                "step_size": config_dict.placeholder(float),
                "norm": config_dict.placeholder(str),
                "start": config_dict.placeholder(str),
                "restarts": config_dict.placeholder(int),
            },
            "optimizer": {"name": "adam"},
            # A Keras schedule over epochs, for papers give epochs, not steps; in an own config file also a number.
            "learning_rate": {
                "name": "CosineDecay",
                "initial_learning_rate": 1e-3 if objective == "standard" else 2e-3,
                "decay_steps": epochs,
            },
            "weight_decay": 0.0,  # the update's decay * w on kernels, i.e. L2(decay / 2) in the loss
            "epochs": epochs,
            # What the kept classifier is chosen by, on validation data; empty keeps the last.
            "monitor": "val_accuracy" if objective == "standard" else "val_robust_accuracy",
            "mixed_precision": False,
            # On the test split, when the training is done; no attacks, no evaluation.
            "evaluation": {"attacks": "quick"},
        }
    )
    # The ball of training, unless another is given.
    config.evaluation.eps = config.attack.get_ref("eps") * 1
    config.evaluation.norm = config.attack.get_oneway_ref("norm")
    return config
