"""Keras layers of robust classifiers."""

from tfrobust.layers.class_activation_map import ClassActivationMap
from tfrobust.layers.standardize import Standardize

__all__ = ["ClassActivationMap", "Standardize"]
