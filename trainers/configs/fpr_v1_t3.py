"""FPR-v1, table 3: the judge of the gradient-map test; the rows of table 2 that it judges have the figures.

`tfrobust interpret --sections=gradient_map_test --images=50000 --judge=DIR --workdir=DIR ...` measures runs
of `fpr_v1_t2.py`, rows madry and at_att_id.
"""

from trainers.configs import _fpr

get_config = _fpr.judge(__file__)
