"""The trainer's own variables in a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np


class OwnState(keras.layers.Layer):
    """Writes and reads variables by name beside the weights of a classifier and its optimizer.

    Args:
        variables: name -> variable; one that a file lacks keeps its value.
    """

    def __init__(self, variables: Mapping[str, Any]) -> None:
        super().__init__(name="trainer_state")
        self._named = lambda: variables  # a function, or Keras would track them as weights of this layer
        self.built = True

    def save_own_variables(self, store: Any) -> None:
        for name, variable in self._named().items():
            store[name] = keras.ops.convert_to_numpy(variable)

    def load_own_variables(self, store: Any) -> None:
        for name, variable in self._named().items():
            if name in store.keys():  # noqa: SIM118, a store is not a mapping
                variable.assign(np.asarray(store[name]))


def from_an_older_version(path: str | Path) -> bool:
    """Returns whether a file of weights is one in which the classifier is a part of the trainer."""
    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return "classifier" in file
