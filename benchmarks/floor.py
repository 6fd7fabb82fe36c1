"""Measures the least work of a step, and takes the seconds, for the benchmarks of attacks and of training.

The floor of a search is its number of steps times (one forward + one input gradient) of the same compiled network. The
floor of a training step is its attack's gradients, a forward of the clean batch where the search reads one, and an
update with as many forward passes as its losses read; two updates under adversarial weight perturbation.
"""

import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

import tfrobust
from tfrobust.models import heads
from tfrobust.training import cost
from tfrobust.training.adversaries import training_adversary

LEARNING_RATE = 1e-6  # so small that the weights hardly change while a step is timed
PRODUCTS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")  # operations that multiply values by a kernel


def network(size: int, batch_norm: bool = True, head: heads.Head = "dense") -> keras.Model:
    """Returns a convolutional network of 0.1 GFLOP an image at 32 pixels, with all outputs that its head can give."""
    x = inputs = keras.Input((size, size, 3))
    for filters, strides in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        x = keras.layers.Conv2D(filters, 3, strides, padding="same")(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, {**heads.make(head, 10)(features, feature_map=x), "features": features})


def medians(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Returns seconds per call; the functions take turns, so that a drift of the machine's speed meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()  # tracing
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def multiply_adds(classifier: keras.Model) -> int:
    """Returns the multiplications in convolutions and dense layers by which a forward of one image gives the logits.

    Convolutions in groups are left out: Keras compiles each of them by itself.
    """
    image = tf.TensorSpec((1, *classifier.input_shape[1:]), classifier.inputs[0].dtype)
    forward = tf.function(lambda x: classifier(x, training=False)["logits"], autograph=False)
    graph = forward.get_concrete_function(image).graph
    pending, seen, total = [graph.outputs[0].op], set(), 0
    while pending:
        operation = pending.pop()
        if operation in seen:
            continue
        seen.add(operation)
        pending += [tensor.op for tensor in operation.inputs]
        if operation.type in PRODUCTS:  # each position of the output takes every value of the kernel once
            total += math.prod(operation.inputs[1].shape) * math.prod(operation.outputs[0].shape[:-1])
    return total


def step_function(
    classifier: keras.Model,
    objective: Any,
    attack: Any,
    data: tuple[Any, Any],
    learning_rate: float = LEARNING_RATE,
    search_dtype: str = "float32",
) -> Callable[[], Any]:
    """Returns a function that takes one compiled training step and returns its loss."""
    with warnings.catch_warnings(action="ignore"):  # advice on how to train
        trainer = tfrobust.AdversarialTrainer(classifier, objective, attack, search_dtype=search_dtype)
    trainer.compile(keras.optimizers.SGD(learning_rate, momentum=0.9))
    trainer.optimizer.build(trainer.trainable_variables)
    step = tf.function(trainer.train_step, autograph=False)

    def loss() -> float:
        trainer.reset_metrics()  # the log is the mean since the last reset
        return float(step(data)["loss"])

    return loss


class Floor:
    """The parts that every step has, each one compiled function of the network alone."""

    def __init__(self, classifier: keras.Model, x: Any, y: Any) -> None:
        optimizer = keras.optimizers.SGD(LEARNING_RATE, momentum=0.9)
        optimizer.build(classifier.trainable_variables)

        def loss(x: Any, training: bool) -> Any:
            logits = classifier(x, training=training)["logits"]
            return keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)

        @tf.function(autograph=False)
        def gradient(x: Any) -> Any:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                value = loss(x, training=False)
            return tape.gradient(value, x)

        @tf.function(autograph=False)
        def forward(x: Any) -> Any:
            return classifier(x, training=False)["logits"]

        @tf.function(autograph=False)
        def update(*batches: Any) -> Any:
            with tf.GradientTape() as tape:
                total = sum(tf.reduce_mean(loss(batch, training=True)) for batch in batches)
            optimizer.apply(tape.gradient(total, classifier.trainable_variables), classifier.trainable_variables)
            return total

        other = x * 0.99
        self.functions: dict[str, Callable[[], Any]] = {
            "gradients_10": lambda: [gradient(x) for _ in range(10)][-1].numpy(),
            "forward": lambda: forward(x).numpy(),
            "update_of_1_forward": lambda: float(update(x)),
            "update_of_2_forwards": lambda: float(update(x, other)),
        }

    @staticmethod
    def of(objective: Any, attack: Any, seconds: Mapping[str, float], classifier: keras.Model) -> float:
        """Returns the floor of an objective's step from the seconds of its parts."""
        forwards, gradients = cost.of_search(training_adversary(attack, objective), classifier)
        search = gradients * seconds["gradients_10"] / 10 + (forwards - gradients) * seconds["forward"]
        one, two = seconds["update_of_1_forward"], seconds["update_of_2_forwards"]
        passes, _ = cost.of_update(objective, classifier)
        return search + {1: one, 2: two, 4: 2 * two}[passes]  # 4: adversarial weight perturbation of both sides
