"""The same training step in this library and in others, each one class.

`step()` takes a step and returns its loss, `search()` returns the images of the attack alone. All begin with the same
weights and take the same batch from memory.
"""

import contextlib
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import tfrobust
from benchmarks.floor import LEARNING_RATE, network, step_function
from tfrobust.training.precision import computing_in

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
    """One batch, and copies of the network that takes it."""

    def __init__(self, settings: Settings) -> None:
        tf.get_logger().setLevel("ERROR")  # it warns that a function is traced again
        self.settings = settings
        rng = np.random.default_rng(0)
        shape = (settings.batch_size, settings.image_size, settings.image_size, 3)
        self.y = rng.integers(0, 10, settings.batch_size).astype("int32")
        colours = rng.uniform(0.2, 0.8, (10, 1, 1, 3))  # one for each class, so that the network can learn
        self.x = (0.7 * colours[self.y] + 0.3 * rng.uniform(0, 1, shape)).astype("float32")
        self.weights: list[Any] = []
        # The starts of the searches that are compared. Madry's is x, as ART's can be; TRADES' divergence is
        # flat near x, and the signs of its gradient would be those of rounding.
        away = rng.uniform(-settings.eps / 2, settings.eps / 2, shape).astype("float32")
        self.first = {"madry": self.x, "trades": np.clip(self.x + away, 0, 1)}

    def classifier(self, policy: str = "float32") -> keras.Model:
        """Returns the network under a dtype policy of Keras, with the same weights at every call."""
        keras.utils.set_random_seed(0)
        keras.config.set_dtype_policy(policy)
        classifier = network(self.settings.image_size)
        keras.config.set_dtype_policy("float32")
        if self.weights:
            classifier.set_weights(self.weights)
        return classifier

    def learn(self, until: float = 0.5, updates: int = 200) -> None:
        """Trains the network on the batch, because an attack hardly changes the loss of an untrained one."""
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
    """Steps of this library by "madry", "trades", or any objective.

    A `checked` step has a larger learning rate and a fixed start, so that all libraries take the same one.
    """

    methods = ("madry", "trades")
    module = "tfrobust"
    bfloat16 = False  # whether some of it computes in 16 bits
    policy = search_dtype = "float32"

    def __init__(self, bench: Bench, method: str, checked: bool = False) -> None:
        classifier, x, y = bench.classifier(self.policy), tf.constant(bench.x), tf.constant(bench.y)
        attack = bench.attack((lambda ball, x, noise: tf.constant(bench.first[method])) if checked else "auto")
        rate = CHECKED_RATE if checked else LEARNING_RATE
        self.step: Callable[[], float] = step_function(classifier, method, attack, (x, y), rate, self.search_dtype)

        def search() -> Any:
            with computing_in(self.search_dtype, classifier):  # matters at the first call, which traces
                return attack(classifier, x, y).numpy()

        self.search: Callable[[], Any] = search


class OursSearch16(Ours):
    """Steps whose searches are in bfloat16."""

    bfloat16 = True
    search_dtype = "bfloat16"


class OursMixed(Ours):
    """Steps of a network that is under Keras' mixed policy, update and all."""

    bfloat16 = True
    policy = "mixed_bfloat16"


class Torch:
    """A plain PyTorch loop: `benchmarks.torch_loop`. See `Ours` for the arguments."""

    methods = ("madry", "trades")
    module = "torch"
    bfloat16 = channels_last = compiled = False

    def __init__(self, bench: Bench, method: str, checked: bool = False) -> None:
        import torch

        from benchmarks import torch_loop

        settings = bench.settings
        torch.set_num_threads(settings.threads)
        loss, start = torch_loop.METHODS[method]
        first = torch_loop.pixels(bench.first[method], self.channels_last)
        begin = (lambda x: first.clone()) if checked else start(settings.eps)
        attack = torch_loop.PGD(settings.eps, settings.step_size, settings.steps, begin)
        rate = CHECKED_RATE if checked else LEARNING_RATE
        options = torch_loop.Options(self.channels_last, self.bfloat16, self.compiled)
        loop = torch_loop.Loop(bench.classifier(), bench.x, bench.y, attack, rate, options)
        self.step: Callable[[], float] = lambda: loop.step(loss)
        self.search: Callable[[], Any] = loop.search


class TorchChannelsLast(Torch):
    """The same loop with TensorFlow's layout of arrays, which is faster on a CPU."""

    channels_last = True


class TorchAutocast(TorchChannelsLast):
    """The loop with channels last, under `torch.autocast` to bfloat16."""

    bfloat16 = True


class TorchCompiled(TorchChannelsLast):
    """The loop with channels last, its network compiled by `torch.compile`."""

    compiled = True


class TorchCompiledAutocast(TorchAutocast, TorchCompiled):
    """The loop with channels last, compiled and under autocast."""


class Remembered(keras.losses.CategoricalCrossentropy):
    """Cross entropy that stores its last value, which is that of the update: ART's trainer returns no loss."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.last = tf.Variable(0.0)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        values = super().call(y_true, y_pred)
        self.last.assign(tf.reduce_mean(values))
        return values


class Art:
    """ART's `AdversarialTrainerMadryPGD` on the Keras network. See `Ours` for the arguments."""

    methods = ("madry",)  # its TRADES is for PyTorch alone
    module = "art"
    bfloat16 = False

    def __init__(self, bench: Bench, method: str, checked: bool = False) -> None:
        from art.defences.trainer import AdversarialTrainerMadryPGD

        from benchmarks import peers

        settings, x, labels = bench.settings, bench.x, np.eye(10, dtype="float32")[bench.y]
        loss = Remembered(from_logits=True)
        optimizer = keras.optimizers.SGD(CHECKED_RATE if checked else LEARNING_RATE, momentum=0.9)
        estimator = peers.art_classifier(bench.classifier(), loss, optimizer)
        trainer = AdversarialTrainerMadryPGD(
            *(estimator, 1, settings.batch_size, settings.eps, settings.step_size, settings.steps),
            num_random_init=0 if checked else 1,
        )
        # Its trainer leaves the attack at batches of 32; one search for the whole batch is faster.
        trainer.attack.set_params(batch_size=settings.batch_size, verbose=False)

        def step() -> float:
            with contextlib.redirect_stderr(io.StringIO()):  # two progress bars a step
                trainer.fit(x, labels)
            return float(loss.last)

        self.step: Callable[[], float] = step
        self.search: Callable[[], Any] = lambda: trainer.attack.generate(x, labels)


LIBRARIES: dict[str, Any] = {
    "tfrobust": Ours,
    "tfrobust_search_bfloat16": OursSearch16,
    "tfrobust_mixed_bfloat16": OursMixed,
    "torch": Torch,
    "torch_channels_last": TorchChannelsLast,
    "torch_autocast": TorchAutocast,
    "torch_compile": TorchCompiled,
    "torch_compile_autocast": TorchCompiledAutocast,
    "art": Art,
}


def first_losses(library: str, bench: Bench, method: str, count: int = 3) -> list[float]:
    """Returns the losses of the first steps, each from the weights after the one before."""
    side = LIBRARIES[library](bench, method, checked=True)
    return [side.step() for _ in range(count)]
