"""Builds the objects that a config names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfrobust
from commands import cli
from commands.workdir import data_of
from tfrobust.attacks import ball
from tfrobust.classifiers import head_of
from tfrobust.evaluation import list_attacks
from tfrobust.utils import keras_private
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.validation import check_integer, check_nonnegative, check_number


@keras.saving.register_keras_serializable(package="tfrobust")
class OverEpochs(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate schedule that computes the fractional epoch from the optimizer's step for another schedule."""

    def __init__(self, schedule: Any, steps_per_epoch: int) -> None:
        self.schedule, self.steps_per_epoch = schedule, steps_per_epoch

    def __call__(self, step: Any) -> Any:
        return self.schedule(keras.ops.cast(step, "float32") / self.steps_per_epoch)

    def get_config(self) -> dict[str, Any]:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "steps_per_epoch": self.steps_per_epoch}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> OverEpochs:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["steps_per_epoch"])


def given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that are not None; the others keep their defaults."""
    return {name: value for name, value in arguments.items() if value is not None}


PER_PHASE = (
    "objective",
    "attack",
    "search_in_training_mode",
    "optimizer",
    "learning_rate",
    "ema",
    "epochs",
    "frozen",
    "monitor",
)
# The variables that decay, by the value of `weight_decay_on`; a bias or a parameter of BatchNorm is a vector.
DECAYED: dict[str, Callable[[keras.Variable], bool]] = {
    "kernels": lambda variable: len(variable.shape) > 1,
    "all": lambda variable: True,
}
SWITCH: dict[str, bool | str] = {"auto": "auto", "on": True, "off": False}


def phases_of(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the config of each fit: the top level's fields, overridden by those of the phase."""
    from commands import config as _base

    if missing := sorted(set(_base.FIELDS) - set(config)):
        raise InvalidArgument(
            f"Invalid config: expected the fields of commands/config.py. Missing: {', '.join(missing)}"
        )
    for phase in config["phases"]:
        if not isinstance(phase, Mapping):
            raise InvalidArgument(f"Invalid phase: expected a mapping of fields. Received: {phase!r}")
        if others := sorted(set(phase) - set(PER_PHASE)):
            raise unknown("field of a phase", others[0], PER_PHASE)
    overrides: Sequence[Mapping[str, Any]] = config["phases"] or ({},)
    return [{**config, **phase} for phase in overrides]


def check_evaluation(config: Mapping[str, Any]) -> None:
    """Checks suite, norm and radius of the evaluation before the training that precedes it."""
    options = given(config["evaluation"])
    if options.get("attacks"):
        if "eps" not in options:
            raise InvalidArgument(f"`evaluation` with attacks needs `eps`, its radius. Received: {options}")
        list_attacks(options["attacks"], ball(options.get("norm", "linf"), options["eps"]))


def load_data(config: Mapping[str, Any], split: str, **options: Any) -> tf.data.Dataset:
    """Returns one split of the config's data; only "train" is augmented and has the config's length of an epoch."""
    arguments = dict(config["data"])
    of_training = {name: arguments.pop(name) for name in ("augment", "steps_per_epoch") if name in arguments}
    if split == "train":
        options |= of_training
    cache = arguments.pop("cache", "auto")
    if cache not in SWITCH:
        raise unknown("value for `data.cache`", cache, SWITCH)
    return tfrobust.data.load(
        arguments.pop("name"), split, seed=config["seed"], cache=SWITCH[cache], **arguments, **options
    )


def digest_of_data(config: Mapping[str, Any]) -> str:
    """Returns the digest of the config's data, which changes when their files do."""
    return tfrobust.data.info(**data_of(config)).digest


def first_images(data: tf.data.Dataset, images: int) -> tf.data.Dataset:
    """Returns the first images of a batched dataset, in batches."""
    return data.unbatch().take(images).batch(256)


def arrays_of(data: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels `(N, H, W, C)` and the labels `(N,)` of a batched dataset."""
    x, y = (np.concatenate(parts) for parts in zip(*data.as_numpy_iterator(), strict=True))
    return x, y


def build_classifier(config: Mapping[str, Any]) -> keras.Model:
    """Returns the config's network, or that of its file, with weight decay as an L2 term."""
    if config["mixed_precision"]:
        keras.config.set_dtype_policy("mixed_bfloat16")
    data = config["data"]
    info = tfrobust.data.info(**data_of(config))
    if config["fine_tune"]:
        if config["mixed_precision"]:
            raise InvalidArgument(
                "`fine_tune` keeps the precision of its file: expected mixed_precision=False. Received: True, with "
                f"{config['fine_tune']}"
            )
        classifier = tfrobust.expose(cli.load_classifier(config["fine_tune"]))
        for layer in keras_private.layers_inside(classifier):
            layer.trainable = True  # a file stores frozen layers as frozen; here the field `frozen` decides
        shape, classes = classifier.input_shape[1:], classifier.output["logits"].shape[-1]
        fits = all(known in (None, size) for known, size in zip(shape, info.input_shape, strict=True))
        if not fits or classes != info.classes:
            raise InvalidArgument(
                f"{config['fine_tune']} does not fit the data {data['name']!r}: expected images {info.input_shape} and "
                f"{info.classes} classes. Received: a classifier of {shape} and {classes}"
            )
    else:
        shapes = {"input_shape": info.input_shape, "classes": info.classes}
        classifier = tfrobust.models.get({**shapes, **config["model"]})
    if config["weight_decay_on"] not in DECAYED:
        raise unknown("value for `weight_decay_on`", config["weight_decay_on"], DECAYED)
    if check_nonnegative("weight_decay", config["weight_decay"]):
        for variable in filter(DECAYED[config["weight_decay_on"]], classifier.trainable_variables):
            variable.regularizer = keras.regularizers.L2(config["weight_decay"] / 2)
    return classifier


@contextlib.contextmanager
def frozen(classifier: keras.Model, names: Iterable[str]) -> Iterator[None]:
    """Freezes layers, by their names, inside the block; "head" is the layer that computes the logits."""
    if isinstance(names, str):
        raise InvalidArgument(f"Invalid value for `frozen`: expected a list of layers' names. Received: {names!r}")
    layers = {layer.name: layer for layer in keras_private.layers_inside(classifier, include_self=False)}
    layers["head"] = head_of(classifier)
    for name in names:
        if name not in layers:
            raise unknown("layer in `frozen`", name, layers)
    parts = [part for name in names for part in keras_private.layers_inside(layers[name])]
    before = [part.trainable for part in parts]
    for part in parts:
        part.trainable = False
    try:
        yield
    finally:
        for part, trainable in zip(parts, before, strict=True):
            part.trainable = trainable


def build_optimizer(config: Mapping[str, Any], steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns the config's optimizer; `InvalidArgument` has the reason why Keras refuses it."""
    rate = tfrobust.schedules.get(config["learning_rate"])
    if callable(rate):
        rate = OverEpochs(rate, steps_per_epoch)
    arguments = {**config["optimizer"], "learning_rate": rate}
    if check_number("ema", config["ema"], 0, 1, below=True, expected="a momentum"):
        arguments |= {"use_ema": True, "ema_momentum": config["ema"]}
    if "name" not in arguments:
        raise InvalidArgument(f"`optimizer` needs a `name`, such as 'sgd' or 'adam'. Received: {config['optimizer']}")
    name = arguments.pop("name")
    try:
        return keras.optimizers.get({"class_name": name, "config": arguments})
    except (ValueError, TypeError) as error:  # Keras' classes for an unknown name, an unknown argument and its value
        raise InvalidArgument(
            f"Invalid `optimizer`: expected a Keras optimizer and its arguments. Received: {config['optimizer']}, of "
            f"which Keras says: {error}"
        ) from error


def build_trainer(config: Mapping[str, Any], classifier: keras.Model, number: int = 0) -> tfrobust.AdversarialTrainer:
    """Returns the compiled trainer of a phase, whose number seeds the random starts; the phase's fields are checked."""
    for field in ("epochs", "steps_per_execution"):
        check_integer(field, config[field])
    if config["jit_compile"] not in SWITCH:
        raise unknown("value for `jit_compile`", config["jit_compile"], SWITCH)
    if config["monitor"] and not config["data"]["validation"]:
        raise InvalidArgument(
            "`monitor` needs validation data: expected data.validation > 0, or monitor='' to keep the last "
            f"classifier. Received: monitor={config['monitor']!r}, data.validation=0"
        )
    with frozen(classifier, config["frozen"]):
        trainer = tfrobust.AdversarialTrainer(
            classifier,
            config["objective"],
            given(config["attack"]) or None,
            search_in_training_mode=config["search_in_training_mode"],
            search_dtype=config["search_dtype"],
            seed=config["seed"] + 7919 * number,
        )
        if config["monitor"] and config["monitor"].removeprefix("val_") not in trainer.metrics_names:
            raise unknown("monitor", config["monitor"], [f"val_{name}" for name in trainer.metrics_names])
        steps_per_epoch = int(load_data(config, "train").cardinality())
        trainer.compile(
            build_optimizer(config, steps_per_epoch),
            jit_compile=SWITCH[config["jit_compile"]],
            steps_per_execution=config["steps_per_execution"],
        )
    return trainer
