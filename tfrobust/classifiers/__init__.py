"""Checks of classifiers, facts about them that other packages read, and classifiers in files and on servers."""

from tfrobust.classifiers import runtimes
from tfrobust.classifiers.checks import (
    REMEDIES,
    as_given,
    body_of,
    check_classifier,
    digest,
    divides_pixels,
    head_of,
    in_inference,
)
from tfrobust.classifiers.shipped import Shipped, open

__all__ = [
    "REMEDIES",
    "Shipped",
    "as_given",
    "body_of",
    "check_classifier",
    "digest",
    "divides_pixels",
    "head_of",
    "in_inference",
    "open",
    "runtimes",
]
