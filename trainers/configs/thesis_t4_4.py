"""Thesis, table 4.4: CIFAR-10, four networks."""

from commands import config
from trainers.configs import _thesis, thesis_t4_3

ROWS: dict[str, config.Settings] = {
    f"{method}_{network}": {**thesis_t4_3.ROWS[method], "model": {"name": network}}
    for network in ("resnet18", "resnet34", "resnet50", "resnet101")
    for method in ("vanilla", "dra")
}

# Clean, PGD at 2/255, 5/255, 8/255.
PAPER = {
    "vanilla_resnet18": (93.1, 44.1, 14.6, 5.8),
    "dra_resnet18": (92.4, 60.4, 25.5, 8.5),
    "vanilla_resnet34": (93.3, 46.6, 15.3, 4.5),
    "dra_resnet34": (92.9, 61.4, 27.9, 8.9),
    "vanilla_resnet50": (93.7, 45.0, 15.9, 5.6),
    "dra_resnet50": (93.8, 64.9, 31.0, 10.9),  # printed "+10.9"; table 4.3 and the difference beside it have 10.9
    "vanilla_resnet101": (93.7, 46.9, 15.9, 6.8),
    "dra_resnet101": (93.8, 69.8, 32.3, 14.2),  # printed "+14.2", which is 6.8 and the difference beside it, 7.4
}

get_config = _thesis.resnet_table(__file__, ROWS, PAPER, default="dra_resnet50")
