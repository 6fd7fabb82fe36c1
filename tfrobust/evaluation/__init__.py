"""Honest measurement: how often a classifier is right on clean images and under every attack of a suite."""

from tfrobust.evaluation import suites
from tfrobust.evaluation.adversaries import Adversaries, Verification
from tfrobust.evaluation.corrupt import corrupt
from tfrobust.evaluation.corruptions import corruptions
from tfrobust.evaluation.distances import distances
from tfrobust.evaluation.noise import noise
from tfrobust.evaluation.report import Report, Result
from tfrobust.evaluation.shifts import shift, shifts
from tfrobust.evaluation.tables import Table
from tfrobust.evaluation.transfer_table import transfer_table
from tfrobust.evaluation.worst_case import evaluate

__all__ = [
    "Adversaries",
    "Report",
    "Result",
    "Table",
    "Verification",
    "corrupt",
    "corruptions",
    "distances",
    "evaluate",
    "noise",
    "shift",
    "shifts",
    "suites",
    "transfer_table",
]
