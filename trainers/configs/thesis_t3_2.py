"""Thesis, table 3.2: MNIST, white box."""

from commands import config
from trainers.configs import _thesis

LABELS = ("FGSM", "PGD-20", "CW")
ATTACKS = _thesis.columns(0.3, LABELS)
COMMON = {
    "data": {"name": "mnist", "augment": config.NO_AUGMENT},  # choice: batches of 128, no augmentation
    "model": {"name": "spat_mnist"},
    "attack": config.pgd(0.3, 40, 0.01),
    "learning_rate": 0.01,
    "weight_decay": 2e-4,  # choice: as on CIFAR-10
    "epochs": 80,
    **config.black_box(0.3, ATTACKS, "a natural LeNet-5: --config.model.name=lenet5 --config.objective.name=standard"),
}
ROWS = {**_thesis.BASELINES, "spat": _thesis.spat("spat_mnist")}

# Clean, FGSM, PGD-20, CW; black box (table 3.3, from a natural LeNet-5 of 98.94 %) FGSM, PGD-20, CW.
PAPER = {
    "madry": (99.15, 97.22, 95.51, 95.66, 97.06, 96.00, 96.88),
    "alp": (98.79, 97.31, 95.85, 95.50, 97.23, 96.13, 97.32),
    "trades": (99.10, 97.42, 96.22, 96.01, 97.27, 96.88, 97.03),
    "mart": (98.89, 97.70, 96.24, 96.33, 97.68, 96.73, 97.20),
    "spat": (99.21, 98.12, 96.64, 96.57, 97.80, 97.27, 97.40),
}

get_config = _thesis.table(__file__, ROWS, PAPER, 0.3, LABELS, COMMON, others=config.black_box_labels(LABELS))
