"""Keras layers of robust classifiers."""

from tfrobust.layers import last
from tfrobust.layers.attention import LinearAttention, NonlinearAttention
from tfrobust.layers.class_activation_map import ClassActivationMap
from tfrobust.layers.normalized_cosine_softmax import NormalizedCosineSoftmax
from tfrobust.layers.standardize import Standardize

__all__ = [
    "ClassActivationMap",
    "LinearAttention",
    "NonlinearAttention",
    "NormalizedCosineSoftmax",
    "Standardize",
    "last",
]
