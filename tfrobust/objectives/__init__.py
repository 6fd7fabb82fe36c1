"""Training objectives: one factory a method; `get` takes a name, a config or an instance."""

from tfrobust.objectives import recipes, terms
from tfrobust.objectives.aelf import aelf, aelfs
from tfrobust.objectives.awp import awp, perturbed
from tfrobust.objectives.coupled import adv_interpolation, feature_scatter
from tfrobust.objectives.cross_entropy import alp, joint, madry, standard
from tfrobust.objectives.divergence import mart, trades
from tfrobust.objectives.dra import dra
from tfrobust.objectives.features import feature_matching, feature_regularization, infofeature
from tfrobust.objectives.objective import (
    OBJECTIVES,
    Loss,
    Multiplier,
    Objective,
    Term,
    digits_row,
    get,
    names,
    register,
    search_space,
)
from tfrobust.objectives.reweighted import gairat, mail_at, mail_trades
from tfrobust.objectives.spat import spat

__all__ = [
    "Loss",
    "Multiplier",
    "OBJECTIVES",
    "Objective",
    "Term",
    "adv_interpolation",
    "aelf",
    "aelfs",
    "alp",
    "awp",
    "digits_row",
    "dra",
    "feature_matching",
    "feature_regularization",
    "feature_scatter",
    "gairat",
    "get",
    "infofeature",
    "joint",
    "madry",
    "mail_at",
    "mail_trades",
    "mart",
    "names",
    "perturbed",
    "recipes",
    "register",
    "search_space",
    "spat",
    "standard",
    "terms",
    "trades",
]

# Type checkers and editors read the imports above; a member that they leave out is found here.
globals().update(OBJECTIVES.import_members(__name__))
