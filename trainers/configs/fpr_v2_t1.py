"""FPR-v2, table 1: MNIST. The figures and settings are those of FPR-v1's table 1."""

from trainers.configs import _fpr

get_config = _fpr.mnist_table(__file__, "at_reg")
