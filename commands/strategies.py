"""The devices and machines of a run: each value of `--config.strategy` names one `tf.distribute` strategy."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import Registry

_registry = Registry("strategy", tf.distribute.Strategy)
get, names, register = _registry.get, _registry.names, _registry.register

# A process makes each strategy once, because several of one kind can wait for each other forever.


@register
def none() -> Any:
    """Uses one device: the first GPU, or the CPU."""
    return tf.distribute.get_strategy()


@register
def mirrored(devices: tuple[str, ...] | None = None) -> Any:
    """Uses all GPUs of this machine, or only some devices, such as ("GPU:0", "GPU:1")."""
    return _mirrored(None if devices is None else tuple(devices))


@register
def auto() -> Any:
    """Is `mirrored` if this machine has several GPUs, else `none`."""
    return mirrored() if len(tf.config.list_physical_devices("GPU")) > 1 else none()


@register
def multi_worker() -> Any:
    """Uses all GPUs of the machines that the environment variable TF_CONFIG lists: see docs/distributed.md."""
    check_cluster(os.environ.get("TF_CONFIG"))
    return _multi_worker()


@functools.cache
def _mirrored(devices: tuple[str, ...] | None) -> Any:
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def _multi_worker() -> Any:
    return tf.distribute.MultiWorkerMirroredStrategy()


@contextlib.contextmanager
def losses_told() -> Iterator[None]:
    """Turns TensorFlow's errors about a lost worker into a `ConnectionError` of one sentence."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
        raise ConnectionError(
            "Lost another worker: start the same command on every machine again, it goes on from the last checkpoint. "
            f"Received: {error.message.strip().splitlines()[0]}"
        ) from error


def check_cluster(text: str | None) -> None:
    """Checks the value of TF_CONFIG, which lists the machines, as HOST:PORT, and says which of them this one is.

    Example:

    >>> check_cluster('{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 1}}')
    """
    expected = (
        'Invalid TF_CONFIG: expected {"cluster": {"worker": ["HOST:PORT", ...]}, '
        '"task": {"type": "worker", "index": I}}, the same cluster and another index on every machine. Received: '
    )
    try:
        config = json.loads(text or "")
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"{expected}{text!r}" + (f", which is not JSON ({error})" if text else "")) from error
    cluster, task = (config.get(part) if isinstance(config, dict) else None for part in ("cluster", "task"))
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise InvalidArgument(f"{expected}{text}")
    for addresses in cluster.values():
        if not isinstance(addresses, list) or not all(isinstance(a, str) and ":" in a for a in addresses):
            raise InvalidArgument(f"{expected}{text}, where {addresses!r} is not a list of HOST:PORT")
    workers, index = cluster.get(task.get("type"), []), task.get("index")
    if set(cluster) - {"worker", "chief"}:
        raise InvalidArgument(f"{expected}{text}, with tasks other than workers and a chief")
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(workers):
        known = [f"{kind} {i}" for kind, addresses in cluster.items() for i in range(len(addresses))]
        raise InvalidArgument(
            f"{expected}{text}, whose task {task.get('type')} {index} is not in its cluster: {', '.join(known)}"
        )
