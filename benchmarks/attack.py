"""Attack and training step against their floor of gradients, in one run: `python -m benchmarks.attack`.

The floor of a search is its number of steps times (one forward + one input gradient) of the same compiled network. The
floor of a Madry step is that plus one plain training step. Absolute times of different machines or runs mean nothing;
the measurements alternate, and each ratio is of medians.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfrobust
from tfrobust.objectives.terms import adversarial_cross_entropy

BATCH = flags.DEFINE_integer("batch_size", 128, "Images of a batch.", lower_bound=1)
SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of an image, in pixels.", lower_bound=8)
REPEATS = flags.DEFINE_integer("repeats", 7, "How often each is measured.", lower_bound=1)
BATCH_NORM = flags.DEFINE_bool("batch_norm", True, "BatchNorm in the network.")


def network(size: int, batch_norm: bool) -> keras.Model:
    """A convolutional network of about 0.1 GFLOP an image at 32 pixels."""
    x = inputs = keras.Input((size, size, 3))
    for filters, strides in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        x = keras.layers.Conv2D(filters, 3, strides, padding="same")(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU()(x)
    features = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, {"logits": keras.layers.Dense(10)(features), "features": features})


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


def step_function(classifier: keras.Model, objective: str, attack: Any, data: tuple[Any, Any]) -> Callable[[], Any]:
    """Returns a function that takes one compiled training step."""
    trainer = tfrobust.AdversarialTrainer(classifier, objective, attack)
    trainer.compile(keras.optimizers.SGD(1e-6, momentum=0.9))
    trainer.optimizer.build(trainer.trainable_variables)
    step = tf.function(trainer.train_step, autograph=False)
    return lambda: float(step(data)["loss"])


def main(_: list[str]) -> None:
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    shape = (BATCH.value, SIZE.value, SIZE.value, 3)
    x = tf.constant(rng.uniform(0, 1, shape).astype("float32"))
    y = tf.constant(rng.integers(0, 10, BATCH.value).astype("int32"))
    classifier = network(SIZE.value, BATCH_NORM.value)

    @tf.function
    def gradient(x: Any, y: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            loss = keras.losses.sparse_categorical_crossentropy(y, classifier(x)["logits"], from_logits=True)
        return tape.gradient(loss, x)

    search = tfrobust.attacks.pgd(eps=8 / 255, steps=20).maximizing(adversarial_cross_entropy)
    pgd10 = tfrobust.attacks.pgd(eps=8 / 255, steps=10)
    seconds = medians(
        {
            "gradients_10": lambda: [gradient(x, y) for _ in range(10)],
            "pgd_20": lambda: search(classifier, x, y).numpy(),
            "plain_step": step_function(classifier, "standard", None, (x, y)),
            "madry_pgd_10_step": step_function(classifier, "madry", pgd10, (x, y)),
        },
        REPEATS.value,
    )
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}, Keras {keras.__version__}; "
        f"batch {shape}"
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
    print(json.dumps({"seconds": seconds, "ratios": ratios}))


if __name__ == "__main__":
    app.run(main)
