"""Loads image data sets as `tf.data` pipelines that repeat exactly."""

from tfrobust.data import batch, containers
from tfrobust.data.augment import Augment
from tfrobust.data.load import Info, info, load

__all__ = ["Augment", "Info", "batch", "containers", "info", "load"]
