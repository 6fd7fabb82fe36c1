"""FPR-v2, table 3: CIFAR-10, ResNet three times as wide."""

from trainers.configs import _fpr

# Clean, white box, black box: each PGD with 5, 20, 100, 200 steps, CW with 30, 100.
PAPER = {
    "madry": (85.41, 49.15, 38.19, 37.39, 37.20, 38.92, 38.71, 68.03, 62.77, 62.65, 62.73, 63.89, 63.77),
    "at_reg": (84.65, 52.21, 41.00, 40.28, 40.24, 42.20, 41.88, 68.00, 63.14, 63.12, 63.12, 64.23, 64.04),
    "at_att": (86.48, 50.91, 39.52, 38.98, 38.89, 40.75, 40.32, 69.78, 64.70, 64.78, 64.69, 65.65, 65.43),
    "at_att_reg": (85.98, 53.23, 41.55, 40.78, 40.67, 42.12, 42.06, 69.00, 64.01, 64.15, 64.11, 64.50, 64.35),
}

get_config = _fpr.resnet_table(__file__, PAPER, width=3)
