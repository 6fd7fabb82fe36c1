"""Reads the containers that `fit` takes, batch by batch."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrobust.utils.errors import invalid

CONTAINERS = (
    "a tf.data.Dataset of (x, y) batches, a PyDataset, a generator or a torch DataLoader of such, or a tuple of arrays "
    "(x, y)"
)


def batches_of(data: Any, batch_size: int, *, endless: bool = False) -> Iterator[tuple[Any, Any]]:
    """Returns the batches (x, y) of any container that `fit` takes; sample weights are left out.

    Args:
        data: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator, a torch `DataLoader` or another iterable of
            batches (x, y) or (x, y, sample_weight); or arrays in a tuple or a list, (x, y) or (x, y, sample_weight).
            x may be a dict of one entry.
        batch_size: batch size of arrays.
        endless: whether to accept infinite data, for a reader that stops by itself.

    Raises:
        ValueError: if `data` is no such container, has no labels, is not batched, is infinite or has parts of different
            lengths.
    """
    if _is_infinite(data) and not endless:
        raise invalid("data", "a dataset that ends", "one that repeats for ever")
    return (_labelled(batch) for batch in _iterable(data, batch_size))


def _is_infinite(data: Any) -> bool:
    if isinstance(data, tf.data.Dataset):
        return bool(data.cardinality() == tf.data.INFINITE_CARDINALITY)
    return isinstance(data, keras.utils.PyDataset) and data.num_batches is None  # a generator does not tell


def _iterable(data: Any, batch_size: int) -> Iterable[Any]:
    if isinstance(data, tf.data.Dataset):
        _check_spec(data.element_spec)
        return data
    if isinstance(data, keras.utils.PyDataset):
        return _indexed(data)
    if isinstance(data, (tuple, list)):
        return _sliced(data, batch_size)
    if isinstance(data, Iterable) and not (isinstance(data, (str, Mapping)) or hasattr(data, "shape")):
        return data
    raise invalid("data", CONTAINERS, description(data))


def repeatable(data: Any) -> Any:
    """Returns data that can be read several times: an iterator, such as a generator, becomes arrays."""
    if not isinstance(data, Iterator):
        return data
    found = list(batches_of(data, 0))
    return tuple(np.concatenate(part) for part in zip(*found, strict=True)) if found else data


def description(data: Any) -> str:
    """Returns a short description of data for an error message."""
    if isinstance(data, Mapping):
        hint = ""
        if {"image", "label"} <= set(data):
            hint = "; take (x, y) out of it: `data.map(lambda d: (d['image'], d['label']))`"
        return f"a dict of {sorted(map(str, data))}{hint}"
    many = f" of {len(data)}" if isinstance(data, (tuple, list)) else ""
    return f"{type(data).__name__}{many}"


def single_entry(part: Any, name: str) -> Any:
    """Returns the only entry of a dict, a list or a tuple, and anything else unchanged; `name` is "x" or "y".

    Raises:
        ValueError: if there are several entries.
    """
    if not isinstance(part, (Mapping, list, tuple)):
        return part
    entries = list(part.values()) if isinstance(part, Mapping) else list(part)
    if len(entries) != 1:
        advice = (
            "Classifiers have one image as their input and one label: build others into the model, and map the data"
        )
        raise invalid("data", f"one tensor {name}, or a dict of one", f"{description(part)}. {advice} to (x, y)")
    return single_entry(entries[0], name)


def _labelled(batch: Any) -> tuple[Any, Any]:
    if not (isinstance(batch, (tuple, list)) and len(batch) in (2, 3)):
        raise invalid("data", CONTAINERS, f"batches that are {description(batch)}")
    x, y = (single_entry(part, name) for part, name in zip(batch, ("x", "y"), strict=False))
    return _local(x), _local(y)


def _local(part: Any) -> Any:
    """Returns a TensorFlow tensor unchanged and anything else, also a torch tensor on a device, as an array."""
    if isinstance(part, tf.Tensor):
        return part
    return np.asarray(part.detach().cpu() if hasattr(part, "detach") else part)


def _indexed(data: keras.utils.PyDataset) -> Iterator[Any]:
    data.on_epoch_begin()
    index = 0
    while data.num_batches is None or index < data.num_batches:
        yield data[index]
        index += 1
    data.on_epoch_end()


def _sliced(data: Any, batch_size: int) -> Iterator[tuple[Any, Any]]:
    if len(data) not in (2, 3):
        raise invalid("data", CONTAINERS, description(data))
    try:
        x, y = (np.asarray(_local(single_entry(part, "x") if isinstance(part, Mapping) else part)) for part in data[:2])
    except ValueError as error:  # such as a list of batches
        raise invalid("data", CONTAINERS, f"{description(data)}, which are not arrays") from error
    if not x.shape or not y.shape or len(x) != len(y):
        raise invalid("data", CONTAINERS, f"shapes {x.shape} and {y.shape}, which are not of equal length")
    return ((x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, len(x), batch_size))


def _check_spec(spec: Any) -> None:
    """Raises ValueError if a dataset has no labels or is not batched, before it is read."""
    tensors = all(isinstance(part, tf.TensorSpec) for part in keras.tree.flatten(spec))
    if not (isinstance(spec, tuple) and len(spec) in (2, 3) and tensors):
        raise invalid("data", CONTAINERS, f"a dataset of {description(spec) if isinstance(spec, Mapping) else spec}")
    if any(part.shape.rank == 0 for part in keras.tree.flatten(spec[1])):
        raise invalid("data", CONTAINERS, f"single examples, {spec}; call `data.batch(256)`")
