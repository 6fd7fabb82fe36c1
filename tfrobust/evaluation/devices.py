"""Copies of a classifier on several devices, among which an evaluation divides its batches."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfrobust.utils.errors import invalid_value

DEFAULT = ("",)  # TensorFlow chooses the device


class Replica(NamedTuple):
    """A classifier, and the device on which searches attack it."""

    device: str
    classifier: Any


def replicas(classifier: Any, devices: Sequence[str] | None = None) -> tuple[Replica, ...]:
    """Returns a copy of the classifier on each device, or the classifier itself if there is only one.

    Args:
        classifier: the classifier under evaluation; only a Keras model can be copied.
        devices: names such as "GPU:0"; None: all GPUs of this machine.

    Raises:
        ValueError: for a device that is not there, and for several devices and a classifier that cannot be copied.
    """
    if devices is None:
        gpus = _names("GPU")
        devices = gpus if len(gpus) > 1 and isinstance(classifier, keras.Model) else DEFAULT
    _check(devices)
    if len(devices) == 1:
        return (Replica(devices[0], classifier),)
    if not isinstance(classifier, keras.Model):
        raise invalid_value("devices", "one device, because only a Keras model can be copied", devices)
    return tuple(Replica(device, _copy(classifier, device)) for device in devices)


def _check(devices: Sequence[str]) -> None:
    known = _names()
    if isinstance(devices, str) or not devices or not set(devices) <= {*known, *DEFAULT}:
        raise invalid_value("devices", f"a list of some of {', '.join(known)}", devices)


def _names(kind: str | None = None) -> list[str]:
    return [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices(kind)]


def _copy(classifier: keras.Model, device: str) -> keras.Model:
    with tf.device(device):
        copy = keras.models.clone_model(classifier)
        copy.set_weights(classifier.get_weights())
    return copy
