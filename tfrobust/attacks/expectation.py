"""Expectation over transformation: gradient attacks on a classifier that is random or gets transformed pixels."""

from typing import TypeVar

from tfrobust.attacks.base import Attack
from tfrobust.attacks.gradients import Expected, Transformation

Followed = TypeVar("Followed", bound=Attack)


def expectation(attack: Followed, transformation: Transformation | None = None, samples: int = 20) -> Followed:
    """Returns an attack that follows the mean over random draws: value and gradient of mean_k loss(t_k(z)).

    Athalye et al. 2018 (Synthesizing Robust Adversarial Examples), equation 1. The draws are new at every step. A
    transformation that draws for a whole batch at once gives an image other numbers in another batch.

    Args:
        attack: An attack that follows gradients, such as `pgd(...)`; one that makes queries alone is refused.
        transformation: A function `(pixels (B, H, W, C), seed (2,)) -> pixels`, differentiable and random by its seed,
            as the functions `tf.image.stateless_*` are; None: the classifier itself is random.
        samples: Number of draws in a mean.

    Returns:
        An attack of the same class, with `samples` times its cost.

    Example:

    >>> noisy = tfrobust.attacks.expectation(
    ...     tfrobust.attacks.pgd(eps=0.15), lambda x, seed: x + 0.05 * tf.random.stateless_normal(tf.shape(x), seed)
    ... )
    >>> noisy.gradients.samples
    20
    """
    return attack.expecting(Expected(transformation, samples))
