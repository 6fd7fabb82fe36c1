"""Attacks, callable as `(classifier, x, y) -> x_adv`; the factories stand under their names."""

from tfrobust.attacks import starts, view_losses, walks
from tfrobust.attacks.apgd import apgd
from tfrobust.attacks.autoattack import autoattack
from tfrobust.attacks.base import Attack, Cascade
from tfrobust.attacks.boundary import boundary
from tfrobust.attacks.cw_l2 import cw_l2
from tfrobust.attacks.foreign import from_art, from_foolbox
from tfrobust.attacks.gradient import Adversary, GradientAttack, expectation
from tfrobust.attacks.gradients import Exact
from tfrobust.attacks.hop_skip_jump import hop_skip_jump
from tfrobust.attacks.linearized import deepfool, fab
from tfrobust.attacks.pgd import cw_linf, dra, fgsm, mim, pgd, spsa
from tfrobust.attacks.queries import local_search, random_noise
from tfrobust.attacks.registry import ATTACKS, EPS, get, names, register
from tfrobust.attacks.representation import adv_interpolation, feature_scatter, infofeature
from tfrobust.attacks.rows import where_rows
from tfrobust.attacks.square import square
from tfrobust.attacks.steps import Gradient, Momentum, Normalized, RelativeStepSize, Sign, TopKGradient
from tfrobust.attacks.threat_model import L1, L2, Ball, Linf, ball
from tfrobust.attacks.transfer import transfer
from tfrobust.utils.deprecation import renamed
from tfrobust.utils.random import Noise

__all__ = [
    "ATTACKS",
    "Adversary",
    "Attack",
    "Ball",
    "Cascade",
    "EPS",
    "Exact",
    "Gradient",
    "GradientAttack",
    "L1",
    "L2",
    "Linf",
    "Momentum",
    "Noise",
    "Normalized",
    "RelativeStepSize",
    "Sign",
    "TopKGradient",
    "adv_interpolation",
    "apgd",
    "autoattack",
    "ball",
    "boundary",
    "cw_l2",
    "cw_linf",
    "deepfool",
    "dra",
    "expectation",
    "fab",
    "feature_scatter",
    "fgsm",
    "from_art",
    "from_foolbox",
    "get",
    "hop_skip_jump",
    "infofeature",
    "local_search",
    "mim",
    "names",
    "pgd",
    "random_noise",
    "register",
    "spsa",
    "square",
    "starts",
    "transfer",
    "view_losses",
    "walks",
    "where_rows",
]

# Type checkers and editors read the imports above; a member that they leave out is found here.
globals().update(ATTACKS.import_members(__name__))

__getattr__ = renamed(__name__, {"Evasion": Attack, "OfEps": RelativeStepSize, "Strongest": TopKGradient})
