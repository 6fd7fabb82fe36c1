"""InfoFeature, table 3: CIFAR-10, WRN-28-10.

The paper trains the last three methods several times and gives the best and the worst run: other runs of a row have
other seeds, `--config.seed=1`; the README beside says how both are printed.
"""

from trainers.configs import _infofeature

# Clean, FGSM, PGD-7, PGD-20, CW-20 of the best run, then of the worst one.
PAPER: dict[str, tuple[float, ...]] = {
    "standard": (95.8, 42.1, 3.1, 0.0, 0.0),
    "madry": (88.7, 70.8, 59.5, 45.0, 45.7),
    "feature_scatter": (92.8, 88.9, 66.8, 55.0, 54.9, 90.3, 71.4, 59.1, 44.4, 44.5),
    "adv_interpolation": (90.6, 75.1, 71.6, 67.5, 61.4, 88.1, 66.8, 58.2, 48.4, 49.1),
    "infofeature": (90.6, 73.0, 64.8, 50.0, 49.5, 89.9, 72.6, 61.6, 48.5, 49.2),
}

get_config = _infofeature.white_box_table(__file__, PAPER, _infofeature.WRN)
