"""The family of networks, by name."""

import keras

from tfrobust.utils.registry import Registry

MODELS = Registry("model", keras.Model)
register, get, names = MODELS.register, MODELS.get, MODELS.names
