"""From a config to the objects that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

import tfrobust
from tfrobust._registry import unknown
from tfrobust.attacks.balls import ball
from tfrobust.evaluation._line_up import line_up


@keras.saving.register_keras_serializable(package="tfrobust")
class OverEpochs(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate schedule over epochs, called by the optimizer with its step.

    Args:
        schedule: a Keras schedule whose argument is the fractional epoch.
        steps_per_epoch: updates in an epoch.
    """

    def __init__(self, schedule: Any, steps_per_epoch: int) -> None:
        self.schedule = schedule
        self.steps_per_epoch = steps_per_epoch

    def __call__(self, step: Any) -> Any:
        return self.schedule(keras.ops.cast(step, "float32") / self.steps_per_epoch)

    def get_config(self) -> dict[str, Any]:
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "steps_per_epoch": self.steps_per_epoch,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OverEpochs:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["steps_per_epoch"])


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that are not None: the others are left to their defaults."""
    return {name: value for name, value in arguments.items() if value is not None}


def check_fields(config: Mapping[str, Any]) -> None:
    """Refuses a config without all the fields that a run reads.

    Raises:
        ValueError: naming the missing ones.
    """
    from trainers.configs import digits

    if missing := sorted(set(digits.get_config().to_dict()) - set(config)):
        raise ValueError(
            f"Invalid config: expected the fields of trainers/configs/digits.py. Missing: {', '.join(missing)}"
        )


def check_evaluation(config: Mapping[str, Any]) -> None:
    """Refuses, before any training, an evaluation that could not be made after it.

    Raises:
        ValueError: for an unknown suite or norm and an eps that is no radius.
    """
    options = given(config["evaluation"])
    if options.get("attacks"):
        norm = options.get("norm", "linf")
        line_up(options["attacks"], norm, ball(norm, options["eps"]))


def load_data(config: Mapping[str, Any], split: str, **options: Any) -> tf.data.Dataset:
    """Returns one split of the config's data; augmentation is for training alone."""
    arguments = dict(config["data"])
    augment = arguments.pop("augment")
    if split == "train":
        options["augment"] = augment
    return tfrobust.data.load(arguments.pop("name"), split, seed=config["seed"], **arguments, **options)


def build_classifier(config: Mapping[str, Any]) -> keras.Model:
    """Returns the config's network, fitted to its data, with weight decay as an L2 term of the kernels."""
    if config["mixed_precision"]:
        keras.config.set_dtype_policy("mixed_bfloat16")
    info = tfrobust.data.info(config["data"]["name"], validation=config["data"]["validation"])
    shape = {"input_shape": info.input_shape, "classes": info.classes}
    classifier = tfrobust.models.get({**shape, **config["model"]})
    if config["weight_decay"]:
        for layer in classifier._flatten_layers():
            if isinstance(getattr(layer, "kernel", None), keras.Variable):
                layer.kernel.regularizer = keras.regularizers.L2(config["weight_decay"] / 2)
    return classifier


def build_optimizer(config: Mapping[str, Any], steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns the config's optimizer.

    Raises:
        ValueError: for an optimizer or schedule that Keras does not know.
    """
    rate = tfrobust.schedules.get(config["learning_rate"])
    if callable(rate):
        rate = OverEpochs(rate, steps_per_epoch)
    arguments = {**config["optimizer"], "learning_rate": rate}
    return keras.optimizers.get({"class_name": arguments.pop("name"), "config": arguments})


def build_trainer(config: Mapping[str, Any]) -> tfrobust.AdversarialTrainer:
    """Returns the compiled trainer that the config describes."""
    if config["epochs"] < 1:
        raise ValueError(f"Invalid value for `epochs`: expected at least 1. Received: {config['epochs']}")
    if config["monitor"] and not config["data"]["validation"]:
        raise ValueError(
            "`monitor` needs validation data: expected data.validation > 0, or monitor='' to keep the last "
            f"classifier. Received: monitor={config['monitor']!r}, data.validation=0"
        )
    trainer = tfrobust.AdversarialTrainer(
        build_classifier(config), config["objective"], given(config["attack"]) or None, seed=config["seed"]
    )
    if config["monitor"] and config["monitor"].removeprefix("val_") not in trainer.log_names:
        raise unknown("monitor", config["monitor"], [f"val_{name}" for name in trainer.log_names])
    steps_per_epoch = int(load_data(config, "train").cardinality())
    trainer.compile(build_optimizer(config, steps_per_epoch))
    return trainer
