"""Thesis, table 3.6: SPAT's alpha, beta and s.

Parameters that a row does not vary are alpha = beta = 0.2 and s = 5. The text swaps alpha and beta; the equations and
the captions agree.
"""

from commands import config
from trainers.configs import _thesis

VARIED = (0.0, 0.2, 0.4, 0.6)
ROWS: dict[str, config.Settings] = {
    **{f"alpha_{alpha}": _thesis.spat(alpha=alpha) for alpha in VARIED},
    **{f"beta_{beta}": _thesis.spat(beta=beta) for beta in VARIED},
    **{f"s_{scale}": _thesis.spat(scale=float(scale)) for scale in (1, 3, 5, 8, 10)},
}

# Clean, PGD-20.
PAPER = {
    "alpha_0.0": (84.66, 58.32),
    "alpha_0.2": (84.26, 59.56),
    "alpha_0.4": (83.60, 60.11),
    "alpha_0.6": (83.01, 60.57),
    "beta_0.0": (85.03, 57.88),
    "beta_0.2": (84.26, 59.56),
    "beta_0.4": (83.81, 59.64),
    "beta_0.6": (82.66, 57.62),
    "s_1": (87.57, 49.52),
    "s_3": (86.16, 55.77),
    "s_5": (84.26, 59.56),
    "s_8": (82.54, 60.24),
    "s_10": (81.24, 61.02),
}

get_config = _thesis.ablation(__file__, ROWS, PAPER, default="alpha_0.2")
