"""Classifiers with named outputs: members by name, and `expose` for a model that was brought.

`get(name, input_shape=(H, W, C), classes=C, **options)` takes a name, a config or a model; `names()` lists the names;
`register` adds a function that makes a classifier.
"""

from tfrobust.models.digits import digits
from tfrobust.models.expose import expose
from tfrobust.models.fpr_mnist import fpr_mnist
from tfrobust.models.registry import get, names, register

__all__ = ["digits", "expose", "fpr_mnist", "get", "names", "register"]
