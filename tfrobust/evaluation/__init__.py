"""Honest measurement: how often a classifier is right on clean images and under every attack of a suite."""

from tfrobust.evaluation import suites
from tfrobust.evaluation.report import Report, Result
from tfrobust.evaluation.worst_case import evaluate

__all__ = ["Report", "Result", "evaluate", "suites"]
