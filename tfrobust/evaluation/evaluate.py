"""Evaluates a classifier by the worst case over all attacks for each image."""

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfrobust.attacks import Ball, Cascade, Gradients, passing
from tfrobust.attacks import ball as ball_of
from tfrobust.classifiers import digest, in_inference
from tfrobust.evaluation.adversaries import ROBUST
from tfrobust.evaluation.alarms import Findings, alarms, names_of_checks
from tfrobust.evaluation.attack_list import AttackList, list_attacks
from tfrobust.evaluation.attack_runs import AttackRuns, Progress
from tfrobust.evaluation.dataset import Images, read
from tfrobust.evaluation.devices import DEFAULT, replicas
from tfrobust.evaluation.probes import Probes, Searches, probe
from tfrobust.evaluation.record import Record
from tfrobust.evaluation.report import Report, Result
from tfrobust.evaluation.resume import State, fingerprint
from tfrobust.utils.errors import invalid, invalid_value
from tfrobust.utils.graph import compiled
from tfrobust.utils.types import Classify
from tfrobust.utils.validation import check_integer, check_nonnegative, is_number
from tfrobust.utils.versions import versions


def evaluate(
    classifier: keras.Model | Classify,
    data: Any,
    *,
    eps: float,
    norm: str = "linf",
    attacks: str | Sequence[Any] | Mapping[str, Any] | Cascade | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
    mask: Any = None,
    batch_size: int = 256,
    seed: int = 0,
    draws: int = 1,
    gradients: Gradients | None = None,
    probes: int = 128,
    state: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    shard: tuple[int, int] | None = None,
    devices: Sequence[str] | None = None,
    verbose: bool = True,
) -> Report:
    """Measures how often a classifier is right on clean images and under every one of several attacks.

    robust accuracy = mean over images of [argmax z(x) = y and argmax z(x') = y for every x' that any attack, in any of
    its runs, found]. Each attack starts from the clean images; only those that are still right go on to its next run,
    packed into full batches. Every result is checked against the ball, the bounds and the mask; one that lies outside
    or is not finite is discarded, and an alarm says so.

    Args:
        classifier: a Keras model with named outputs, `logits` among them, or a callable pixels -> dict with "logits"
            `(B, C)`, in TensorFlow or `keras.ops`: it is traced into the attacks' graphs. `tfrobust.classifiers.open`
            returns one for a file or a server.
        data: a tuple of arrays (x, y), pixels `(N, H, W, C)` within the bounds and labels `(N,)`, `(N, 1)` or one-hot
            `(N, C)`; or batches of such, in any container that `fit` takes: `tf.data.Dataset`, `PyDataset`, generator,
            torch `DataLoader`. Sample weights are ignored: every image counts once. The data are read once. Labels and
            outcomes are kept in memory, images and adversaries beyond 256 MiB in temporary files: beside `state`, or
            where TMPDIR says.
        eps: radius of the ball in units of the pixels: with the usual bounds a fraction of their range (8/255). With 0
            the robust accuracy is the clean one.
        norm: norm of the ball: "linf", "l2", or "l1" (its radius is the mean absolute change).
        attacks: the name of a suite; None: "quick", or "shipped" for a classifier in a file or on a server that has no
            gradients of its own. Or an `Attack`, or names with commas between them ("fgsm,pgd"). Or a list (or a
            `Cascade`), each item of which attacks the images that all before it left right; or a mapping label -> item,
            each of which attacks all images that are right clean, as columns of a table. An item is a name or a config
            of an attack, which is made with this evaluation's eps, norm, bounds and mask; an `Attack`, which maximizes
            cross entropy if it has no loss of its own; a `Cascade`, whose members are the `parts` of its result; or any
            callable `(classify, x, y) -> x_adv`, which is called outside a graph with the classifier as given, tensors
            and true labels.
        bounds: least and greatest pixel value.
        mask: 1 where a pixel may change, 0 where not, `(H, W, C)` or `(H, W, 1)`; None: all may.
        batch_size: images in a batch.
        seed: seed of the random numbers, which are functions of (seed, index of the attack, run, number of the image):
            neither `batch_size` nor the results of other attacks change them. Only the random numbers of a foreign
            callable, and attacks that couple the rows of a batch (feature_scatter, adv_interpolation), are exceptions.
        draws: number of passes that vote on each prediction, for a classifier that is random. With one pass, every run
            of an attack is one more chance to be wrong, so that even an attack that changes nothing lowers the
            accuracy. Take an odd number, such as 25, that is large compared with the spread of the predictions. Of
            classes with equal votes, the one with the largest mean logit is predicted; a pass with NaN votes for no
            class, and the image is wrong if no class has more votes. Searches still make single passes, and an image
            that an attack returns unchanged keeps its prediction.
        gradients: the oracle of gradients for all attacks that follow gradients of the classifier, such as
            `attacks.straight_through(layer)` for one that rounds or thresholds; its straight-through parts hold for
            probes too. None: the oracle of each attack. A callable takes its own gradients.
        probes: number of the first images on which alarms and curves are measured; 0: no curves and fewer alarms.
        state: path of a file that keeps the results so far: an evaluation that was killed resumes from it, with the
            same figures. It is created if it does not exist, and not removed at the end; one of other arguments,
            attacks, data or weights is refused. A callable attack has to be a function of a module or to have a
            `get_config`. Or a list of the states of all parts, which are read and not written: see `shard`.
        shard: (k, n), to evaluate the k-th of n parts of the data, k from 1 to n: every n-th image, with the random
            numbers that it has in the whole. After the n parts, in processes of their own with a `state` each, an
            evaluation of the whole with the list of these states as `state` gives the figures of one process.
        devices: names of the devices that search batches in turn, each on a copy of the classifier, such as
            ["GPU:0", "GPU:1"]; None: all GPUs of this machine for a Keras model without `gradients`, else where
            TensorFlow puts them.
        verbose: whether to print a line for each attack, and the remaining time.

    Returns:
        A `Report`.

    Raises:
        ValueError: if the classifier, the data, an argument or the state is invalid, if an attack is not defined for so
            few classes (a suite leaves it out), and if an attack returns an array of another shape than the images.

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
    folder = _folder_of(state)
    whole, classes = read(classifier, data, batch_size, ball.bounds, folder)
    part = _part(whole, shard)
    images = whole if shard is None else whole.of(part, folder)
    _check_mask(ball, images)
    # An oracle may hold layers of this very model, which its copies do not have.
    on_devices = replicas(classifier, devices if gradients is None else devices or DEFAULT)
    attack_list = list_attacks(attacks, ball, classes, classifier)
    followed = passing(gradients, in_inference(classifier))  # the same values, with the gradients of the oracle
    if gradients is not None:
        attack_list = attack_list.expecting(gradients)
        followed(ops.convert_to_tensor(images.x[:1]))  # refuses, before the evaluation, a part that it does not have
    record = Record(classifier, ball, images, batch_size, int(draws), part, folder)
    numbers = {"batch_size": int(batch_size), "seed": int(seed), "draws": int(draws)}
    kept = None
    with contextlib.ExitStack() as closing:
        progress = Progress(verbose)
        closing.callback(progress.close)
        if state is not None:
            kept = State(state, fingerprint(attack_list, record, whole, norm=norm, **numbers), record)
            closing.callback(kept.close)
        progress.line(f"clean: {record.right_clean.sum()} of {len(images.y)} images right")
        results = AttackRuns(record, attack_list, classes, seed, on_devices, kept, progress).results()
        if any(attack.follows_gradients for attack in attack_list.attacks):
            record.sharpen(followed)
        probed = _probed(followed, record, attack_list, results, seed, probes) if probes else None
    findings = _findings(record, attack_list, results, probed, norm)
    return Report(
        clean_accuracy=float(record.right_clean.mean()),
        robust_accuracy=float((record.fooled_by == ROBUST).mean()),
        attacks=results,
        alarms=alarms(findings),
        checks=names_of_checks(findings),
        eps=float(eps),
        norm=norm,
        bounds=ball.bounds,
        images=len(images.y),
        classes=classes,
        **numbers,
        versions=versions(),
        notes=(*attack_list.notes, *_notes(ball, images, record), *_note_on_part(shard, whole)),
        robust_accuracy_8bit=record.accuracy_in_8bit(),
        curves={} if probed is None else probed.curves,
        probe_images=probed.images if probed else 0,
        seconds=round(time.perf_counter() - began, 3),
        classifier=digest(classifier),
        adversaries=record.adversaries(),
    )


def _probed(
    classify: Classify, record: Record, attack_list: AttackList, results: Sequence[Result], seed: int, count: int
) -> Probes | None:
    left = [part.accuracy for result in results for part in result.flat]
    attacked = [(member.attack, accuracy) for member, accuracy in zip(attack_list.attacks, left, strict=True)]
    scorer = record.scorer
    searches = Searches(classify, scorer.ball, record.images, seed, record.batch_size, scorer.draws)
    return probe(searches, record.right_clean, record.fooled_by == ROBUST, attacked, record.z, count)


def _findings(
    record: Record, attack_list: AttackList, results: Sequence[Result], probed: Probes | None, norm: str
) -> Findings:
    first, classify = slice(0, record.batch_size), record.scorer.classify
    return Findings(
        # A graph, because a Keras model outside of one holds the outputs of all its layers until it returns.
        classify=compiled(lambda x: {"logits": classify(x)["logits"]}),
        x=record.images.x[first],
        y=record.images.y[first],
        logits=record.logits,
        not_numbers=+record.not_numbers,  # without zeros
        outside=+record.outside,
        results=tuple(part for result in results for part in result.flat),
        columns=attack_list.columns,
        probes=probed,
        eps=float(record.scorer.ball.radius),
        norm=norm,
        draws=record.scorer.draws,
        images=len(record.images.y),
    )


def _notes(ball: Ball, images: Images, record: Record) -> list[str]:
    """Returns notes on clean accuracy, pixels, radius and mask that a reader of the figures should know."""
    low, high = ball.bounds
    notes = []
    if not record.right_clean.any():
        notes.append(
            f"The classifier is right on none of the {len(images.y)} images, so that nothing was attacked: are the "
            "labels, their order and the preprocessing those of its training?"
        )
    if (low, high) != (0.0, 1.0):
        share = ball.radius / (high - low)
        notes.append(
            f"eps is in units of the pixels: {ball.radius:.4g} of a range of {high - low:g}, {share:.4g} of it."
        )
    spread = images.span()
    if 0 < spread < (high - low) / 10:
        notes.append(
            f"The pixels fill {spread:.3g} of the range {[low, high]}: are the bounds right? Adversaries may leave "
            "what the images fill."
        )
    if ball.mask is not None:
        notes.append(f"A mask lets {int(ball.mask.sum())} of {ball.mask.size} values change.")
    return notes


def _check_numbers(eps: Any, batch_size: Any, seed: Any, draws: Any, probes: Any) -> None:
    check_nonnegative("eps", eps)
    check_integer("batch_size", batch_size)
    check_integer("seed", seed, 0, 2**31 - 1)
    check_integer("draws", draws)
    check_integer("probes", probes, 0)


def _part(whole: Images, shard: tuple[int, int] | None) -> np.ndarray:
    """Returns the numbers of the images of a part; those of all for None."""
    numbers = np.arange(len(whole.y))
    if shard is None:
        return numbers
    given = tuple(shard)
    if len(given) != 2 or not all(is_number(value, (int, np.integer)) for value in given):
        raise invalid_value("shard", "(k, n), two integers", shard)
    k, n = given
    if not 1 <= k <= n <= len(numbers):
        raise invalid_value(
            "shard", f"(k, n), k from 1 to n and n from 1 to {len(numbers)}, the number of images", shard
        )
    return numbers[k - 1 :: n]


def _note_on_part(shard: tuple[int, int] | None, whole: Images) -> list[str]:
    if shard is None:
        return []
    return [f"These are the figures of part {shard[0]} of {shard[1]} of the {len(whole.y)} images."]


def _folder_of(state: Any) -> Path | None:
    """Returns the folder of a state, of the first of several, or None."""
    files = [state] if isinstance(state, (str, os.PathLike)) else [*(state or ())]
    return Path(files[0]).parent if files else None


def _check_mask(ball: Ball, images: Images) -> None:
    if ball.mask is not None and len(ball.mask.shape) == 4 and len(ball.mask) != 1:
        expected = "one mask for all images, (H, W, C) or (H, W, 1)"
        raise invalid("value for `mask`", expected, f"shape {ball.mask.shape}")
    ball.masked(images.x[:1])
