"""AutoAttack and PGD-20 against other libraries on one network, in one run: `python -m benchmarks.evaluation`.

Trains a small network on MNIST against PGD (once; it is kept under --workdir), then attacks the same images: `standard`
of this library, ART's AutoAttack on the same Keras network, torchattacks' on a copy of it, weight for weight; PGD-20 of
this library, Foolbox and ART. Beside the times stand the forward and backward passes that each of our attacks made, and
those that its definition needs for the images that it was run on. Needs `make test-peers` once: it installs the others.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import tfrobust
from benchmarks.networks import trained
from commands import cli
from tfrobust import losses
from tfrobust.attacks import Attack
from tfrobust.attacks.view_losses import adversarial_cross_entropy
from tfrobust.evaluation import suites

KNOWN = ("art", "torchattacks", "foolbox")
PEERS = flags.DEFINE_list("peers", KNOWN, "Which other libraries; may be empty.")
IMAGES = flags.DEFINE_integer("images", 500, "Images of the test split.", lower_bound=1)
DATA = flags.DEFINE_string("data", "mnist", "Data set.")
EPS = flags.DEFINE_float("eps", 0.2, "Radius of training and attack, as a fraction of the pixel range.")
WORKDIR = flags.DEFINE_string("workdir", "runs/benchmark_evaluation", "Where the network is kept.")
MODEL = flags.DEFINE_string("model", None, "A .keras file of the `digits` network, in place of one trained here.")
EPOCHS = flags.DEFINE_integer("epochs", 3, "Epochs of the network's training.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch_size", 250, "Images in a batch, for all libraries.", lower_bound=1)

flags.register_validator(
    PEERS, lambda peers: set(peers) <= set(KNOWN), f"Invalid value for --peers: expected some of {', '.join(KNOWN)}."
)


def classifier() -> keras.Model:
    """Returns the network; it is trained if there is none."""
    if MODEL.value:
        return cli.load_classifier(MODEL.value)
    return cli.load_classifier(trained(DATA.value, EPS.value, EPOCHS.value, Path(WORKDIR.value)))


class Metered(Attack):
    """Runs another attack and counts its forward and backward passes, in images."""

    def __init__(self, attack: Attack) -> None:
        super().__init__(attack.ball, gradients=attack.gradients, least_classes=attack.least_classes)
        self.attack = attack
        self.kind = attack.kind
        self.entered, self.forwards, self.backwards = (tf.Variable(0, dtype=tf.int64) for _ in range(3))

    def runs(self, classes: int) -> int:
        return self.attack.runs(classes)

    def cost(self, classes: int) -> tuple[int, int]:
        return self.attack.cost(classes)

    def search(self, classify: Any, x: Any, y: Any, seed: Any = 0, run: Any = 0) -> Any:
        @tf.custom_gradient
        def counted(logits: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                self.backwards.assign_add(rows(logits))
                return upstream

            return tf.identity(logits), gradient

        def rows(logits: Any) -> Any:
            return tf.cast(tf.shape(logits)[0], tf.int64)

        def metered(z: Any) -> dict[str, Any]:
            logits = classify(z)["logits"]
            self.forwards.assign_add(rows(logits))
            return {"logits": counted(logits)}

        self.entered.assign_add(tf.cast(tf.shape(x)[0], tf.int64))
        return self.attack.search(metered, x, y, seed, run)


def in_batches(attack: Callable[[Any, Any], Any], network: keras.Model, x: Any, y: Any) -> float:
    """Returns the accuracy under an attack `(x, y) -> x_adv` that is given a batch at a time."""
    parts = [slice(first, first + BATCH.value) for first in range(0, len(y), BATCH.value)]
    adversaries = np.concatenate([np.asarray(attack(x[part], y[part])) for part in parts])
    return float(np.mean(losses.correct(network.predict(adversaries, verbose=0)["logits"], y)))


def passes(network: keras.Model, x: Any, y: Any) -> dict[str, Any]:
    """Returns for each attack of `standard` its passes, and their ratio to the passes that its definition needs."""
    classes = network.output["logits"].shape[-1]
    found: dict[str, Any] = {}
    suite = suites.get("standard", eps=EPS.value, norm="linf", bounds=(0.0, 1.0), classes=classes)
    metered = [Metered(member) for member in suite.members]
    tfrobust.evaluate(network, (x, y), eps=EPS.value, attacks=metered, batch_size=BATCH.value, probes=0, verbose=False)
    print(f"{'passes, in images':16s}{'entered':>10s}{'forwards':>12s}{'backwards':>12s}{'of definition':>15s}")
    for name, member in zip(suite.names, metered, strict=True):
        entered, *made = (int(v) for v in (member.entered, member.forwards, member.backwards))
        needed = entered * sum(member.cost(classes))
        found[name] = {"entered": entered, "passes": made, "ratio": sum(made) / max(needed, 1)}
        print(f"{name:16s}{entered:10d}{made[0]:12d}{made[1]:12d}{sum(made) / max(needed, 1):15.3f}")
    return found


def main(_: list[str]) -> None:
    network = classifier()
    batches = tfrobust.data.load(DATA.value, "test", batch_size=IMAGES.value)
    x, y = (np.asarray(part) for part in next(iter(batches)))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, TensorFlow {tf.__version__}, Keras {keras.__version__}; "
        f"{len(y)} images {x.shape[1:]} of {DATA.value}, eps {EPS.value:g}"
    )
    rows: dict[str, tuple[float, float]] = {}

    def measure(name: str, robust: Callable[[], float]) -> None:
        if "PGD" in name:
            robust()  # seconds are too short to hold compiling: the second call counts, for all libraries
        start = time.perf_counter()
        accuracy = robust()
        rows[name] = (time.perf_counter() - start, accuracy)
        print(f"{name:32s}{rows[name][0]:9.1f} s{100 * rows[name][1]:8.2f} %", flush=True)

    def standard() -> float:
        report = tfrobust.evaluate(
            network, (x, y), eps=EPS.value, attacks="standard", batch_size=BATCH.value, probes=0, verbose=False
        )
        return report.robust_accuracy

    step = EPS.value / 8
    attack = tfrobust.attacks.pgd(EPS.value, step, 20, start="uniform", loss=adversarial_cross_entropy)
    measure("standard", standard)
    counted = passes(network, x, y)
    measure("PGD-20", lambda: in_batches(lambda x, y: attack(network, x, y), network, x, y))
    if PEERS.value:
        from benchmarks import peers

        others: dict[str, dict[str, Callable[[], Any]]] = {
            "foolbox": {"PGD-20, Foolbox": lambda: peers.foolbox_pgd(network, EPS.value, 20, step)},
            "torchattacks": {"AutoAttack, torchattacks": lambda: peers.torchattacks_autoattack(network, EPS.value)},
            "art": {
                "PGD-20, ART": lambda: peers.art_pgd(network, EPS.value, 20, step, BATCH.value),
                "AutoAttack, ART": lambda: peers.art_autoattack(network, EPS.value, BATCH.value),
            },
        }
        for peer in PEERS.value:
            for name, made in others[peer].items():
                measure(name, lambda made=made: in_batches(made(), network, x, y))
    for name, (seconds, _) in rows.items():
        own = "standard" if "AutoAttack" in name else "PGD-20"
        if "," in name:
            print(f"{name}: {seconds / rows[own][0]:.1f} times the time of {own}")
    print(json.dumps({"rows": rows, "passes": counted}))


if __name__ == "__main__":
    app.run(main)
