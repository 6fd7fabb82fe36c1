"""Counts the forward and backward passes of a step, by the sides that its losses read."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import tensorflow as tf

from tfrobust.attacks import GradientAttack
from tfrobust.objectives import Loss, Objective
from tfrobust.views import Observed, Views

Passes = tuple[float, float]  # forwards and backwards of a full batch


def of_search(attack: GradientAttack | None, classifier: keras.Model) -> Passes:
    """Returns the most passes of a search, with all restarts and its clean forward."""
    if attack is None:
        return 0, 0
    forwards, backwards = attack.cost(classifier.output["logits"].shape[-1])
    if attack.restarts > 1 and not attack.compares_iterates:  # the last iterates are compared
        forwards += attack.gradients.linear_cost(0)[0]
    clean = "clean" in _sides([attack.effective_loss], classifier)
    return attack.restarts * forwards + clean, attack.restarts * backwards


def of_update(objective: Objective, classifier: keras.Model) -> Passes:
    """Returns the passes of an update; with a share below 1, clean and attacked images are one batch."""
    sides = len(_sides([term.loss for term in objective.outer.values()], classifier))
    passes = sides if objective.share == 1 else 1
    gamma = objective.weight_perturbation
    return (2 * passes,) * 2 if callable(gamma) or gamma > 0 else (passes, passes)


def _sides(losses: Iterable[Loss], classifier: keras.Model) -> set[str]:
    outputs = keras.tree.map_structure(
        lambda output: tf.zeros([size or 2 for size in output.shape], output.dtype), classifier.output
    )
    pixels = tf.zeros([size or 2 for size in classifier.input_shape])
    observed = Observed(tf.zeros(2), 2)
    views = Views(y=tf.zeros(2, tf.int32), x=pixels, x_adv=pixels, clean=outputs, adv=outputs, observed=observed)
    for loss in losses:
        loss(views)
    return views.sides
