"""The same training step in this library and in others, each one object.

`step()` takes one and returns its loss, `search()` returns the images of the attack alone. All begin with the same
weights and take the same batch, which lies in memory: nothing here reads data.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import tfrobust
from benchmarks.floor import LEARNING_RATE, network, step_function

CHECKED_RATE = 0.01  # learning rate of the first steps, which are compared


class Settings(NamedTuple):
    """Holds the settings of a measurement. The ball is Linf; pixels are fractions."""

    batch_size: int = 128
    image_size: int = 32
    repeats: int = 7
    threads: int = 1
    peers: tuple[str, ...] = ()
    eps: float = 8 / 255
    step_size: float = 2 / 255
    steps: int = 10


class Bench:
    """One batch, and as many copies as one likes of the network that takes it.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: Settings) -> None:
        tf.get_logger().setLevel("ERROR")  # it takes the steps of many trainers for one that traces again and again
        self.settings = settings
        rng = np.random.default_rng(0)
        shape = (settings.batch_size, settings.image_size, settings.image_size, 3)
        self.y = rng.integers(0, 10, settings.batch_size).astype("int32")
        colours = rng.uniform(0.2, 0.8, (10, 1, 1, 3))  # of the classes: what can be learned, and attacked
        self.x = (0.7 * colours[self.y] + 0.3 * rng.uniform(0, 1, shape)).astype("float32")
        self.weights: list[Any] = []
        # Where the searches of steps that are compared begin. Madry's at x, as ART's can; TRADES' divergence is flat
        # there, and so near to it that its signs would be those of rounding.
        away = rng.uniform(-settings.eps / 2, settings.eps / 2, shape).astype("float32")
        self.first = {"madry": self.x, "trades": np.clip(self.x + away, 0, 1)}

    def classifier(self) -> keras.Model:
        """Returns the network, with the same weights at every call."""
        keras.utils.set_random_seed(0)
        classifier = network(self.settings.image_size)
        if self.weights:
            classifier.set_weights(self.weights)
        return classifier

    def learn(self, until: float = 0.5, updates: int = 200) -> None:
        """Trains the network on the batch: an untrained one hardly feels an attack, and any attack looks right."""
        classifier = self.classifier()
        step = step_function(classifier, "standard", None, (tf.constant(self.x), tf.constant(self.y)), 0.05)
        for _ in range(updates):
            if step() < until:
                break
        self.weights = classifier.get_weights()

    def attack(self, start: Any = "auto") -> Any:
        """Returns PGD as the settings say."""
        return tfrobust.attacks.pgd(self.settings.eps, self.settings.step_size, self.settings.steps, start=start)


class Ours:
    """This library.

    Args:
        bench: the batch.
        method: "madry", "trades", or any objective.
        checked: a step that learns and is the same in all libraries, with a start that is given.
    """

    methods = ("madry", "trades")

    def __init__(self, bench: Bench, method: str, checked: bool = False) -> None:
        classifier, x, y = bench.classifier(), tf.constant(bench.x), tf.constant(bench.y)
        attack = bench.attack((lambda ball, x, noise: tf.constant(bench.first[method])) if checked else "auto")
        rate = CHECKED_RATE if checked else LEARNING_RATE
        self.step: Callable[[], float] = step_function(classifier, method, attack, (x, y), rate)
        self.search: Callable[[], Any] = lambda: attack(classifier, x, y).numpy()


class Torch:
    """A plain PyTorch loop: `benchmarks.torch_loop`. Arguments as of `Ours`."""

    methods = ("madry", "trades")
    module = "torch"
    channels_last = False

    def __init__(self, bench: Bench, method: str, checked: bool = False) -> None:
        import torch

        from benchmarks import torch_loop

        settings = bench.settings
        torch.set_num_threads(settings.threads)
        loss, start = torch_loop.METHODS[method]
        first = torch_loop.pixels(bench.first[method], self.channels_last)
        attack = torch_loop.PGD(
            *(settings.eps, settings.step_size, settings.steps),
            (lambda x: first.clone()) if checked else start(settings.eps),
        )
        rate = CHECKED_RATE if checked else LEARNING_RATE
        loop = torch_loop.Loop(bench.classifier(), bench.x, bench.y, attack, rate, self.channels_last)
        self.step: Callable[[], float] = lambda: loop.step(loss)
        self.search: Callable[[], Any] = loop.search


class TorchChannelsLast(Torch):
    """The same loop, told to lay its arrays out as TensorFlow does: faster on a CPU."""

    channels_last = True


class Remembered(keras.losses.CategoricalCrossentropy):
    """Cross entropy that remembers its last value: ART's trainer returns no loss, and asks for the update's last."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.last = tf.Variable(0.0)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        values = super().call(y_true, y_pred)
        self.last.assign(tf.reduce_mean(values))
        return values


class Art:
    """ART's `AdversarialTrainerMadryPGD` on the Keras network. Arguments as of `Ours`."""

    methods = ("madry",)  # its TRADES is for PyTorch alone
    module = "art"

    def __init__(self, bench: Bench, method: str, checked: bool = False) -> None:
        from art.defences.trainer import AdversarialTrainerMadryPGD
        from art.estimators.classification import TensorFlowV2Classifier

        settings, x, labels = bench.settings, bench.x, np.eye(10, dtype="float32")[bench.y]
        classifier = bench.classifier()
        loss = Remembered(from_logits=True)
        estimator = TensorFlowV2Classifier(
            model=keras.Model(classifier.input, classifier.output["logits"]),
            nb_classes=10,
            input_shape=x.shape[1:],
            loss_object=loss,
            optimizer=keras.optimizers.SGD(CHECKED_RATE if checked else LEARNING_RATE, momentum=0.9),
            clip_values=(0.0, 1.0),
        )
        trainer = AdversarialTrainerMadryPGD(
            *(estimator, 1, settings.batch_size, settings.eps, settings.step_size, settings.steps),
            num_random_init=0 if checked else 1,
        )
        # Its trainer leaves the attack at batches of 32, whatever its own batch size; one search a batch is faster.
        trainer.attack.set_params(batch_size=settings.batch_size, verbose=False)

        def step() -> float:
            with contextlib.redirect_stderr(io.StringIO()):  # two progress bars a step
                trainer.fit(x, labels)
            return float(loss.last)

        self.step: Callable[[], float] = step
        self.search: Callable[[], Any] = lambda: trainer.attack.generate(x, labels)


LIBRARIES: dict[str, Any] = {
    "tfrobust": Ours,
    "torch": Torch,
    "torch_channels_last": TorchChannelsLast,
    "art": Art,
}


def first_losses(library: str, bench: Bench, method: str, count: int = 3) -> list[float]:
    """Returns the losses of the first steps, each from the weights that the one before left."""
    side = LIBRARIES[library](bench, method, checked=True)
    return [side.step() for _ in range(count)]
