"""InfoFeature, table 5: SVHN without its extra images, ResNet-18."""

from commands import config
from trainers.configs import _infofeature

SVHN = {
    "data": {"name": "svhn_cropped", "augment": {"pad": 4, "flip": False}},
    "learning_rate": config.drops(0.01, (60, 90)),
}

# Clean, FGSM, PGD-7, PGD-20, CW-20; of the best runs.
PAPER = {
    "standard": (96.1, 40.6, 1.4, 0.0, 0.0),
    "madry": (91.9, 80.4, 71.8, 43.1, 45.4),
    "feature_scatter": (94.5, 89.1, 71.5, 52.8, 49.0),
    "adv_interpolation": (95.0, 91.1, 69.2, 49.1, 48.0),
    "infofeature": (94.4, 89.3, 72.4, 54.4, 50.7),
}

get_config = _infofeature.white_box_table(__file__, PAPER, _infofeature.RESNET18, SVHN)
