"""Numbers that may change during training: a number, or a Keras schedule called with the fractional epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import keras

from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.validation import check_nonnegative

Schedule = float | Callable[[Any], Any]


def get(schedule: Any) -> Any:
    """Returns a number or a schedule as it is, and the Keras schedule that a config names.

    A config is `{"name": "PolynomialDecay", argument: value, ...}`, or what `keras.saving.serialize_keras_object` makes
    of a schedule.

    Raises:
        ValueError: if the name is not a schedule of Keras, or an argument is unknown.

    Example:

    >>> ramp = {"name": "PolynomialDecay", "initial_learning_rate": 0.0, "decay_steps": 10, "end_learning_rate": 0.5}
    >>> float(get(ramp)(5))
    0.25
    """
    if not isinstance(schedule, Mapping):
        return schedule
    if "class_name" in schedule:
        return keras.optimizers.schedules.deserialize(dict(schedule))
    arguments = dict(schedule)
    name = arguments.pop("name", None)
    known = {n: c for n, c in vars(keras.optimizers.schedules).items() if isinstance(c, type)} | {"From": From}
    if name not in known:
        raise unknown("schedule", name, known)
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise InvalidArgument(f"Invalid arguments of schedule {name!r}: {error}. Received: {arguments}") from error


@keras.saving.register_keras_serializable(package="tfrobust")
class From(keras.optimizers.schedules.LearningRateSchedule):
    """Returns one value before an epoch, another from then on.

    Args:
        epoch: The epoch at which the value changes.
        value: The value from that epoch on.
        before: The value before.

    Example:

    >>> weight = From(10, 6.0)
    >>> float(weight(9.99)), float(weight(10.0))
    (0.0, 6.0)
    """

    def __init__(self, epoch: float, value: float, before: float = 0.0) -> None:
        self.epoch = epoch
        self.value = value
        self.before = before

    def __call__(self, epoch: Any) -> Any:
        # An epoch is a sum of float32 fractions: the tolerance absorbs their rounding.
        return keras.ops.where(keras.ops.cast(epoch, "float32") >= self.epoch - 1e-4, self.value, self.before)

    def get_config(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "value": self.value, "before": self.before}


def value_at(schedule: Schedule, epoch: Any) -> Any:
    """Returns the value of a number or of a schedule at a fractional epoch, a number or a scalar tensor.

    A `keras.optimizers.schedules.LearningRateSchedule` is called with the epoch here, not with the step: papers give
    epochs.

    Example:

    >>> ramp = keras.optimizers.schedules.PolynomialDecay(0.0, decay_steps=10, end_learning_rate=0.5)
    >>> value_at(0.3, epoch=7), float(value_at(ramp, epoch=5))
    (0.3, 0.25)
    """
    return schedule(epoch) if callable(schedule) else schedule


def nonnegative(name: str, weight: Schedule) -> Schedule:
    """Returns a weight as `get` does; a negative number or NaN is refused, the values of a schedule are not checked."""
    weight = get(weight)
    return weight if callable(weight) else check_nonnegative(name, weight, "a schedule, or a number")
