"""Callbacks for `fit`."""

from tfrobust.callbacks.averaged_weights import AveragedWeights
from tfrobust.callbacks.catastrophic_overfitting import CatastrophicOverfitting
from tfrobust.callbacks.checkpoints import Checkpoints
from tfrobust.callbacks.divergence import Divergence
from tfrobust.callbacks.robustness_monitor import RobustnessMonitor

__all__ = ["AveragedWeights", "CatastrophicOverfitting", "Checkpoints", "Divergence", "RobustnessMonitor"]
