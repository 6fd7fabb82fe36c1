"""Attacks: a ball, a step rule, a count, a start; and, for evaluation, a loss."""

from tfrobust.attacks.attack import Adversary, Attack
from tfrobust.attacks.balls import L2, Ball, Linf
from tfrobust.attacks.cw_linf import cw_linf
from tfrobust.attacks.fgsm import fgsm
from tfrobust.attacks.mim import mim
from tfrobust.attacks.pgd import pgd
from tfrobust.attacks.registry import get, names, register
from tfrobust.attacks.steps import Gradient, Momentum, Normalized, OfEps, Sign

__all__ = [
    "Adversary",
    "Attack",
    "Ball",
    "Gradient",
    "L2",
    "Linf",
    "Momentum",
    "Normalized",
    "OfEps",
    "Sign",
    "cw_linf",
    "fgsm",
    "get",
    "mim",
    "names",
    "pgd",
    "register",
]
