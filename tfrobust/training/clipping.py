"""Gradient clipping with the same result on one replica and on many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfrobust.utils import graph as backend
from tfrobust.utils import keras_private

Tensor = Any


def clipped(gradients: Sequence[Tensor], optimizer: Any) -> list[Tensor]:
    """Returns gradients for which the optimizer's own clipping has the same result on any number of replicas as on one.

    Keras clips the part of each replica and then sums them. Here the sum is clipped, and each replica returns an equal
    share of it, which is too small to be clipped again.

    Args:
        gradients: of the local batch, as `optimizer.apply_gradients` takes them; None for an unused variable.
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
