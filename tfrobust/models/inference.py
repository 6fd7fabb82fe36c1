"""A classifier as a function of pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras


def in_inference(classify: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a Keras model called in inference mode; a function as it is.

    Keras' augmentation layers augment where a call says nothing of its mode.
    """
    return functools.partial(classify, training=False) if isinstance(classify, keras.Model) else classify
