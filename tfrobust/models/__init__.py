"""Classifiers with named outputs: networks by name, and `expose` for a Keras model of the user.

`get(name, input_shape=(H, W, C), classes=C, **options)` takes a name, a config or a model; `names()` lists the names;
`register` adds a function that returns a classifier.
"""

from tfrobust.models import heads
from tfrobust.models.augmentation import Augmentation
from tfrobust.models.expose import expose
from tfrobust.models.given import Given
from tfrobust.models.graph import Step, first_steps, is_graph
from tfrobust.models.madry_resnet import madry_resnet
from tfrobust.models.registry import MODELS, get, names, register
from tfrobust.models.resnet import preact_resnet18, resnet18, resnet34, resnet50, resnet101
from tfrobust.models.small import cnn_b, digits, dra_mnist, fpr_mnist, lenet5, spat_mnist
from tfrobust.models.wide_resnet import wide_resnet, wrn_28_10, wrn_34_10, wrn_40_10

__all__ = [
    "Augmentation",
    "Given",
    "MODELS",
    "Step",
    "cnn_b",
    "digits",
    "dra_mnist",
    "expose",
    "first_steps",
    "fpr_mnist",
    "get",
    "heads",
    "is_graph",
    "lenet5",
    "madry_resnet",
    "names",
    "preact_resnet18",
    "register",
    "resnet101",
    "resnet18",
    "resnet34",
    "resnet50",
    "spat_mnist",
    "wide_resnet",
    "wrn_28_10",
    "wrn_34_10",
    "wrn_40_10",
]

# Type checkers and editors read the imports above; a member that they leave out is found here.
globals().update(MODELS.import_members(__name__))
