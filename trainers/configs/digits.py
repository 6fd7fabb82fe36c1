"""Handwritten digits of scikit-learn, 8x8 pixels: the default, trained in about a minute on 2 cores.

The argument picks the objective: `--config=trainers/configs/digits.py:trades`.
"""

from ml_collections import ConfigDict

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
    return ConfigDict(
        {
            "seed": 0,
            "data": {"name": "digits", "batch_size": 64, "validation": 0.1, "augment": {"pad": 0, "flip": False}},
            "model": {"name": "digits"},
            "objective": {"name": objective, **OBJECTIVES[objective]},
            "attack": {"name": "pgd", "eps": 0.15, "steps": 10},
            "optimizer": {"name": "adam"},
            # A number, or a Keras schedule over epochs: papers give epochs, not steps.
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
            "evaluation": {"attacks": "quick", "eps": 0.15, "norm": "linf"},
        }
    )
