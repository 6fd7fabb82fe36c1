"""Adversarial weight perturbation, around any objective."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from keras import ops

from tfrobust.objectives.objective import Objective, get, register
from tfrobust.schedules import From
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.types import Tensor
from tfrobust.utils.validation import check_nonnegative


def perturbed(kernels: Iterable[Tensor], gradients: Iterable[Tensor], gamma: Tensor) -> list[Tensor]:
    """Returns w + gamma * ||w|| * g / ||g|| for each kernel w and its gradient g; w where g is zero.

    Example:

    >>> perturbed([np.array([[3.0], [4.0]])], [np.array([[0.0], [2.0]])], 0.1)[0].numpy().ravel().tolist()
    [3.0, 4.5]
    """

    def perturb(w: Tensor, g: Tensor) -> Tensor:
        return w + gamma * ops.norm(ops.ravel(w)) * ops.divide_no_nan(g, ops.norm(ops.ravel(g)))

    return [perturb(w, g) for w, g in zip(kernels, gradients, strict=True)]


@register(
    search={"gamma": (0.001, 0.02, "log")},
    # choice: the paper's warm-up of 10 epochs is for a training of 200.
    digits={"objective": {"objective": {"name": "trades", "beta": 6.0}, "warmup": 4}},
)
def awp(objective: str | Mapping[str, Any] | Objective = "madry", gamma: float = 0.005, warmup: float = 0) -> Objective:
    """Adds adversarial weight perturbation: min over w of max over v of the objective's outer loss at w + v.

    The size of v is bounded for each kernel, ||v_l|| <= gamma * ||w_l||. The inner maximum is one step from w, v_l =
    gamma * ||w_l|| * g_l / ||g_l||, g the gradient of the terms at w. The update's gradient is taken at w + v and
    applied to w, which is restored bit for bit. Adversarial images are searched at w; biases and BatchNorm are not
    perturbed. The training's logs and a learned multiplier are those of w + v, as in the authors' code; validation is
    that of w. A step costs one more forward and backward. Wu et al. 2020 (Adversarial Weight Perturbation Helps Robust
    Generalization), equations 8 to 10.

    Args:
        objective: Name, config or `Objective` whose outer loss is perturbed; it has no weight perturbation of its own.
        gamma: Size of v relative to each kernel's norm, at least 0. 0.01 around `madry`, 0.005 around `trades`.
        warmup: Number of epochs without v, at least 0. 10 in the paper.

    Returns:
        An `Objective` with the inner loss and the terms of the one given.

    Example:

    >>> sorted(tfrobust.objectives.awp("trades", gamma=0.005, warmup=10).outer)
    ['clean_cross_entropy', 'kl_divergence']
    """
    check_nonnegative("gamma", gamma)
    check_nonnegative("warmup", warmup)
    wrapped = copy.copy(get(objective))
    if wrapped.weight_perturbation != 0:
        raise InvalidArgument(f"Expected an objective without weight perturbation. Received: objective={objective!r}")
    wrapped.weight_perturbation = From(warmup, gamma) if warmup else gamma
    return wrapped
