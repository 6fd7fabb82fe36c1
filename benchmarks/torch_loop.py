"""A plain PyTorch training loop of a copy of the Keras network, as one would write it by hand; needs torch.

It is written for speed where PyTorch gives a choice: gradients of pixels alone in a search, the clean forward of TRADES
once in a search and not at each of its steps; in PyTorch's default memory format, or channels last.
"""

import dataclasses
from collections.abc import Callable
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


def attacked(network: torch.nn.Module, attack: PGD, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns PGD's images on cross entropy, by the network in inference mode."""
    network.eval()
    return attack(lambda z: functional.cross_entropy(network(z), y, reduction="sum"), x)


def madry(network: torch.nn.Module, attack: PGD, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns CE(x', y)."""
    x_adv = attacked(network, attack, x, y)
    network.train()
    return functional.cross_entropy(network(x_adv), y)


def trades(network: torch.nn.Module, attack: PGD, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns CE(x, y) + 6 KL(p(x) || p(x'))."""
    network.eval()
    with torch.no_grad():
        clean = network(x).softmax(-1)
    x_adv = attack(lambda z: functional.kl_div(network(z).log_softmax(-1), clean, reduction="sum"), x)
    network.train()
    logits = network(x)
    divergence = functional.kl_div(network(x_adv).log_softmax(-1), logits.softmax(-1), reduction="batchmean")
    return functional.cross_entropy(logits, y) + 6.0 * divergence


METHODS = {"madry": (madry, uniform), "trades": (trades, lambda eps: normal)}  # loss, eps -> start


class Loop:
    """One batch and the training steps on it, by SGD with momentum 0.9."""

    def __init__(
        self, classifier: keras.Model, x: Any, y: Any, attack: PGD, learning_rate: float, channels_last: bool = False
    ) -> None:
        self.network = trainable_copy(classifier).to(memory_format=_format(channels_last))
        self.x = pixels(x, channels_last)
        self.y = torch.tensor(np.asarray(y), dtype=torch.int64)
        self.attack = attack
        self.optimizer = torch.optim.SGD(self.network.parameters(), learning_rate, momentum=0.9)

    def step(self, method: Callable[..., torch.Tensor]) -> float:
        """Takes one training step by `madry` or `trades`; returns its loss."""
        loss = method(self.network, self.attack, self.x, self.y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def search(self) -> Any:
        """Returns the images of the attack alone."""
        return attacked(self.network, self.attack, self.x, self.y).numpy()


def pixels(x: Any, channels_last: bool = False) -> torch.Tensor:
    """Returns pixels `(B, H, W, C)` as `(B, C, H, W)`."""
    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).contiguous(memory_format=_format(channels_last))


def _format(channels_last: bool) -> torch.memory_format:
    return torch.channels_last if channels_last else torch.contiguous_format
