"""Gradient clipping that means the same on one replica and on many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfrobust.utils import graph as backend
from tfrobust.utils import keras_private

Tensor = Any


def clipped(gradients: Sequence[Tensor], optimizer: Any) -> list[Tensor]:
    """Returns gradients of which the optimizer's own clipping makes, on any number of replicas, what it makes on one.

    Keras clips the part of each replica and then takes their sum. Here the sum is clipped, and each replica passes an
    equal share of it on, which is too small to be clipped again.

    Args:
        gradients: of the local batch, as they go to `optimizer.apply_gradients`; None where there is none.
        optimizer: a Keras optimizer, with its `clipnorm`, `global_clipnorm` and `clipvalue`.
    """
    inner = backend.unscaled(optimizer)
    clips = inner.clipnorm or inner.global_clipnorm or inner.clipvalue
    if backend.replicas() == 1 or not clips:
        return list(gradients)
    scale = optimizer.scale_loss(1.0)
    given = [gradient is not None for gradient in gradients]
    sums = [backend.global_sum(gradient) / scale for gradient in gradients if gradient is not None]
    shares = iter([gradient * scale / backend.replicas() for gradient in keras_private.clip_gradients(inner, sums)])
    return [next(shares) if there else None for there in given]
