"""Attack and training step against their floor of gradients, in one run: `python -m benchmarks.attack [--objectives]`.

`benchmarks.floor` defines a floor; here Madry's is its gradients plus one plain training step of this library.
Absolute times of different machines or runs mean nothing; the measurements alternate, and each ratio is of medians.
"""

import json
import os
import platform
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfrobust
from benchmarks.floor import Floor, medians, network, step_function
from commands.build import given, phases_of
from trainers.configs import digits

BATCH = flags.DEFINE_integer("batch_size", 128, "Images of a batch.", lower_bound=1)
SIZE = flags.DEFINE_integer("image_size", 32, "Height and width of an image, in pixels.", lower_bound=8)
REPEATS = flags.DEFINE_integer("repeats", 7, "Number of measurements of each function.", lower_bound=1)
OBJECTIVES = flags.DEFINE_bool("objectives", False, "Every objective's step over its own floor.")
BATCH_NORM = flags.DEFINE_bool("batch_norm", True, "BatchNorm in the network.")


def of_objectives(x: Any, y: Any) -> dict[str, float]:
    """Returns the seconds of all objectives' steps and of the parts of their floors, and prints the ratios."""
    cases, steps = {}, {}
    for name in tfrobust.objectives.names():
        phase = next(p for p in phases_of(digits.get_config(name).to_dict()) if p["objective"]["name"] == name)
        classifier = network(SIZE.value, BATCH_NORM.value, phase["model"].get("head", "dense"))
        objective, attack = tfrobust.objectives.get(phase["objective"]), tfrobust.attacks.get(given(phase["attack"]))
        attack = attack.maximizing(None).at(0.0)
        cases[name] = (objective, attack, classifier)
        steps[name] = step_function(classifier, objective, attack, (x, y))
    seconds = medians({**Floor(network(SIZE.value, BATCH_NORM.value), x, y).functions, **steps}, REPEATS.value)
    print(f"{'objective':26s}{'step':>10s}{'floor':>10s}{'ratio':>8s}")
    for name, (objective, attack, classifier) in cases.items():
        floor = Floor.of(objective, attack, seconds, classifier)
        print(f"{name:26s}{1000 * seconds[name]:7.0f} ms{1000 * floor:7.0f} ms{seconds[name] / floor:8.3f}")
    return seconds


def of_attack(x: Any, y: Any) -> dict[str, float]:
    """Returns the seconds of PGD, of Madry's step and of the parts of their floors, and prints the ratios."""
    classifier = network(SIZE.value, BATCH_NORM.value)
    search = tfrobust.attacks.pgd(eps=8 / 255, steps=20)
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
    tf.get_logger().setLevel("ERROR")  # it warns that a function is traced again
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
