"""Keras layers of robust classifiers."""

from tfrobust.layers import last
from tfrobust.layers.class_activation_map import ClassActivationMap
from tfrobust.layers.linear_attention import LinearAttention
from tfrobust.layers.nonlinear_attention import NonlinearAttention
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
