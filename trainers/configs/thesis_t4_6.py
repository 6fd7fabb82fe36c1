"""Thesis, table 4.6: DRA's share p of the values, ResNet-50."""

from commands import config
from trainers.configs import _thesis, thesis_t4_3

SHARES = {"p_1_6": 1 / 6, "p_1_3": 1 / 3, "p_1_2": 1 / 2, "p_1": 1.0}

# choice: eps stays at 1/255, for the row of 1/3 has the figures of table 4.5.
ROWS: dict[str, config.Settings] = {
    "p_0": thesis_t4_3.ROWS["vanilla"],  # nothing may change: its figures are those of the vanilla network
    **{name: _thesis.fine_tuning(_thesis.dra(1 / 255, p=p)) for name, p in SHARES.items()},
}

# Clean, PGD at 2/255, 5/255, 8/255.
PAPER = {
    "p_0": (93.7, 45.0, 15.9, 5.6),
    "p_1_6": (91.8, 58.5, 28.0, 9.2),
    "p_1_3": (91.3, 60.0, 28.9, 9.8),
    "p_1_2": (90.4, 61.4, 29.1, 10.0),
    "p_1": (89.6, 61.9, 29.3, 10.1),
}

get_config = _thesis.resnet_table(__file__, ROWS, PAPER, default="p_1_3")
