"""Any gradient attack against a classifier that is random, or stands behind a random transformation."""

from typing import Any, TypeVar

from tfrobust.attacks.base import Evasion
from tfrobust.attacks.gradient import Attack
from tfrobust.attacks.gradients import Expected, Transformation

Gradual = TypeVar("Gradual", bound=Attack | Evasion)


def expectation(attack: Gradual, transformation: Transformation | None = None, samples: int = 20) -> Any:
    """Returns a gradient attack that follows the mean over draws: value and gradient of mean_k loss(t_k(z)).

    Athalye et al. 2018 (Synthesizing Robust Adversarial Examples), equation 1. The draws are new at every step.
    A transformation that draws for a whole batch at once gives an image other numbers in another batch: figures then
    depend on `batch_size`.

    Args:
        attack: an attack that follows gradients: `pgd(...)`, `apgd(...)`, `fab(...)` and so on.
        transformation: `(pixels (B, H, W, C), seed (2,)) -> pixels`, differentiable and random by its seed, as the
            functions `tf.image.stateless_*` are; None: the classifier itself is random.
        samples: draws of a mean.

    Returns:
        The attack of the same kind, with `samples` times its cost.

    Raises:
        ValueError: for an attack of queries alone, and what is no transformation.

    Example:

    >>> noisy = tfrobust.attacks.expectation(
    ...     tfrobust.attacks.pgd(eps=0.15), lambda x, seed: x + 0.05 * tf.random.stateless_normal(tf.shape(x), seed)
    ... )
    >>> noisy.gradients.samples
    20
    """
    return attack.expecting(Expected(transformation, samples))
