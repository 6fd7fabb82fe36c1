"""Attacks, callable as `(classifier, x, y) -> x_adv`; the factories stand under their names."""

from tfrobust.attacks import starts, view_losses, walks
from tfrobust.attacks.adv_interpolation import adv_interpolation
from tfrobust.attacks.apgd import apgd
from tfrobust.attacks.autoattack import autoattack
from tfrobust.attacks.base import Attack, Cascade
from tfrobust.attacks.boundary import boundary
from tfrobust.attacks.cw_l2 import cw_l2
from tfrobust.attacks.cw_linf import cw_linf
from tfrobust.attacks.deepfool import deepfool
from tfrobust.attacks.dra import dra
from tfrobust.attacks.fab import fab
from tfrobust.attacks.feature_scatter import feature_scatter
from tfrobust.attacks.fgsm import fgsm
from tfrobust.attacks.foreign import from_art, from_foolbox
from tfrobust.attacks.gradient import Adversary, GradientAttack, expectation
from tfrobust.attacks.gradients import Exact, Gradients
from tfrobust.attacks.hop_skip_jump import hop_skip_jump
from tfrobust.attacks.infofeature import infofeature
from tfrobust.attacks.local_search import local_search
from tfrobust.attacks.mim import mim
from tfrobust.attacks.pgd import pgd
from tfrobust.attacks.random_noise import random_noise
from tfrobust.attacks.registry import ATTACKS, EPS, get, names, register
from tfrobust.attacks.rows import where_rows
from tfrobust.attacks.spsa import spsa
from tfrobust.attacks.square import square
from tfrobust.attacks.steps import Gradient, Momentum, Normalized, RelativeStepSize, Sign, TopKGradient
from tfrobust.attacks.straight_through import passing, replace_gradient, straight_through
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
    "Gradients",
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
    "passing",
    "pgd",
    "random_noise",
    "register",
    "replace_gradient",
    "spsa",
    "square",
    "starts",
    "straight_through",
    "transfer",
    "view_losses",
    "walks",
    "where_rows",
]

# Type checkers and editors read the imports above; a member that they leave out is found here.
globals().update(ATTACKS.import_members(__name__))

__getattr__ = renamed(__name__, {"Evasion": Attack, "OfEps": RelativeStepSize, "Strongest": TopKGradient})
