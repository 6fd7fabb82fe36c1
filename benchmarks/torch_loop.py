"""A plain PyTorch training loop of a copy of the Keras network, as one would write it by hand; needs torch.

It is written for speed where PyTorch gives a choice: gradients of pixels alone in a search, the clean forward of TRADES
once in a search and not at each of its steps. Memory format, autocast and compilation are options.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import torch
from torch.nn import functional

from tfrobust.classifiers import head_of

Start = Callable[[torch.Tensor], torch.Tensor]  # pixels -> where the search begins
Score = Callable[[torch.Tensor], torch.Tensor]  # pixels -> the maximized sum over the batch


def trainable_copy(classifier: keras.Model) -> torch.nn.Sequential:
    """Returns a chain of convolutions, BatchNorm, (leaky) ReLU, global average pooling and a dense head."""
    modules: list[torch.nn.Module] = []
    for layer in classifier.layers:
        arrays = [torch.tensor(np.asarray(v)) for v in layer.get_weights()]
        if isinstance(layer, keras.layers.Conv2D):
            height, width = layer.input.shape[1:3]
            modules += _convolution(layer.strides[0], (height, width), *arrays)
        elif isinstance(layer, keras.layers.BatchNormalization):
            norm = torch.nn.BatchNorm2d(len(arrays[0]), eps=layer.epsilon, momentum=1 - layer.momentum)
            names = ("weight", "bias", "running_mean", "running_var")
            norm.load_state_dict(dict(zip(names, arrays, strict=True)), strict=False)
            modules.append(norm)
        elif isinstance(layer, keras.layers.ReLU):
            modules.append(torch.nn.ReLU(inplace=True))
        elif isinstance(layer, keras.layers.LeakyReLU):
            modules.append(torch.nn.LeakyReLU(layer.negative_slope, inplace=True))
        elif isinstance(layer, keras.layers.GlobalAveragePooling2D):
            modules += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
        elif layer is head_of(classifier):
            kernel, bias = arrays
            dense = torch.nn.Linear(*kernel.shape)
            dense.load_state_dict({"weight": kernel.T.contiguous(), "bias": bias})
            modules.append(dense)
        elif not isinstance(layer, keras.layers.InputLayer):
            raise ValueError(f"Expected layers of the kinds in `digits`. Received: a {type(layer).__name__}")
    return torch.nn.Sequential(*modules)


def _convolution(stride: int, size: tuple[int, int], kernel: torch.Tensor, bias: torch.Tensor) -> list[torch.nn.Module]:
    """Returns a convolution, after its zeros where they are not the same on both sides."""
    width, _, channels, filters = kernel.shape
    # TensorFlow's "same" pads by the input's size, the odd one after.
    totals = [max((-(-length // stride) - 1) * stride + width - length, 0) for length in size]
    even = all(total % 2 == 0 for total in totals)
    padding = tuple(total // 2 for total in totals) if even else 0
    convolution = torch.nn.Conv2d(channels, filters, width, stride, padding)
    convolution.load_state_dict({"weight": kernel.permute(3, 2, 0, 1).contiguous(), "bias": bias})
    zeros = [part for total in reversed(totals) for part in (total // 2, total - total // 2)]
    return [convolution] if even else [torch.nn.ZeroPad2d(zeros), convolution]


@dataclasses.dataclass(frozen=True)
class PGD:
    """z <- clip(z + step_size * sign(grad)), within eps of x and in [0, 1]; `start` returns the first z."""

    eps: float
    step_size: float
    steps: int
    start: Start

    def __call__(self, score: Score, x: torch.Tensor) -> torch.Tensor:
        least, most = (x - self.eps).clamp_(min=0.0), (x + self.eps).clamp_(max=1.0)
        z = self.start(x)
        for _ in range(self.steps):
            z.requires_grad_()
            (gradient,) = torch.autograd.grad(score(z), z)
            z = torch.clamp(z.detach() + self.step_size * gradient.sign(), least, most)
        return z


def uniform(eps: float) -> Start:
    """Returns Madry's start: a point drawn uniformly from the ball."""
    return lambda x: (x + torch.empty_like(x).uniform_(-eps, eps)).clamp_(0.0, 1.0)


def normal(x: torch.Tensor) -> torch.Tensor:
    """Returns TRADES' start: x + 0.001 * N(0, 1)."""
    return (x + 0.001 * torch.randn_like(x)).clamp_(0.0, 1.0)


@contextlib.contextmanager
def searched(network: torch.nn.Module) -> Iterator[None]:
    """Puts the network in inference mode within the block, without gradients of weights.

    Without a graph autograd leaves these out by itself; a compiled backward pass would compute them.
    """
    network.eval().requires_grad_(False)
    yield
    network.train().requires_grad_(True)


def attacked(network: torch.nn.Module, attack: PGD, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns PGD's images on cross entropy, by the network in inference mode."""
    with searched(network):
        return attack(lambda z: functional.cross_entropy(network(z).float(), y, reduction="sum"), x)


def madry(network: torch.nn.Module, attack: PGD, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns CE(x', y)."""
    return functional.cross_entropy(network(attacked(network, attack, x, y)).float(), y)


def trades(network: torch.nn.Module, attack: PGD, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns CE(x, y) + 6 KL(p(x) || p(x'))."""
    with searched(network):
        with torch.no_grad():
            clean = network(x).float().softmax(-1)
        x_adv = attack(lambda z: functional.kl_div(network(z).float().log_softmax(-1), clean, reduction="sum"), x)
    logits = network(x).float()
    divergence = functional.kl_div(network(x_adv).float().log_softmax(-1), logits.softmax(-1), reduction="batchmean")
    return functional.cross_entropy(logits, y) + 6.0 * divergence


METHODS = {"madry": (madry, uniform), "trades": (trades, lambda eps: normal)}  # loss, eps -> start


@dataclasses.dataclass(frozen=True)
class Options:
    """What makes a loop faster: the layout of arrays, forward passes in bfloat16, a compiled network."""

    channels_last: bool = False
    autocast: bool = False
    compiled: bool = False


class Loop:
    """One batch and the training steps on it, by SGD with momentum 0.9."""

    def __init__(
        self, classifier: keras.Model, x: Any, y: Any, attack: PGD, learning_rate: float, options: Options
    ) -> None:
        network = trainable_copy(classifier).train().to(memory_format=_format(options.channels_last))
        self.network = torch.compile(network) if options.compiled else network
        self.forwards = functools.partial(torch.autocast, "cpu", torch.bfloat16, enabled=options.autocast)
        self.x = pixels(x, options.channels_last)
        self.y = torch.tensor(np.asarray(y), dtype=torch.int64)
        self.attack = attack
        self.optimizer = torch.optim.SGD(self.network.parameters(), learning_rate, momentum=0.9)

    def step(self, method: Callable[..., torch.Tensor]) -> float:
        """Takes one training step by `madry` or `trades`; returns its loss."""
        with self.forwards():
            loss = method(self.network, self.attack, self.x, self.y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def search(self) -> Any:
        """Returns the images of the attack alone."""
        with self.forwards():
            return attacked(self.network, self.attack, self.x, self.y).numpy()


def pixels(x: Any, channels_last: bool = False) -> torch.Tensor:
    """Returns pixels `(B, H, W, C)` as `(B, C, H, W)`."""
    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).contiguous(memory_format=_format(channels_last))


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format
