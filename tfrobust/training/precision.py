"""The dtype in which a training step searches for adversaries: float32, or bfloat16 on the same weights."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfrobust.classifiers import body_of
from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown

DTYPES = ("auto", "float32", "bfloat16")
# "auto" may choose bfloat16 only once `python -m benchmarks.search_dtype` has shown, on a machine with 16-bit units,
# that trainings do not become less robust by it. No machine has shown it yet.
SHOWN = False


def has_units() -> bool:
    """Returns whether this machine computes in bfloat16 by units of its own: tensor cores, AVX512-BF16 or AMX."""
    if gpus := tf.config.list_physical_devices("GPU"):
        return all(
            tf.config.experimental.get_device_details(gpu).get("compute_capability", (0,)) >= (8,) for gpu in gpus
        )
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and re.search(r"\b(avx512_bf16|amx_bf16)\b", cpuinfo.read_text()) is not None


def chosen(search_dtype: str, classifier: keras.Model) -> str:
    """Returns the dtype of searches, "float32" or "bfloat16", after a check.

    Raises:
        ValueError: for another value, and for "bfloat16" with a classifier that has no layers to compute in it.
    """
    if search_dtype not in DTYPES:
        raise unknown("value for `search_dtype`", search_dtype, DTYPES)
    if search_dtype == "auto":
        return "bfloat16" if SHOWN and has_units() and _layers(classifier) else "float32"
    computing = {layer.compute_dtype for layer in keras_private.layers_inside(classifier)}
    if search_dtype == "bfloat16" and "bfloat16" not in computing and not _layers(classifier):
        raise InvalidArgument(
            'Invalid value for `search_dtype`: "bfloat16" is for a classifier whose layers compute in float32, or '
            'already in bfloat16: expected search_dtype="float32", which leaves the layers as they are. Received: '
            f"'bfloat16', and layers that compute in {', '.join(sorted(computing))}, none of them in float32 before "
            "the head"
        )
    return search_dtype


@contextlib.contextmanager
def computing_in(dtype: str, classifier: keras.Model) -> Iterator[None]:
    """Lets a classifier that is called in the block compute in a dtype, on its own weights; "float32" changes nothing.

    Preparation of the pixels and the head stay in float32: eps may be less than the spacing of pixels in 16 bits, and
    losses subtract logits that are nearly equal. A classifier under a mixed policy stays as it is.
    """
    before = [] if dtype == "float32" else [(layer, layer.dtype_policy) for layer in _layers(classifier)]
    try:
        for layer, _ in before:
            layer.dtype_policy = keras.DTypePolicy(f"mixed_{dtype}")
        yield
    except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:
        if not before or isinstance(error, InvalidArgument):
            raise
        raise InvalidArgument(
            f"A layer does not compute in {dtype}: expected layers that cast to their `self.compute_dtype` where they "
            f'are called, or search_dtype="float32". Received: {" ".join(str(error).split())[:400]}'
        ) from error
    finally:
        for layer, policy in before:
            layer.dtype_policy = policy


def _layers(classifier: keras.Model) -> list[Any]:
    """Returns the layers that can be changed; none if some compute in 16 bits, for then the user has chosen."""
    policies = [layer.dtype_policy for layer in keras_private.layers_inside(classifier)]
    if any(policy.compute_dtype in ("bfloat16", "float16") for policy in policies):
        return []
    return [layer for layer in body_of(classifier) if layer.dtype_policy.name == "float32"]
