"""Training objectives: one factory a method; `get` takes a name, a config or an instance."""

from tfrobust.objectives import recipes, terms
from tfrobust.objectives.adv_interpolation import adv_interpolation
from tfrobust.objectives.aelf import aelf
from tfrobust.objectives.aelfs import aelfs
from tfrobust.objectives.alp import alp
from tfrobust.objectives.awp import awp, perturbed
from tfrobust.objectives.dra import dra
from tfrobust.objectives.feature_matching import feature_matching
from tfrobust.objectives.feature_regularization import feature_regularization
from tfrobust.objectives.feature_scatter import feature_scatter
from tfrobust.objectives.gairat import gairat
from tfrobust.objectives.infofeature import infofeature
from tfrobust.objectives.joint import joint
from tfrobust.objectives.madry import madry
from tfrobust.objectives.mail import mail_at, mail_trades
from tfrobust.objectives.mart import mart
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
from tfrobust.objectives.spat import spat
from tfrobust.objectives.standard import standard
from tfrobust.objectives.trades import trades

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
