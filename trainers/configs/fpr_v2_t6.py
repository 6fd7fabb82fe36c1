"""FPR-v2, table 6: SVHN, narrow ResNet."""

from trainers.configs import _fpr

# choice: the setup of CIFAR-10 (section 4.5) but for the flips, for a mirrored digit is another character. Without the
# extra images. White box CW-30, at_att is below madry: an ordering is no fact.
DATA = {"name": "svhn_cropped", "augment": {"pad": 4, "flip": False}}

# Clean, white box, black box: each PGD with 5, 20, 100, 200 steps, CW with 30, 100.
PAPER = {
    "madry": (92.94, 63.52, 47.02, 44.92, 44.74, 47.47, 46.70, 72.39, 61.34, 60.76, 60.79, 63.00, 62.83),
    "at_reg": (92.84, 66.63, 52.26, 50.34, 50.21, 50.40, 49.80, 72.54, 62.02, 61.03, 60.98, 61.55, 61.41),
    "at_att": (93.37, 64.63, 48.22, 45.56, 45.35, 46.98, 46.13, 74.42, 63.80, 63.30, 63.27, 65.10, 65.12),
    "at_att_reg": (93.12, 67.18, 54.28, 52.73, 52.67, 52.82, 52.17, 72.98, 62.37, 61.65, 61.52, 63.05, 62.90),
}

get_config = _fpr.resnet_table(__file__, PAPER, data=DATA)
