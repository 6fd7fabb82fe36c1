"""Attack and training step against their floor of gradients, in one run: `python -m benchmarks.attack [--objectives]`.

The floor of a search is its number of steps times (one forward + one input gradient) of the same compiled network. The
floor of a Madry step is that plus one plain training step; that of any objective is its attack's gradients, a forward
of the clean batch where the search reads one, and an update with as many forward passes as its losses read. Absolute
times of different machines or runs mean nothing; the measurements alternate, and each ratio is of medians.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfrobust
from tfrobust.models import heads
from tfrobust.objectives.terms import adversarial_cross_entropy
from trainers.configs import digits
from trainers.setup import phases_of

BATCH = flags.DEFINE_integer("batch_size", 128, "Images of a batch.", lower_bound=1)
SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of an image, in pixels.", lower_bound=8)
REPEATS = flags.DEFINE_integer("repeats", 7, "How often each is measured.", lower_bound=1)
OBJECTIVES = flags.DEFINE_bool("objectives", False, "Every objective's step over its own floor.")
BATCH_NORM = flags.DEFINE_bool("batch_norm", True, "BatchNorm in the network.")


def network(size: int, batch_norm: bool, head: heads.Head = "dense") -> keras.Model:
    """A convolutional network of about 0.1 GFLOP an image at 32 pixels, with all outputs that its head can give."""
    x = inputs = keras.Input((size, size, 3))
    for filters, strides in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        x = keras.layers.Conv2D(filters, 3, strides, padding="same")(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, {**heads.make(head, 10)(features, feature_map=x), "features": features})


def medians(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
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


def step_function(classifier: keras.Model, objective: Any, attack: Any, data: tuple[Any, Any]) -> Callable[[], Any]:
    """Returns a function that takes one compiled training step."""
    with warnings.catch_warnings(action="ignore"):  # advice on how to train, which this does not
        trainer = tfrobust.AdversarialTrainer(classifier, objective, attack)
    trainer.compile(keras.optimizers.SGD(1e-6, momentum=0.9))
    trainer.optimizer.build(trainer.trainable_variables)
    step = tf.function(trainer.train_step, autograph=False)
    return lambda: float(step(data)["loss"])


class Floor:
    """The parts that a step cannot do without, each one compiled function of the network alone."""

    def __init__(self, classifier: keras.Model, x: Any, y: Any) -> None:
        optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)
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
    def of(objective: Any, attack: Any, seconds: dict[str, float], classifier: keras.Model, x: Any, y: Any) -> float:
        """Returns the floor of an objective's step; what it reads is asked of its losses."""
        outputs = classifier(x[:2])
        count = tfrobust.Observed(tf.ones(2), 10)
        views = tfrobust.Views(y=y[:2], x=x[:2], x_adv=x[:2], clean=outputs, adv=outputs, observed=count)
        search = 0.0
        if objective.inner is not None:
            objective.inner(views)
            search = attack.steps * seconds["gradients_10"] / 10 + ("clean" in views.sides) * seconds["forward"]
            views.reads.clear()
        for term in objective.outer.values():
            term.loss(views)
        passes = len(views.sides)
        return search + seconds[f"update_of_{passes}_forward{'s' * (passes > 1)}"]


def of_objectives(x: Any, y: Any) -> dict[str, float]:
    """Returns the seconds of all objectives' steps and of the parts of their floors, and prints the ratios."""
    cases, steps = {}, {}
    for name in tfrobust.objectives.names():
        phase = next(p for p in phases_of(digits.get_config(name).to_dict()) if p["objective"]["name"] == name)
        classifier = network(SIZE.value, BATCH_NORM.value, phase["model"].get("head", "dense"))
        objective, attack = (
            tfrobust.objectives.get(phase["objective"]),
            tfrobust.attacks.get({k: v for k, v in phase["attack"].items() if v is not None}),
        )
        attack = getattr(attack, "attack", attack).at(0.0)
        cases[name] = (objective, attack, classifier)
        steps[name] = step_function(classifier, objective, attack, (x, y))
    seconds = medians({**Floor(network(SIZE.value, BATCH_NORM.value), x, y).functions, **steps}, REPEATS.value)
    print(f"{'objective':26s}{'step':>10s}{'floor':>10s}{'ratio':>8s}")
    for name, (objective, attack, classifier) in cases.items():
        floor = Floor.of(objective, attack, seconds, classifier, x, y)
        print(f"{name:26s}{1000 * seconds[name]:7.0f} ms{1000 * floor:7.0f} ms{seconds[name] / floor:8.3f}")
    return seconds


def of_attack(x: Any, y: Any) -> dict[str, float]:
    """Returns the seconds of PGD, of Madry's step and of the parts of their floors, and prints the ratios."""
    classifier = network(SIZE.value, BATCH_NORM.value)
    search = tfrobust.attacks.pgd(eps=8 / 255, steps=20).maximizing(adversarial_cross_entropy)
    pgd10 = tfrobust.attacks.pgd(eps=8 / 255, steps=10)
    seconds = medians(
        {
            "gradients_10": Floor(classifier, x, y).functions["gradients_10"],
            "pgd_20": lambda: search(classifier, x, y).numpy(),
            "plain_step": step_function(classifier, "standard", None, (x, y)),
            "madry_pgd_10_step": step_function(classifier, "madry", pgd10, (x, y)),
        },
        REPEATS.value,
    )
    for name, value in seconds.items():
        print(f"{name:20s} {1000 * value:9.1f} ms")
    ratios = {
        "PGD-20 / (20 gradients)": seconds["pgd_20"] / (2 * seconds["gradients_10"]),
        "Madry PGD-10 step / (10 gradients + plain step)": seconds["madry_pgd_10_step"]
        / (seconds["gradients_10"] + seconds["plain_step"]),
    }
    for name, ratio in ratios.items():
        print(f"{name:50s} {ratio:.3f}")
    return {**seconds, **ratios}


def main(_: list[str]) -> None:
    tf.get_logger().setLevel("ERROR")  # it takes the steps of many trainers for one that traces again and again
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    shape = (BATCH.value, SIZE.value, SIZE.value, 3)
    x = tf.constant(rng.uniform(0, 1, shape).astype("float32"))
    y = tf.constant(rng.integers(0, 10, BATCH.value).astype("int32"))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}, Keras {keras.__version__}; "
        f"batch {shape}"
    )
    print(json.dumps((of_objectives if OBJECTIVES.value else of_attack)(x, y)))


if __name__ == "__main__":
    app.run(main)
