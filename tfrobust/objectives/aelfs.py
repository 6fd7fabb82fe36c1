"""Attention-extended learning with fixed weights of the head."""

from typing import Any

import keras
from keras import ops

from tfrobust.classifiers import head_of
from tfrobust.objectives import recipes
from tfrobust.objectives.joint import joint
from tfrobust.objectives.objective import Objective, register
from tfrobust.schedules import Schedule


def follows_relu(classifier: keras.Model) -> str | None:
    """Returns a warning if no feature is negative, as after a ReLU."""
    shape = classifier.input_shape[1:]
    if None in shape:
        return None
    features: Any = classifier(keras.random.uniform((8, *shape), seed=0), training=False)["features"]
    if float(ops.min(features)) < 0:
        return None
    return (
        "The objective 'aelfs' expects features of both signs, as after a leaky ReLU. Received: a classifier whose "
        "head follows a ReLU, or another function that is never negative; features can then shrink in one direction "
        "only. Use activation='leaky_relu' where the network has that option (digits, cnn_b, wide_resnet)."
    )


def trains_head(classifier: keras.Model) -> str | None:
    """Returns a warning if the head is trainable."""
    if not head_of(classifier).trainable_variables:
        return None
    return (
        f"The objective 'aelfs' expects a trained classifier whose head is frozen. Received: a trainable head, "
        f"{head_of(classifier).name!r}. Set tfrobust.classifiers.head_of(classifier).trainable = False before "
        "creating the trainer; for a trainable head use joint(beta=...), which is JT*."
    )


@register(
    search={"beta": (0.01, 1.0, "log"), "adversarial_weight": (0.1, 10.0, "log")},
    digits={
        "objective": {"beta": 0.1},
        "model": {"name": "digits", "activation": "leaky_relu"},
        "phases": (recipes.STANDARD_PHASE, {"frozen": ("head",)}),
    },
)
def aelfs(
    beta: Schedule = 0.5,
    clean_weight: Schedule = 0.5,
    adversarial_weight: Schedule = 0.5,
    share: float = 1.0,
    adversarial_beta: Schedule | None = None,
) -> Objective:
    """Trains by AELFs, phase 2: min lambda1 * CE(x, y) + lambda2 * CE(x', y) + beta * (||f(x)|| + ||f(x')||).

    The norms are Euclidean, x' is attacked on CE. Only the extractor of the features is trained: the classifier comes
    from a standard training (phase 1), and its head is frozen before the trainer is created. AELF paper, algorithm 2,
    which advises a leaky ReLU before the head. The trainer warns if either is missing.

    Args:
        beta: Weight of the feature norms, at least 0, or a schedule over the fractional epoch. 0.5 on MNIST, 0.1 to 0.5
            for small networks, 0.2 for a wide ResNet: the paper advises smaller values for longer features.
        clean_weight: lambda1, at least 0, or a schedule.
        adversarial_weight: lambda2, at least 0, or a schedule.
        share: Attacked part of the batch; 0.5 in the paper's half-batch form.
        adversarial_beta: Weight of ||f(x')||, at least 0, or a schedule; None: beta, which else weighs ||f(x)|| alone.
            The paper names this possibility (section 3.2); its own tables have one weight for both.

    {{returns}}

    Example:

    >>> classifier = tfrobust.models.get("digits", activation="leaky_relu")  # and phase 1 here
    >>> tfrobust.classifiers.head_of(classifier).trainable = False
    >>> trainer = tfrobust.AdversarialTrainer(classifier, "aelfs", tfrobust.attacks.pgd(eps=0.15))
    >>> len(trainer.trainable_variables)  # kernels and biases of four convolutions
    8
    """
    terms = joint(clean_weight, adversarial_weight, share, beta, adversarial_beta)
    return Objective(
        terms.inner, terms.outer, needs=("logits", "features"), share=share, advice=(follows_relu, trains_head)
    )
