"""Thesis, table 4.7: CIFAR-10-C, ResNet-50. The rows are trained as in table 4.3.

`tfrobust beyond --config=thesis_t4_7:dra --workdir=DIR` measures a run of
`thesis_t4_3.py:dra`, which need not be trained again.
"""

from trainers.configs import _thesis, thesis_t4_3

KINDS = ("snow", "frost", "zoom_blur", "motion_blur", "jpeg_compression", "gaussian_noise")
# choice: means of the 5 severities, for the text names none.
PAPER = {
    "vanilla": (84.10, 81.41, 82.13, 74.08, 84.51, 50.92),
    "dra": (85.37, 84.4, 84.97, 76.89, 89.51, 75.85),
}

get_config = _thesis.corruptions(__file__, thesis_t4_3.ROWS, PAPER, KINDS, _thesis.SCRATCH, default="dra")
