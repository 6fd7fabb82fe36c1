"""The evaluation: per image the worst case over all attacks, each started from the clean image."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tfrobust.attacks import Ball, Cascade
from tfrobust.attacks import ball as ball_of
from tfrobust.classifiers import digest
from tfrobust.evaluation.adversaries import ROBUST
from tfrobust.evaluation.alarms import Evidence, alarms, made
from tfrobust.evaluation.attack_list import LineUp, line_up
from tfrobust.evaluation.dataset import Images, read
from tfrobust.evaluation.probes import Probes, probe
from tfrobust.evaluation.progress import Progress
from tfrobust.evaluation.record import Judge
from tfrobust.evaluation.report import Report, Result
from tfrobust.evaluation.resume import State, fingerprint
from tfrobust.evaluation.runner import Runs
from tfrobust.utils.errors import InvalidArgument
from tfrobust.utils.validation import check_integer, check_nonnegative
from tfrobust.utils.versions import versions

Tensor = Any
Classify = Callable[[Tensor], Mapping[str, Any]]


def evaluate(
    classifier: keras.Model | Classify,
    data: Any,
    *,
    eps: float,
    norm: str = "linf",
    attacks: str | Sequence[Any] | Mapping[str, Any] | Cascade = "quick",
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    batch_size: int = 256,
    seed: int = 0,
    draws: int = 1,
    probes: int = 128,
    state: str | os.PathLike[str] | None = None,
    verbose: bool = True,
) -> Report:
    """Measures how often a classifier is right on clean images and under every one of several attacks.

    robust accuracy = mean over images of [argmax z(x) = y and argmax z(x') = y for every x' that any attack, in any of
    its runs, found]. Each attack starts from the clean images; only those that are still right go on to its next run,
    packed into full batches. What it returns is checked against the ball, the bounds and the mask: what lies outside,
    or is not finite, is discarded, and an alarm says so.

    Args:
        classifier: a Keras model with named outputs, `logits` among them, or a callable pixels -> dict with "logits"
            `(B, C)`, in TensorFlow or `keras.ops`: it is traced into the attacks' graphs.
        data: a tuple of arrays (x, y), pixels `(N, H, W, C)` within the bounds and labels `(N,)`, `(N, 1)` or one-hot
            `(N, C)`; or batches of such, in any container that `fit` takes: `tf.data.Dataset`, `PyDataset`, generator,
            torch `DataLoader`. Sample weights are left out: every image counts once. Read once and kept in host memory.
        eps: radius of the ball in units of the pixels: with the usual bounds a fraction of their range (8/255). With 0
            every attack leaves the clean accuracy.
        norm: "linf", "l2", or "l1" (its radius is the mean absolute change).
        attacks: name of a suite; a list (or a `Cascade`), of which each item goes on with the images that all before it
            left right; or a mapping label -> item, of which each starts from all images that are right clean, as
            columns of a table. Items: a name or a config of an attack, made with this evaluation's eps, norm, bounds
            and mask; an `Attack`, which maximizes cross entropy; an `Evasion` (`Adversary` and the like); a `Cascade`,
            whose members stand in the `parts` of its result; or any callable `(classify, x, y) -> x_adv`, called
            outside a graph with the classifier as given, tensors and true labels.
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change, 0 where not, `(H, W, C)` or `(H, W, 1)`; None: all may.
        batch_size: images in a batch.
        seed: of the random numbers, which are functions of (seed, place of the attack, run, number of the image):
            neither `batch_size` nor what other attacks found changes them. A foreign callable has its own; attacks that
            couple the rows of a batch (feature_scatter, adv_interpolation) do depend on who shares it.
        draws: passes over the same pixels that vote on each verdict (clean, attacked, in 8 bits, of the probes), for a
            classifier that is random: with one, every run of an attack is one more chance to be wrong, so that an
            attack which does nothing lowers the accuracy. Take an odd number, such as 25, that is large beside the
            spread of its answers. The class of most votes counts; of equally many, the one of the larger mean logit; a
            pass with NaN votes for no class, and where none has more votes the image is wrong. It costs as many
            forwards in a verdict, and none in a search. An image that an attack gives back unchanged keeps its verdict.
        probes: how many of the first images the alarms and curves are measured on; 0: none, fewer alarms.
        state: a file that keeps what was found so far: an evaluation that was killed goes on where it was, with the
            figures of one that was not. It is made where there is none; one of other arguments, attacks, data or
            weights is refused. An attack that is a callable has to be a function of a module or to have a `get_config`.
            The file is not removed at the end.
        verbose: print a line for each attack, and how much time is left.

    Returns:
        A `Report`.

    Raises:
        ValueError: for a classifier, data, arguments or a state that make no evaluation, for an attack that is not
            defined for so few classes (a suite leaves it out), and for one that returns what is not shaped as
            the images.

    Example:

    >>> inputs = keras.Input((2, 2, 1))
    >>> outputs = {"logits": keras.layers.Dense(2, kernel_initializer="zeros")(keras.layers.Flatten()(inputs))}
    >>> x, y = np.full((4, 2, 2, 1), 0.5, "float32"), np.array([0, 0, 0, 1])
    >>> report = tfrobust.evaluation.evaluate(keras.Model(inputs, outputs), (x, y), eps=0.1, verbose=False)
    >>> report.clean_accuracy, report.robust_accuracy
    (0.75, 0.75)
    """
    began = time.perf_counter()
    _check_numbers(eps, batch_size, seed, draws, probes)
    ball = ball_of(norm, eps, bounds, mask)
    images, classes = read(classifier, data, batch_size, ball.bounds)
    _check_mask(ball, images)
    lined_up = line_up(attacks, norm, ball, classes)
    judge = Judge(classifier, ball, images, batch_size, int(draws))
    progress = Progress(verbose)
    kept = None
    try:
        if state is not None:
            numbers = {"batch_size": int(batch_size), "seed": int(seed), "draws": int(draws)}
            same = fingerprint(classifier, images, ball, lined_up, judge, norm=norm, **numbers)
            kept = State(state, same, judge)
        progress.line(f"clean: {judge.right_clean.sum()} of {len(images.y)} images right")
        results = Runs(judge, lined_up, classes, seed, kept, progress).results()
        if any(member.follows_gradients for member in lined_up.contestants):
            judge.sharpen()
        probed = _probed(judge, lined_up, results, seed, probes) if probes else None
    finally:
        progress.close()
        if kept is not None:
            kept.close()
    found = judge.adversaries()
    evidence = _evidence(judge, lined_up, results, probed, norm, classes)
    return Report(
        clean_accuracy=float(judge.right_clean.mean()),
        robust_accuracy=float(found.robust.mean()),
        attacks=results,
        alarms=alarms(evidence),
        checks=made(evidence),
        eps=float(eps),
        norm=norm,
        bounds=ball.bounds,
        images=len(images.y),
        classes=classes,
        seed=int(seed),
        batch_size=int(batch_size),
        draws=int(draws),
        versions=versions(),
        notes=(*lined_up.notes, *_notes(ball, images, judge)),
        robust_accuracy_8bit=judge.accuracy_in_8bit(),
        curves=_curves(probed),
        probe_images=probed.images if probed else 0,
        seconds=round(time.perf_counter() - began, 3),
        classifier=digest(classifier) if isinstance(classifier, keras.Model) else "",
        adversaries=found,
    )


def _probed(judge: Judge, lined_up: LineUp, results: Sequence[Result], seed: int, count: int) -> Probes | None:
    left = [part.accuracy for result in results for part in result.flat]
    attacked = [(member.attack, accuracy) for member, accuracy in zip(lined_up.contestants, left, strict=True)]
    return probe(
        judge.referee.classify,
        judge.referee.ball,
        judge.images,
        judge.right_clean,
        judge.fooled_by == ROBUST,
        attacked,
        adversaries=judge.z,
        seed=seed,
        count=count,
        batch_size=judge.batch_size,
        draws=judge.referee.draws,
    )


def _evidence(
    judge: Judge, lined_up: LineUp, results: Sequence[Result], probed: Probes | None, norm: str, classes: int
) -> Evidence:
    first = slice(0, judge.batch_size)
    return Evidence(
        classify=judge.referee.classify,
        x=judge.images.x[first],
        y=judge.images.y[first],
        logits=judge.logits,
        not_numbers=judge.not_numbers,
        outside=judge.outside,
        results=tuple(part for result in results for part in result.flat),
        columns=lined_up.columns,
        probes=probed,
        eps=float(judge.referee.ball.radius),
        norm=norm,
        classes=classes,
        draws=judge.referee.draws,
        images=len(judge.images.y),
    )


def _notes(ball: Ball, images: Images, judge: Judge) -> list[str]:
    """Returns what a reader of the figures should know of the pixels."""
    low, high = ball.bounds
    notes = []
    if not judge.right_clean.any():
        notes.append(
            f"The classifier is right on none of the {len(images.y)} images, so that nothing was attacked: are the "
            "labels, their order and the preprocessing those of its training?"
        )
    if (low, high) != (0.0, 1.0):
        share = ball.radius / (high - low)
        notes.append(
            f"eps is in units of the pixels: {ball.radius:.4g} of a range of {high - low:g}, {share:.4g} of it."
        )
    spread = float(images.x.max()) - float(images.x.min())
    if 0 < spread < (high - low) / 10:
        notes.append(
            f"The pixels fill {spread:.3g} of the range {[low, high]}: are the bounds right? Adversaries may leave "
            "what the images fill."
        )
    if ball.mask is not None:
        notes.append(f"A mask lets {int(ball.mask.sum())} of {ball.mask.size} values change.")
    return notes


def _curves(probed: Probes | None) -> dict[str, list[list[float]]]:
    if probed is None:
        return {}
    return {
        name: [list(map(float, point)) for point in points]
        for name, points in (("eps", probed.by_eps), ("steps", probed.by_steps))
    }


def _check_numbers(eps: Any, batch_size: Any, seed: Any, draws: Any, probes: Any) -> None:
    check_nonnegative("eps", eps)
    check_integer("batch_size", batch_size)
    check_integer("seed", seed, 0, 2**31 - 1)
    check_integer("draws", draws)
    check_integer("probes", probes, 0)


def _check_mask(ball: Ball, images: Images) -> None:
    if ball.mask is not None and len(ball.mask.shape) == 4 and len(ball.mask) != 1:
        raise InvalidArgument(
            "Invalid value for `mask`: expected one mask for all images, (H, W, C) or (H, W, 1). "
            f"Received: shape {ball.mask.shape}"
        )
    ball.masked(images.x[:1])
