"""Training objectives: one factory a method; `get` takes a name, a config or an instance."""

from tfrobust.objectives.feature_regularization import feature_regularization
from tfrobust.objectives.joint import joint
from tfrobust.objectives.madry import madry
from tfrobust.objectives.objective import Objective, Term, get, names, register
from tfrobust.objectives.standard import standard
from tfrobust.objectives.trades import trades

__all__ = [
    "Objective",
    "Term",
    "feature_regularization",
    "get",
    "joint",
    "madry",
    "names",
    "register",
    "standard",
    "trades",
]
