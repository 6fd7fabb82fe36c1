"""Losses on tensors, `(B, ...) -> (B,)`, without a reduction over the batch.

Throughout, `logits` are z, `(B, C)` for C classes, at least 2, and `y` are labels, `(B,)` integers in [0, C). Distances
compare `a` and `b`, `(B, ...)` of one shape, per flattened example.
"""

from collections.abc import Callable

import keras
from keras import ops

from tfrobust.utils.deprecation import renamed_arguments
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.registry import unknown
from tfrobust.utils.types import Tensor


@renamed_arguments(smoothing="off_label_smoothing")
def cross_entropy(
    logits: Tensor, y: Tensor, *, label_smoothing: float = 0.0, off_label_smoothing: float = 0.0
) -> Tensor:
    """Computes the cross entropy of integer labels, `(B,)`: -sum_j t_j log softmax(z)_j.

    The target t is one_hot(y) without smoothing. The two kinds of smoothing differ in the share of the label itself: s
    in `label_smoothing` is the same as s * (C - 1) / C in `off_label_smoothing`.

    Args:
        logits: z, `(B, C)`.
        y: Labels, `(B,)`.
        label_smoothing: s in [0, 1], as Keras defines it: t = (1 - s) * one_hot(y) + s / C.
        off_label_smoothing: s in [0, 1]: t is 1 - s for the label and s / (C - 1) for each other class.

    Example:

    >>> round(float(tfrobust.losses.cross_entropy([[0.0, 0.0]], [1])[0]), 3)
    0.693
    """
    # Keras' own loss would skip a softmax in the graph; this one uses exactly the tensor that it receives.
    log_p = ops.log_softmax(logits)
    classes = log_p.shape[-1]
    true = ops.one_hot(y, classes, dtype="bool")
    others = off_label_smoothing + label_smoothing * (classes - 1) / classes
    if not others:
        return -ops.sum(ops.where(true, log_p, ops.zeros_like(log_p)), axis=-1)
    target = ops.where(true, 1.0 - others, others / (classes - 1))
    return -ops.sum(weighted(ops.cast(target, log_p.dtype), log_p), axis=-1)


def kl_divergence(logits: Tensor, other: Tensor) -> Tensor:
    """Computes KL(p || q) = sum_j p_j (log p_j - log q_j), `(B,)`, p = softmax(z), q = softmax(z'), z' is `other`.

    Gradients flow through both. Zhang et al. 2019 (TRADES), equation 5: p is the clean, q the adversarial prediction.

    Example:

    >>> float(tfrobust.losses.kl_divergence([[0.0, 0.0]], [[0.0, 0.0]])[0])
    0.0
    """
    log_p, log_q = ops.log_softmax(logits), ops.log_softmax(other)
    return ops.sum(weighted(ops.exp(log_p), log_p - log_q), axis=-1)


def weighted(p: Tensor, values: Tensor) -> Tensor:
    """Returns p * v, and 0 where p is 0 even if v is infinite, such as the log p of a logit -inf."""
    return p * ops.where(p > 0, values, ops.zeros_like(values))


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Computes max_{j != y} z_j - z_y, `(B,)`, which is positive for misclassified examples.

    Carlini and Wagner 2017, the loss of the attack that is known as "CW" in the Linf ball.

    Example:

    >>> float(tfrobust.losses.margin([[3.0, 1.0]], [0])[0])
    -2.0
    """
    logits = ops.convert_to_tensor(logits)
    true = ops.one_hot(y, logits.shape[-1], dtype="bool")
    others = ops.where(true, ops.cast(-float("inf"), logits.dtype), logits)
    return ops.max(others, axis=-1) - logit(logits, y)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Computes the difference of logits ratio, `(B,)`: -(z_y - max_{j != y} z_j) / (z_(1) - z_(3) + 1e-12).

    z_(k) is the k-th largest logit, of at least 3. The ratio is invariant to scale and shift of the logits, so its
    gradient does not vanish for a confident classifier. It is positive for misclassified examples, and in [-1, 1]
    except for the floor of the denominator. Croce and Hein 2020 (Reliable Evaluation of Adversarial Robustness),
    equation 6.

    Example:

    >>> float(tfrobust.losses.dlr([[3.0, 1.0, -1.0]], [0])[0])
    -0.5
    """
    largest = _largest(logits, 3, "dlr", "margin")
    return margin(logits, y) / (largest[:, 0] - largest[:, 2] + 1e-12)


def dlr_targeted(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Computes the targeted form of `dlr`, `(B,)`: -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12).

    `target` are the classes t, `(B,)` integers; there are at least 4 classes. Croce and Hein 2020 (Reliable Evaluation
    of Adversarial Robustness), equation 7.

    Example:

    >>> float(tfrobust.losses.dlr_targeted([[3.0, 1.0, -1.0, -1.0]], [0], [2])[0])
    -1.0
    """
    largest = _largest(logits, 4, "dlr_targeted", "dlr")
    span = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    return (logit(logits, target) - logit(logits, y)) / (span + 1e-12)


def _largest(logits: Tensor, count: int, loss: str, instead: str) -> Tensor:
    logits = ops.convert_to_tensor(logits)
    if logits.shape[-1] < count:
        raise InvalidArgument(
            f"The loss {loss!r} compares the {count} largest logits: expected at least {count} classes, or the loss "
            f"{instead!r}. Received: {logits.shape[-1]} classes"
        )
    return ops.top_k(logits, count)[0]


def logit(logits: Tensor, y: Tensor) -> Tensor:
    """Returns z_y, `(B,)`, of logits z `(B, C)`, of which the others may be infinite, and classes y `(B,)`."""
    logits = ops.convert_to_tensor(logits)
    chosen = ops.one_hot(y, logits.shape[-1], dtype="bool")
    return ops.sum(ops.where(chosen, logits, ops.zeros_like(logits)), axis=-1)


def l2_distance(a: Tensor, b: Tensor) -> Tensor:
    """Computes the Euclidean distance per example, ||a - b||_2, flattened; its gradient at zero is zero, not NaN.

    Liu and JaJa 2019 (Feature Prioritization and Regularization), the feature regularizer: the norm itself, not its
    square.

    Example:

    >>> float(tfrobust.losses.l2_distance([[3.0, 0.0]], [[0.0, 4.0]])[0])
    5.0
    """
    return _norm(_difference(a, b))[:, 0]


def norm(a: Tensor) -> Tensor:
    """Computes the Euclidean norm per example, flattened; its gradient at zero is zero, not NaN.

    Example:

    >>> float(tfrobust.losses.norm([[3.0, 4.0]])[0])
    5.0
    """
    return _norm(_rows(a))[:, 0]


def l1_distance(a: Tensor, b: Tensor) -> Tensor:
    """Computes the sum of absolute differences per example, ||a - b||_1, flattened.

    Example:

    >>> float(tfrobust.losses.l1_distance([[3.0, 0.0]], [[0.0, 4.0]])[0])
    7.0
    """
    return ops.sum(ops.abs(_difference(a, b)), axis=-1)


def mean_squared_distance(a: Tensor, b: Tensor) -> Tensor:
    """Computes the mean of squared differences per example, flattened.

    Example:

    >>> float(tfrobust.losses.mean_squared_distance([[3.0, 0.0]], [[0.0, 4.0]])[0])
    12.5
    """
    return ops.mean(ops.square(_difference(a, b)), axis=-1)


def huber_distance(a: Tensor, b: Tensor) -> Tensor:
    """Computes the mean Huber loss of the differences d per example, flattened: d^2 / 2 where |d| <= 1, else |d| - 1/2.

    Example:

    >>> float(tfrobust.losses.huber_distance([[3.0, 0.0]], [[0.0, 1.0]])[0])
    1.5
    """
    size = ops.abs(_difference(a, b))
    within = ops.minimum(size, 1.0)
    return ops.mean(within * (size - 0.5 * within), axis=-1)


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Computes max(1 - cos(a, b), 0) per example, flattened; a vector of norm zero has cosine 0 and gradient zero.

    Example:

    >>> float(tfrobust.losses.cosine_distance([[3.0, 0.0]], [[0.0, 4.0]])[0])
    1.0
    """
    return ops.maximum(1.0 - ops.sum(unit(_rows(a)) * unit(_rows(b)), axis=-1), 0.0)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l2": l2_distance,
    "l1": l1_distance,
    "mse": mean_squared_distance,
    "huber": huber_distance,
    "cosine": cosine_distance,
}


def distance(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the distance for a name: "l2" and "l1" (norms), "mse" and "huber" (means), "cosine"."""
    if name not in DISTANCES:
        raise unknown("distance", name, DISTANCES)
    return DISTANCES[name]


def optimal_transport(
    a: Tensor, b: Tensor, *, eps: float = 0.01, iterations: int = 100, threshold: float = 0.1
) -> Tensor:
    """Computes each row's part of the regularized optimal transport distance of two batches, `(B,)`: sum_j T_ij C_ij.

    C_ij = max(1 - cos(a_i, b_j), 0) of rows `(B, D)`; T is Sinkhorn's plan with uniform marginals. Its sum over rows is
    the distance. Gradients flow through the plan. Zhang and Wang 2019 (Feature Scattering), equations 3 to 5; the
    constants are those of the authors' implementation.

    Args:
        a, b: The two batches, `(B, D)`.
        eps: Weight of the entropy.
        iterations: Greatest number of iterations.
        threshold: Iterations stop when the dual variables of `a` change by less in total.

    Example:

    >>> a, b = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0], [3.0, 0.0]]  # the same directions in another order
    >>> bool(keras.ops.all(tfrobust.losses.optimal_transport(a, b) < 1e-6))
    True
    """
    a, b = ops.convert_to_tensor(a), ops.convert_to_tensor(b)
    norms = _norm(a) * ops.transpose(_norm(b))
    cost = ops.maximum(1.0 - ops.matmul(a, ops.transpose(b)) / ops.maximum(norms, 1e-6), 0.0)
    log_share = -ops.log(ops.cast(ops.shape(a)[0], cost.dtype))

    def exponent(u: Tensor, v: Tensor) -> Tensor:
        return (u + v - cost) / eps

    def mass(u: Tensor, v: Tensor, axis: int) -> Tensor:
        return ops.log(ops.sum(ops.exp(exponent(u, v)), axis=axis, keepdims=True) + 1e-6)

    def moves(u: Tensor, v: Tensor, change: Tensor) -> Tensor:
        return change >= threshold

    def scale(u: Tensor, v: Tensor, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled = eps * (log_share - mass(u, v, 1)) + u
        other = eps * (log_share - mass(scaled, v, 0)) + v
        return scaled, other, ops.sum(ops.abs(scaled - u))

    u, v = ops.zeros_like(cost[:, :1]), ops.zeros_like(cost[:1])
    first = ops.cast(threshold, cost.dtype)
    u, v, _ = ops.while_loop(moves, scale, (u, v, first), maximum_iterations=iterations)
    return ops.sum(ops.exp(exponent(u, v)) * cost, axis=-1)


def predicted(logits: Tensor) -> Tensor:
    """Returns the predicted class argmax_j z_j, `(B,)` int32, and -1 where there is no prediction.

    There is none where a logit is NaN, or all are -inf. Single infinite logits are valid. Of equal logits the first is
    chosen, as in `keras.ops.argmax`.

    Example:

    >>> tfrobust.losses.predicted([[1.0, 3.0], [float("nan"), 0.0], [float("-inf"), 0.0]]).numpy().tolist()
    [1, -1, 1]
    """
    logits = ops.convert_to_tensor(logits)
    if not keras.backend.is_float_dtype(logits.dtype):
        logits = ops.cast(logits, "float32")
    invalid = ops.logical_or(ops.any(ops.isnan(logits), axis=-1), ops.max(logits, axis=-1) == -float("inf"))
    return ops.where(invalid, -1, ops.cast(ops.argmax(logits, axis=-1), "int32"))


def correct(logits: Tensor, y: Tensor) -> Tensor:
    """Returns 1.0 where the classifier is correct, else 0.0: [predicted(z) = y], `(B,)` float32.

    All accuracies in this library use this function: without a prediction, the classifier is wrong for every label. Not
    differentiable.

    Example:

    >>> tfrobust.losses.correct([[3.0, 1.0], [float("nan"), float("nan")]], [0, 0]).numpy().tolist()
    [1.0, 0.0]
    """
    return ops.cast(ops.equal(predicted(logits), ops.cast(y, "int32")), "float32")


def missed_by(logits: Tensor, y: Tensor) -> Tensor:
    """Returns the `margin`, `(B,)`, and +inf where there is no prediction; never NaN.

    Searches without gradients maximize it, and evaluations compare adversaries by it. It is 0 where the label and
    another class are both infinite. To differentiate, use `margin`.

    Example:

    >>> tfrobust.losses.missed_by([[3.0, 1.0], [float("nan"), 0.0]], [0, 0]).numpy().tolist()
    [-2.0, inf]
    """
    missed = margin(logits, y)
    missed = ops.where(ops.isnan(missed), ops.zeros_like(missed), missed)
    return ops.where(predicted(logits) < 0, ops.cast(float("inf"), missed.dtype), missed)


def _rows(a: Tensor) -> Tensor:
    a = ops.convert_to_tensor(a)
    return ops.reshape(a, (ops.shape(a)[0], -1))


def _difference(a: Tensor, b: Tensor) -> Tensor:
    a, b = _rows(a), _rows(b)
    return ops.where(a == b, ops.zeros_like(a), a - b)  # also of logits that are both -inf


def _norm(v: Tensor, axis: int = -1) -> Tensor:
    """Returns the norm along an axis, which stays as 1."""
    squares = ops.sum(ops.square(v), axis=axis, keepdims=True)
    positive = squares > 0
    # The inner `where` avoids the root of zero, so that no branch has a NaN gradient.
    return ops.where(positive, ops.sqrt(ops.where(positive, squares, ops.ones_like(squares))), ops.zeros_like(squares))


def unit(v: Tensor, axis: int = -1) -> Tensor:
    """Returns v / ||v||_2 along an axis; a vector of norm zero stays zero, with gradient zero."""
    length = _norm(v, axis)
    long = length > 0
    return ops.where(long, v / ops.where(long, length, ops.ones_like(length)), ops.zeros_like(v))
