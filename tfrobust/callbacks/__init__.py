"""Callbacks for `fit`."""

from tfrobust.callbacks.averaged_weights import AveragedWeights
from tfrobust.callbacks.catastrophic_overfitting import CatastrophicOverfitting
from tfrobust.callbacks.checkpoints import Checkpoints
from tfrobust.callbacks.robustness_monitor import RobustnessMonitor
from tfrobust.callbacks.terminate_on_divergence import TerminateOnDivergence
from tfrobust.utils.deprecation import renamed

__all__ = ["AveragedWeights", "CatastrophicOverfitting", "Checkpoints", "RobustnessMonitor", "TerminateOnDivergence"]

__getattr__ = renamed(__name__, {"Divergence": TerminateOnDivergence})
