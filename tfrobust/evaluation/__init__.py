"""Measures how often a classifier is right on clean images and under every attack of a suite."""

from tfrobust.evaluation import suites, tables
from tfrobust.evaluation.adversaries import Adversaries, Verification
from tfrobust.evaluation.attack_list import NamedAttack, list_attacks
from tfrobust.evaluation.dataset import Images
from tfrobust.evaluation.evaluate import evaluate
from tfrobust.evaluation.report import Report, Result
from tfrobust.evaluation.runner import AdversaryFinder
from tfrobust.evaluation.tables import Table, corrupt, corruptions, distances, noise, shift, shifts, transfer_table

__all__ = [
    "Adversaries",
    "AdversaryFinder",
    "Images",
    "NamedAttack",
    "Report",
    "Result",
    "Table",
    "Verification",
    "corrupt",
    "corruptions",
    "distances",
    "evaluate",
    "list_attacks",
    "noise",
    "shift",
    "shifts",
    "suites",
    "tables",
    "transfer_table",
]
