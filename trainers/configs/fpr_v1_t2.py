"""FPR-v1, table 2: CIFAR-10, attention at blocks 3 and 4."""

from trainers.configs import _fpr

# Clean, PGD-5, black box PGD-5; in two rows table 3: gradient maps, clipped (train, test) and raw (train, test).
# choice: its "ours" is the row with attention and regularizer.
PAPER = {
    "madry": (80.79, 49.89, 60.13, 27.10, 26.78, 28.60, 28.72),
    "at_id": (79.52, 52.35, 61.82),
    "at_att": (82.71, 51.06, 63.88),  # "0.01 for AT-att and AT-att-id", says the text; AT-att has no such term
    "at_att_id": (81.86, 52.50, 63.66, 30.13, 30.25, 31.26, 31.53),
}
# The paper prints no step count for its evaluation; FPR-v2 gives the same figures as PGD with 5 steps.
ATTACKS = {"PGD-5": _fpr.ATTACKS["PGD-5"]}

get_config = _fpr.resnet_table(__file__, PAPER, suffix="id", attended=(3, 4), attacks=ATTACKS)
