"""The names under which a classifier exposes its insides, and the checks that its makers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Tensor = Any


def named_outputs(head: Callable[..., dict[str, Tensor]], features: Tensor, feature_map: Tensor | None = None) -> dict:
    """Returns `logits`, `features` and, where there is a map, `feature_map` and `cam` (or what else the head gives).

    Args:
        head: the last layer, `head(features)` or `head(features, feature_map=...)`, giving a dict with `logits`.
        features: the head's input, `(B, D)`.
        feature_map: what was averaged to the features, `(B, H, W, D)`.
    """
    if feature_map is None:
        outputs = head(features)
        return {"logits": outputs.pop("logits"), "features": features, **outputs}
    outputs = head(features, feature_map=feature_map)
    return {"logits": outputs.pop("logits"), "features": features, "feature_map": feature_map, **outputs}


def check_whole(name: str, value: Any, least: int) -> int:
    """Returns `value` as an int if it is a whole number of at least `least`; a ValueError in words if not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"Invalid value for `{name}`: expected a whole number >= {least}. Received: {name}={value!r}")
    return value


def check_image_shape(input_shape: Any, least: int = 1) -> tuple[int, int, int]:
    """Returns `(height, width, channels)`; a ValueError in words for anything else or for less than `least` pixels."""
    sizes = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    if len(sizes) != 3 or not all(isinstance(s, int) and s >= m for s, m in zip(sizes, (least, least, 1), strict=True)):
        raise ValueError(
            "Invalid value for `input_shape`: expected (height, width, channels) with height and width >= "
            f"{least}. Received: input_shape={input_shape!r}"
        )
    return sizes
