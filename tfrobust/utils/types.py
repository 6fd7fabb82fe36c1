"""Names of types in annotations."""

from typing import Any

Tensor = Any  # a tensor of the backend, or an array that `keras.ops` takes in its place
