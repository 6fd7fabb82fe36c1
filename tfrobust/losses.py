"""Pure losses on tensors: `(B, ...) -> (B,)`. Nothing here reduces over the batch."""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of integer labels: -log softmax(z)_y.

    Args:
        logits: z, `(B, C)`.
        y: labels, `(B,)` integers in [0, C).

    Returns:
        `(B,)`.

    Example:

    >>> round(float(tfrobust.losses.cross_entropy([[0.0, 0.0]], [1])[0]), 3)
    0.693
    """
    # Not Keras' own, which looks through a softmax in the graph: this is of the very tensor that it is given.
    log_p = ops.log_softmax(logits)
    true = ops.one_hot(y, log_p.shape[-1], dtype="bool")
    return -ops.sum(ops.where(true, log_p, ops.zeros_like(log_p)), axis=-1)


def kl_divergence(logits: Tensor, other: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two predictions: sum_j p_j (log p_j - log q_j), p = softmax(z), q = softmax(z').

    Gradients flow through both. Zhang et al. 2019 (TRADES), equation 5: p is the clean, q the adversarial prediction.

    Args:
        logits: z, `(B, C)`.
        other: z', `(B, C)`.

    Returns:
        `(B,)`, summed over classes.

    Example:

    >>> float(tfrobust.losses.kl_divergence([[0.0, 0.0]], [[0.0, 0.0]])[0])
    0.0
    """
    log_p, log_q = ops.log_softmax(logits), ops.log_softmax(other)
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """How far the best wrong class is above the true one: max_{j != y} z_j - z_y. Positive where the label is missed.

    Carlini and Wagner 2017, the loss of the attack that this field runs as "CW" in the Linf ball.

    Args:
        logits: z, `(B, C)`, C at least 2.
        y: labels, `(B,)` integers.

    Returns:
        `(B,)`.

    Example:

    >>> float(tfrobust.losses.margin([[3.0, 1.0]], [0])[0])
    -2.0
    """
    logits = ops.convert_to_tensor(logits)
    true = ops.one_hot(y, logits.shape[-1], dtype="bool")
    others = ops.where(true, ops.cast(-float("inf"), logits.dtype), logits)
    return ops.max(others, axis=-1) - ops.sum(ops.where(true, logits, ops.zeros_like(logits)), axis=-1)


def l2_distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance per example, ||a - b||_2, flattened; its gradient at zero distance is zero, not NaN.

    Liu and JaJa 2019 (Feature Prioritization and Regularization), the feature regularizer: the norm itself, not its
    square.

    Args:
        a: `(B, ...)`.
        b: shaped as `a`.

    Returns:
        `(B,)`.

    Example:

    >>> float(tfrobust.losses.l2_distance([[3.0, 0.0]], [[0.0, 4.0]])[0])
    5.0
    """
    difference = ops.convert_to_tensor(a) - ops.convert_to_tensor(b)
    squares = ops.sum(ops.square(ops.reshape(difference, (ops.shape(difference)[0], -1))), axis=-1)
    apart = squares > 0
    # The inner `where` keeps the root away from zero, the outer one keeps its value: neither branch has a NaN gradient.
    return ops.where(apart, ops.sqrt(ops.where(apart, squares, ops.ones_like(squares))), ops.zeros_like(squares))


def correct(logits: Tensor, y: Tensor) -> Tensor:
    """1.0 where the largest logit is the label's, else 0.0. Not differentiable: for counting.

    Args:
        logits: z, `(B, C)`.
        y: labels, `(B,)` integers.

    Returns:
        `(B,)` float32.

    Example:

    >>> float(tfrobust.losses.correct([[3.0, 1.0]], [0])[0])
    1.0
    """
    return ops.cast(ops.equal(ops.cast(ops.argmax(logits, axis=-1), "int32"), ops.cast(y, "int32")), "float32")
