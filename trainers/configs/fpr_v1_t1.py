"""FPR-v1, table 1: MNIST. at_id (implicit denoising) is FPR-v2's feature regularization."""

from trainers.configs import _fpr

get_config = _fpr.mnist_table(__file__, "at_id")
