"""InfoFeature, table 4: CIFAR-100, WRN-28-10."""

from trainers.configs import _infofeature

# Clean, FGSM, PGD-7, PGD-20, CW-20; of the best runs.
PAPER = {
    "standard": (76.8, 0.1, 0.0, 0.0, 0.0),
    "madry": (63.8, 42.7, 33.7, 23.7, 24.2),
    "feature_scatter": (72.8, 46.0, 36.7, 25.3, 22.4),
    "adv_interpolation": (70.3, 44.7, 33.9, 28.2, 19.2),
    "infofeature": (63.0, 44.9, 34.4, 28.6, 26.6),
}

get_config = _infofeature.white_box_table(__file__, PAPER, _infofeature.WRN, {"data": {"name": "cifar100"}})
