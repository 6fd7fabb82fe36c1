"""Attacks: a ball, a step rule, a count, a start; and, for evaluation, a loss."""

from tfrobust.attacks.adv_interpolation import adv_interpolation
from tfrobust.attacks.attack import Adversary, Attack
from tfrobust.attacks.balls import L1, L2, Ball, Linf
from tfrobust.attacks.cw_linf import cw_linf
from tfrobust.attacks.dra import dra
from tfrobust.attacks.evasion import Cascade, Evasion
from tfrobust.attacks.expectation import expectation
from tfrobust.attacks.feature_scatter import feature_scatter
from tfrobust.attacks.fgsm import fgsm
from tfrobust.attacks.infofeature import infofeature
from tfrobust.attacks.mim import mim
from tfrobust.attacks.pgd import pgd
from tfrobust.attacks.registry import get, names, register
from tfrobust.attacks.steps import Gradient, Momentum, Normalized, OfEps, Sign, Strongest

__all__ = [
    "Adversary",
    "Attack",
    "Ball",
    "Cascade",
    "Evasion",
    "Gradient",
    "L1",
    "L2",
    "Linf",
    "Momentum",
    "Normalized",
    "OfEps",
    "Sign",
    "Strongest",
    "adv_interpolation",
    "cw_linf",
    "dra",
    "expectation",
    "feature_scatter",
    "fgsm",
    "get",
    "infofeature",
    "mim",
    "names",
    "pgd",
    "register",
]
