"""Checks for signs that an evaluation overestimates robustness: functions of findings that return a sentence or None.

The signs of hidden gradients are those of Athalye et al. 2018 (Obfuscated Gradients Give a False Sense of Security,
section 3.1) and of Croce and Hein 2020 with the checks in their repository (AutoAttack). A threshold whose source is
not named is the choice of this project. The absence of an alarm does not show that an evaluation is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfrobust import losses
from tfrobust.utils.types import Classify

if TYPE_CHECKING:
    from tfrobust.evaluation.probes import Probes
    from tfrobust.evaluation.report import Result

PASSES = 5
ROUNDING = 1e-9  # a difference of shares that equals its threshold raises no alarm
HIDDEN = "the classifier hides its gradients and is less robust than the figures say"


class Findings(NamedTuple):
    """The figures that the checks read."""

    classify: Classify
    x: np.ndarray  # pixels of the first batch, `(B, H, W, C)`
    y: np.ndarray  # labels of the first batch, `(B,)`
    logits: np.ndarray  # logits of all clean images, `(N, C)`
    not_numbers: Mapping[str, int]  # "clean" or an attack's name -> number of inputs without a prediction
    outside: Mapping[str, int] = {}  # attack's name -> number of images outside the ball, the pixel range or the mask
    results: Sequence[Result] = ()  # results of all attacks in order; a cascade is replaced by its parts
    columns: bool = False  # whether each attack began with all images that are right
    probes: Probes | None = None
    eps: float = 0.0
    norm: str = "linf"
    draws: int = 1
    images: int = 0  # number of images of the evaluation; 0 if it is not known


def nan(findings: Findings) -> str | None:
    """Finds logits that are NaN, or all -inf, which give neither a prediction nor a gradient."""
    if not findings.not_numbers:
        return None
    where = ", ".join(f"{count} under {name}" for name, count in findings.not_numbers.items())
    return (
        f"Logits were NaN (or all minus infinity) for some inputs ({where}), which count as wrong and have no gradient "
        "that attacks could follow. Find the division or logarithm of zero in the classifier."
    )


def broken_gradient(findings: Findings) -> str | None:
    """Finds gradients that are NaN or infinite in some pixels, which attacks by gradients cannot use."""
    if findings.probes is None or not findings.probes.broken:
        return None
    return (
        f"The gradient by the pixels is not finite for {findings.probes.broken} of the first {findings.probes.images} "
        "images, and the robust accuracy may be too high, since attacks take NaN as 0 and infinity as large. Find the "
        "overflow, or the root, logarithm, norm or division at 0, and keep it away from 0, as in sqrt(x + 1e-12). Add "
        "attacks without gradients (the suite 'black_box')."
    )


def probabilities(findings: Findings, tolerance: float = 1e-5) -> str | None:
    """Finds logits that are probabilities, in [0, 1] with rows that sum to 1, on which the losses of attacks are flat.

    The tolerance of the sum is that of AutoAttack's own check.
    """
    logits = findings.logits[np.isfinite(findings.logits).all(axis=-1)]
    inside = len(logits) and (logits >= 0).all() and (logits <= 1).all()
    if not inside or not (np.abs(logits.sum(axis=-1) - 1) <= tolerance).all():
        return None
    return (
        "The logits look like probabilities (in [0, 1], with sums of 1), on which attacks are weak. Give the input of "
        "the softmax as logits, as `tfrobust.expose` does."
    )


def random(findings: Findings, tolerance: float = 1e-4) -> str | None:
    """Finds classifiers whose logits differ from pass to pass, so that attacks that read one pass are misled.

    The first batch is classified 5 times. The number of passes and the tolerance of the L2 distance between normalized
    logits are those of AutoAttack's own check.
    """
    passes = [np.asarray(findings.classify(findings.x)["logits"], "float32") for _ in range(PASSES)]
    counts = {int(np.sum(losses.correct(logits, findings.y))) for logits in passes}
    # In float64, in which squares of huge logits are finite; logits that are not finite count as 0.
    known = [np.where(np.isfinite(logits), logits, 0).astype("float64") for logits in passes]
    units = [logits / (np.linalg.norm(logits, axis=-1, keepdims=True) + 1e-10) for logits in known]
    furthest = max(np.linalg.norm(a - b, axis=-1).max() for i, a in enumerate(units) for b in units[:i])
    if len(counts) == 1 and not furthest > tolerance:
        return None
    votes = f"Its accuracies are those of a vote of {findings.draws} passes."
    if findings.draws == 1:
        votes = (
            "Its accuracies are those of single passes, so that every run of an attack is one more chance to be wrong. "
            "Let passes vote on each prediction, evaluate(draws=25) or more."
        )
    return (
        f"The classifier is random: {PASSES} passes of one batch differ by up to {furthest:.2g} in normalized logits "
        f"(right: {sorted(counts)} of {len(findings.y)}). {votes} The gradient of one pass misleads attacks: attack "
        "the expectation, by autoattack(version='rand') or expectation(attack)."
    )


def flat_logits(findings: Findings, spread: float = 2.0, least_accuracy: float = 0.5) -> str | None:
    """Finds logits so close together that softmax is nearly uniform, such as cosines without a scale.

    The gradient of cross entropy then points to all wrong classes at once instead of the nearest, and an attack on it
    is weak. With two classes there is only one wrong class, and no such effect.

    Args:
        findings: findings with the logits of the clean images.
        spread: greatest difference of two logits of an image; cosines without a scale spread over at most 2.
        least_accuracy: accuracy on the first batch below which flat logits are expected, since training has not begun.
    """
    logits = findings.logits[np.isfinite(findings.logits).sum(axis=-1) >= 3]  # a class may be ruled out by -inf
    if not len(logits) or probabilities(findings):
        return None
    if np.mean(losses.correct(findings.logits[: len(findings.y)], findings.y)) < least_accuracy:
        return None
    known = np.isfinite(logits)
    highest, lowest = (np.where(known, logits, other) for other in (-np.inf, np.inf))
    widest = float((highest.max(axis=-1) - lowest.min(axis=-1)).max())
    if widest > spread + ROUNDING:
        return None
    return (
        f"The logits of no image spread over more than {widest:.2g}, as cosines without a scale do, and attacks on "
        "cross entropy are weak. Multiply the logits by a scale, which changes no prediction, or trust only attacks on "
        "the margin and on DLR, which do not depend on a scale."
    )


def zero_gradient(findings: Findings) -> str | None:
    """Finds gradients that are exactly zero, on which an attack makes no step.

    One image is enough, for DLR at a random start, as in AutoAttack's own check, and for cross entropy at the image.
    """
    probes = findings.probes
    if probes is None or not (probes.zero_ce or probes.zero_dlr):
        return None
    if probes.zero_dlr:
        return (
            f"The gradient of DLR is exactly zero for {probes.zero_dlr} of the first {probes.images} images (that of "
            f"cross entropy for {probes.zero_ce}), and attacks do not move there. Look for rounding, sign, argmax, "
            "stop_gradient or a saturated softmax, attack the classifier without it or past it (gradients="
            "attacks.straight_through(layer)), and add attacks without gradients (the suite 'black_box')."
        )
    return (
        f"The gradient of cross entropy is exactly zero for {probes.zero_ce} of the first {probes.images} images, "
        "since the softmax is saturated by large or clipped logits, and attacks on cross entropy do not move. Divide "
        "the logits by a constant, and trust only attacks on the margin and on DLR (apgd(loss='dlr'))."
    )


def labels_only(findings: Findings) -> str | None:
    """Finds classifiers that give labels (one-hot rows) or rounded values, which only attacks on decisions can follow.

    One image is enough whose logits do not change around it, with a gradient of zero at the image and at the decision
    boundary. A saturated softmax has a gradient at the boundary, and `zero_gradient` finds it.
    """
    probes = findings.probes
    if probes is None or not probes.labels_only:
        return None
    return (
        f"The classifier gives labels or rounded values: around {probes.labels_only} of the first {probes.images} "
        "images its logits do not change at all, so that attacks by gradients and by scores fail. Give the logits "
        "before the argmax or the rounding, or trust only attacks on decisions, such as hop_skip_jump in the suites "
        "'black_box' and 'standard'."
    )


def black_box(findings: Findings, threshold: float = 0.002, share: float = 0.01, images: int = 3) -> str | None:
    """Finds an attack by queries that succeeds on images on which all attacks by gradients before it failed.

    Where the evaluation has no attack by queries, the short Square of the probes takes its place.

    Args:
        findings: findings with the results in order, and the probes.
        threshold: greatest fall in accuracy, that of AutoAttack's own check of Square.
        share: greatest share of the images left by all attacks that the short Square may fool.
        images: least number of images that it has to fool, since it fools one or two by chance.
    """
    if found := _below_white_box(findings, ("black box",), threshold):
        name, accuracy, best = found
        seen = f"{name}, which reads no gradient, leaves {accuracy:.2%} where all attacks by gradients leave {best:.2%}"
    elif findings.probes is not None and findings.probes.queried is not None:
        asked, fooled = findings.probes.queried
        if not fooled / asked > _room(share, images, asked) + ROUNDING:
            return None
        seen = (
            f"A short Square, which reads no gradient, fools {fooled} of {asked} images that the attacks by gradients "
            "left right"
        )
    else:
        return None
    return (
        f"{seen}: {HIDDEN}, or these attacks were too weak. Run more steps, restarts and queries (the suites "
        "'standard' and 'black_box'), and other losses."
    )


def weaker_attackers(findings: Findings, threshold: float = 0.002, noise: float = 0.01) -> str | None:
    """Finds random noise or transferred adversaries that are more successful than white-box attacks.

    Args:
        findings: findings with the results in order, and the probes.
        threshold: greatest fall in accuracy below all white-box attacks; as in `black_box`.
        noise: greatest difference of the accuracies under PGD-20 and under noise, on the probed images.
    """
    found = _below_white_box(findings, ("noise", "transfer"), threshold)
    probes = findings.probes
    if found is None and probes is not None and probes.white_box - probes.noise > noise + ROUNDING:
        found = ("Random noise", probes.noise, probes.white_box)
    if found is None:
        return None
    name, accuracy, best = found
    return (
        f"{name} leaves {accuracy:.2%} where white-box attacks leave {best:.2%}: {HIDDEN}, or these attacks were too "
        "weak. Run stronger ones, and attacks by queries (the suite 'black_box')."
    )


def losses_apart(findings: Findings, threshold: float = 0.05, images: int = 3) -> str | None:
    """Finds searches on cross entropy and on the margin (or DLR) whose accuracies differ much: one loss misleads.

    Equal numbers of runs are compared, since nine targeted runs find more than one run on cross entropy on any
    classifier. The two short searches of the probes count only if the evaluation found no more than they did: if its
    attacks together find clearly more than either, its accuracy depends on neither.

    Args:
        findings: findings with the results (in a cascade the fall from one to the other counts), and the probes.
        threshold: greatest difference of the accuracies.
        images: least number of images in which they differ, since fewer can differ by chance.
    """
    room = _room(threshold, images, findings.images)
    apart = [(room, *pair) for pair in _apgd_apart(findings.results, findings.columns)]
    if findings.probes is not None:
        on_each = findings.probes.cross_entropy, findings.probes.margin
        room = _room(threshold, images, findings.probes.images)
        if min((result.accuracy for result in findings.results), default=1.0) >= min(on_each) - room - ROUNDING:
            apart.append((room, "PGD-20 on cross entropy", on_each[0], "on the margin", on_each[1]))
    apart = [pair for pair in apart if abs(pair[2] - pair[4]) > pair[0] + ROUNDING]
    if not apart:
        return None
    _, first, a, second, b = max(apart, key=lambda pair: abs(pair[2] - pair[4]))
    blind = first if a > b else second
    return (
        f"{first} leaves {a:.2%}, {second} {b:.2%}: the gradients of one of them mislead, and the figure of {blind} is "
        "no measure of robustness. Trust only suites with both losses ('standard'), and check the scale of the logits."
    )


def more_effort(findings: Findings, threshold: float = 0.01, images: int = 3) -> str | None:
    """Finds that twice the steps and restarts lower the accuracy by more than a threshold and at least some images."""
    if findings.probes is None or findings.probes.doubled is None:
        return None
    before, after = findings.probes.doubled
    if not before - after > _room(threshold, images, findings.images) + ROUNDING:
        return None
    return (
        f"With twice the steps and restarts the strongest attack by gradients brings accuracy from {before:.2%} to "
        f"about {after:.2%}: the search has not converged, and the robust accuracy is too high. Raise both until the "
        "accuracy stays, or run the suite 'standard'."
    )


def huge_eps(findings: Findings, threshold: float = 0.01) -> str | None:
    """Finds images that stay right at a radius whose ball holds the grey image, so that the search must have failed.

    By Athalye et al. 2018, an attack without a bound has to succeed on every image.
    """
    if findings.probes is None or findings.probes.huge is None:
        return None
    eps, accuracy = findings.probes.huge
    if not accuracy > threshold + ROUNDING:
        return None
    return (
        f"At eps={eps:.3g}, where every image can become plain grey, {accuracy:.2%} are still right under PGD-20: the "
        f"search fails, also at eps={findings.eps:.3g}. Either {HIDDEN}, or nearly all images are of one class. Run "
        "attacks by queries (the suite 'black_box')."
    )


def not_monotone(findings: Findings, threshold: float = 0.03, images: int = 3) -> str | None:
    """Finds an accuracy that rises with the radius or the number of steps, though both can only help an attacker.

    The accuracy has to rise by more than the threshold and at least some images above the least accuracy before it,
    since the points of a curve share images and random starts but differ by chance.
    """
    if findings.probes is None:
        return None
    room = _room(threshold, images, findings.probes.images)
    for what, curve in (("eps", findings.probes.by_eps), ("steps", findings.probes.by_steps)):
        for index, (at, accuracy) in enumerate(curve):
            less, least = min(curve[: index + 1], key=lambda point: point[1])
            if accuracy - least > room + ROUNDING:
                return (
                    f"Under PGD on the margin accuracy is {least:.2%} at {what}={less:.3g} but {accuracy:.2%} at "
                    f"{what}={at:.3g}, though more {what} can only help an attacker. Either {HIDDEN}, or PGD needs "
                    "smaller steps. Run the suite 'standard' and attacks by queries."
                )
    return None


def l1(findings: Findings) -> str | None:
    """Notes that the strongest attacks of the L1 ball are not in this library yet."""
    if findings.norm != "l1":
        return None
    return (
        "The strongest attacks of the L1 ball (AutoAttack's APGD, FAB and Square for L1) are not in this library yet, "
        "and the robust accuracy is higher than under them. Do not compare it with published figures, and add attacks "
        "of another library, such as from_foolbox(foolbox.attacks.L1FMNAttack(), eps, norm='l1')."
    )


def outside(findings: Findings) -> str | None:
    """Finds adversaries outside the ball, the pixel range or the mask, which were discarded."""
    if not findings.outside:
        return None
    where = ", ".join(f"{count} of {name}" for name, count in findings.outside.items())
    return (
        f"Perturbations left the ball, the pixel range or the mask, or were not finite ({where}). They were discarded, "
        "so that the robust accuracy may be too high. Correct the attack's radius, norm or range, or project its "
        "result."
    )


Check = Callable[[Findings], str | None]
PROBED: tuple[Check, ...] = (zero_gradient, labels_only, broken_gradient, more_effort, huge_eps, not_monotone)
OF_OUTPUTS: tuple[Check, ...] = (nan, probabilities, random, flat_logits, outside, l1)
OF_RESULTS: tuple[Check, ...] = (black_box, weaker_attackers, losses_apart)
CHECKS: dict[str, Check] = {check.__name__: check for check in (*OF_OUTPUTS, *OF_RESULTS, *PROBED)}


def names_of_checks(findings: Findings) -> tuple[str, ...]:
    """Returns the names of the checks that were made; without probes or without queries some are left out."""
    probes = findings.probes
    asked = any(result.kind == "black box" for result in findings.results) or (probes is not None and probes.queried)
    left_out = {*(() if probes is not None else PROBED), *(() if asked else (black_box,))}
    return tuple(name for name, check in CHECKS.items() if check not in left_out)


def alarms(findings: Findings) -> tuple[str, ...]:
    """Returns the sentences of all checks that found something."""
    return tuple(sentence for check in CHECKS.values() if (sentence := check(findings)))


def _room(threshold: float, images: int, of: int) -> float:
    """Returns the greatest difference that raises no alarm: the threshold, or one image less than required."""
    return max(threshold, (images - 1) / of) if of else threshold


def _below_white_box(findings: Findings, kinds: Iterable[str], threshold: float) -> tuple[str, float, float] | None:
    """Returns (name, accuracy, accuracy of the white-box attacks) of the first attack of some kinds that beats them.

    White-box attacks after it count only in columns, whose order does not matter.
    """
    results = findings.results
    for index, result in enumerate(results):
        rivals = [r for r in (results if findings.columns else results[:index]) if r.kind == "white box"]
        if result.kind not in kinds or not rivals:
            continue
        best = min(r.accuracy for r in (*rivals, *results[:index]))
        if best - result.accuracy > threshold + ROUNDING:
            return result.name, result.accuracy, best
    return None


def _apgd_apart(results: Sequence[Result], columns: bool) -> list[tuple[str, float, str, float]]:
    """Returns (name, accuracy, name, accuracy) of APGD on cross entropy and on DLR after equal numbers of runs.

    In a cascade the first accuracy is that of all attacks before the second, and the second that of both.
    """
    apgd = [(index, r) for index, r in enumerate(results) if str(r.settings.get("name")) == "apgd"]
    pairs = []
    for position, (_, first) in enumerate(apgd):
        for index, second in apgd[position + 1 :]:
            if ("dlr" in str(first.settings.get("loss"))) != ("dlr" in str(second.settings.get("loss"))):
                runs = min(first.runs, second.runs)
                before = first.after(runs) if columns else results[index - 1].accuracy
                pairs.append((first.name, before, second.name, second.after(runs)))
    return pairs
