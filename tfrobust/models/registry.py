"""The family of networks by name, and the arguments that all of them share."""

import keras

from tfrobust.utils.docstrings import with_shared
from tfrobust.utils.registry import Factory, Registry

MODELS = Registry("model", keras.Model)
get, names = MODELS.get, MODELS.names

# The text for `{{name}}` in the docstring of a network.
SHARED = {
    "network": """\
input_shape: `(height, width, channels)`, pixel fractions in [0, 1]; an error names the least size of an image.
classes: Number of classes C, at least 2.
head: The last layer: "dense", "cosine", a config of one, or a layer; see `tfrobust.models.heads`.""",
    "as_wide_resnet": """\
Args:
    input_shape: As in `wide_resnet`.
    classes: As in `wide_resnet`.
    dropout: As in `wide_resnet`.
    activation: As in `wide_resnet`.
    head: As in `wide_resnet`.

Returns:
    A classifier with the outputs of `wide_resnet`; 640 features.

Example:

>>> "wrn_28_10" in tfrobust.models.names()
True""",
    "as_resnet18": """\
Args:
    input_shape: As in `resnet18`.
    classes: As in `resnet18`.
    head: As in `resnet18`.

Returns:
    A classifier with the outputs of `resnet18`; with bottlenecks there are 2048 features instead of 512.

Example:

>>> "resnet50" in tfrobust.models.names()
True""",
}


def register(factory: Factory) -> Factory:
    """Registers a function that returns a classifier, under its own name.

    A line `{{name}}` of its docstring is replaced by the text of `SHARED` under that name.
    """
    return MODELS.register(with_shared(factory, SHARED))
