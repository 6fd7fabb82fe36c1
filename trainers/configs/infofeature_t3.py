"""InfoFeature, table 3: CIFAR-10, WRN-28-10. Rows: standard, madry, feature_scatter, adv_interpolation, infofeature.

The paper trains the last three several times and gives its best and its worst run: other runs of a row are other seeds,
`--config.seed=1`. `paper` holds the best run; the worst stands under labels of its own.
"""

from ml_collections import ConfigDict

from commands import config as _base
from trainers.configs import _infofeature

# Clean, FGSM, PGD-7, PGD-20, CW-20.
PAPER = {
    "standard": (95.8, 42.1, 3.1, 0.0, 0.0),
    "madry": (88.7, 70.8, 59.5, 45.0, 45.7),
    "feature_scatter": (92.8, 88.9, 66.8, 55.0, 54.9),
    "adv_interpolation": (90.6, 75.1, 71.6, 67.5, 61.4),
    "infofeature": (90.6, 73.0, 64.8, 50.0, 49.5),
}
WORST_COLUMNS = tuple(f"worst run {label}" for label in _infofeature.COLUMNS)
WORST = {
    "feature_scatter": _base.figures(WORST_COLUMNS, 90.3, 71.4, 59.1, 44.4, 44.5),
    "adv_interpolation": _base.figures(WORST_COLUMNS, 88.1, 66.8, 58.2, 48.4, 49.1),
    "infofeature": _base.figures(WORST_COLUMNS, 89.9, 72.6, 61.6, 48.5, 49.2),
}


def get_config(row: str = "infofeature") -> ConfigDict:
    """Returns the configuration of a row."""
    config = _infofeature.table(__file__, row, PAPER, _infofeature.WRN)
    config.paper.update(WORST.get(row, {}))
    return config
