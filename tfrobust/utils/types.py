"""Names of types in annotations."""

from collections.abc import Callable, Mapping
from typing import Any

Tensor = Any  # a tensor of the backend, or an array that `keras.ops` takes in its place
Bounds = tuple[float, float]  # the least and the greatest pixel value
Classify = Callable[[Tensor], Mapping[str, Any]]  # pixels -> named outputs, `logits` among them
