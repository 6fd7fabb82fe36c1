"""InfoFeature, table 1: CIFAR-10, ResNet-18. fm and fm_maps are two readings of the one row of feature matching."""

from trainers.configs import _infofeature

FM = (85.6, 68.7, 58.0, 42.9, 44.2)
# Clean, FGSM, PGD-7, PGD-20, CW-20.
PAPER = {
    "standard": (94.7, 30.7, 1.8, 0.0, 0.0),
    "madry": (85.6, 68.6, 56.1, 40.3, 41.5),
    "alp": (85.7, 67.6, 56.3, 41.3, 43.0),
    "fm": FM,
    "fm_maps": FM,
    # Published defences of these two fall to 36.64 and 36.45 (wide networks) under AutoAttack.
    "feature_scatter": (89.5, 69.8, 61.0, 50.2, 44.2),
    "adv_interpolation": (90.0, 70.4, 61.0, 47.5, 44.1),
    "infofeature": (85.1, 69.3, 61.3, 49.3, 48.0),
    "infofeature_maps": (),
}

get_config = _infofeature.white_box_table(__file__, PAPER, _infofeature.RESNET18)
