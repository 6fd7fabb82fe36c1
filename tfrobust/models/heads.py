"""The last layer of a network, by name: `head(features, feature_map=None)` returns a dict with `logits`."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import keras

from tfrobust.layers import ClassActivationMap, NormalizedCosineSoftmax
from tfrobust.utils.registry import Registry

HEADS = Registry("head", keras.layers.Layer)
register, get, names = HEADS.register, HEADS.get, HEADS.names

Head: TypeAlias = str | Mapping[str, Any] | keras.layers.Layer


@register
def dense(classes: int, form: str = "clipped") -> keras.layers.Layer:
    """Returns a dense layer with the outputs `logits` and, of a map, `cam` in a form of `ClassActivationMap`."""
    return ClassActivationMap(units=classes, form=form, name="head")


@register
def cosine(classes: int, scale: float | None = 5.0) -> keras.layers.Layer:
    """Returns a normalized cosine softmax with the outputs `logits` and `cosine`; a scale of None omits the norms."""
    return NormalizedCosineSoftmax(classes, scale, name="head")


def make(head: Head, classes: int) -> keras.layers.Layer:
    """Returns the head for a name ("dense", "cosine"), a config `{"name": "cosine", "scale": 8.0}`, or a layer."""
    return head if isinstance(head, keras.layers.Layer) else get(head, classes=classes)
