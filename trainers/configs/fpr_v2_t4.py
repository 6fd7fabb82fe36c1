"""FPR-v2, table 4: the judge of the gradient-map test; the rows of table 2 that it judges have the figures.

`tfrobust interpret --sections=gradient_map_test --images=50000 --judge=DIR --workdir=DIR ...` measures runs
of `fpr_v2_t2.py`, rows madry and at_att_reg.
"""

from trainers.configs import _fpr

get_config = _fpr.judge(__file__)
