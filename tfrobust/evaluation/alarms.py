"""Checks for signs that an evaluation overestimates robustness: functions of findings that return a sentence or None.

Every threshold is an argument with its source. The signs of hidden gradients are those of Athalye et al. 2018
(Obfuscated Gradients Give a False Sense of Security, section 3.1) and of Croce and Hein 2020 with the checks in their
repository (AutoAttack). No alarm means that nothing was found, not that nothing is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfrobust import losses

if TYPE_CHECKING:
    from tfrobust.evaluation.probes import Probes
    from tfrobust.evaluation.report import Result

PASSES = 5
ROUNDING = 1e-9  # of shares: a drop of exactly the threshold raises no alarm
HIDDEN = "the classifier hides its gradients and is less robust than they say"


class Findings(NamedTuple):
    """The figures that the checks read.

    Args:
        classify: the classifier as it was given.
        x: pixels of the first batch, `(B, H, W, C)`.
        y: its labels, `(B,)`.
        logits: of all clean images, `(N, C)`.
        not_numbers: where there was no prediction ("clean", or an attack's name) -> for how many inputs.
        outside: name of an attack -> how many images it returned outside the ball, the pixel range or the mask.
        results: of each attack, in order; a cascade is replaced by its parts.
        columns: whether each attack began with all images that are right, not with those that the one before it left.
        probes: results of the probes; None if none were made.
        eps: radius of the evaluation.
        norm: of its ball.
        classes: of the classifier.
        draws: passes that voted on each prediction.
        images: number of images of the evaluation; 0 if not known.
    """

    classify: Callable[[Any], Mapping[str, Any]]
    x: np.ndarray
    y: np.ndarray
    logits: np.ndarray
    not_numbers: Mapping[str, int]
    outside: Mapping[str, int] = {}
    results: Sequence[Result] = ()
    columns: bool = False
    probes: Probes | None = None
    eps: float = 0.0
    norm: str = "linf"
    classes: int = 0
    draws: int = 1
    images: int = 0


def nan(findings: Findings) -> str | None:
    """Finds logits that are NaN, or all -inf: there is no prediction, and no gradient that an attack could follow."""
    if not findings.not_numbers:
        return None
    where = ", ".join(f"{count} under {name}" for name, count in findings.not_numbers.items())
    return (
        f"Logits were NaN (or all minus infinity) for some inputs ({where}); they count as wrong, and attacks "
        "cannot follow gradients there. Find the division or logarithm of zero in the classifier."
    )


def broken_gradient(findings: Findings) -> str | None:
    """Finds gradients that are NaN or infinite in some pixels, which attacks by gradients cannot use."""
    if findings.probes is None or not findings.probes.broken:
        return None
    return (
        f"The gradient by the pixels is not finite for {findings.probes.broken} of the first {findings.probes.images} "
        "images. Attacks take its NaN as 0 (and what is infinite as large), and do not see what those pixels do: the "
        "robust accuracy may be too high. Find the root, logarithm, norm or division at 0 in the classifier and keep "
        "it away from 0, as in sqrt(x + 1e-12), or logits that are infinite or overflow; and add attacks without "
        "gradients (the suite 'black_box')."
    )


def probabilities(findings: Findings, tolerance: float = 1e-5) -> str | None:
    """Finds logits that are probabilities, in [0, 1] with rows that sum to 1, on which the losses of attacks are flat.

    Args:
        findings: logits of the clean images.
        tolerance: of the sum; AutoAttack's own check.
    """
    logits = findings.logits[np.isfinite(findings.logits).all(axis=-1)]
    inside = len(logits) and (logits >= 0).all() and (logits <= 1).all()
    if not inside or not (np.abs(logits.sum(axis=-1) - 1) <= tolerance).all():
        return None
    return (
        "The logits look like probabilities (in [0, 1], sums of 1): attacks are weak on them. Give the logits: what "
        "goes into the softmax (`tfrobust.expose` splits one off)."
    )


def random(findings: Findings, tolerance: float = 1e-4) -> str | None:
    """Finds classifiers whose logits differ from pass to pass, so that attacks that read one pass are misled.

    Args:
        findings: the first batch, which is classified 5 times.
        tolerance: of the L2 distance of normalized logits; AutoAttack's own check, with its 5 passes.
    """
    passes = [np.asarray(findings.classify(findings.x)["logits"], "float32") for _ in range(PASSES)]
    counts = {int(np.sum(losses.correct(logits, findings.y))) for logits in passes}
    # In float64, in which squares of huge logits are finite; logits that are not finite count as 0.
    known = [np.where(np.isfinite(logits), logits, 0).astype("float64") for logits in passes]
    units = [logits / (np.linalg.norm(logits, axis=-1, keepdims=True) + 1e-10) for logits in known]
    furthest = max(np.linalg.norm(a - b, axis=-1).max() for i, a in enumerate(units) for b in units[:i])
    if len(counts) == 1 and not furthest > tolerance:
        return None
    votes = (
        "Its accuracies are those of single draws: every run of an attack is one more chance to be wrong, even where "
        "it does nothing. Let passes vote on each prediction: evaluate(draws=25), or more."
        if findings.draws == 1
        else f"Its accuracies are those of a vote of {findings.draws} passes."
    )
    return (
        f"The classifier is random: {PASSES} passes of one batch differ by up to {furthest:.2g} in normalized logits "
        f"(right: {sorted(counts)} of {len(findings.y)}). {votes} Gradients of one draw mislead: attack its "
        "expectation, autoattack(version='rand') or expectation(attack)."
    )


def flat_logits(findings: Findings, spread: float = 2.0, least_accuracy: float = 0.5) -> str | None:
    """Finds logits so close together that softmax is nearly uniform, such as cosines without a scale.

    The gradient of cross entropy then points to all wrong classes at once instead of the nearest, and an attack on it
    is weak. With two classes there is only one wrong class, and no such effect.

    Args:
        findings: logits of the clean images.
        spread: greatest minus least logit, of the image where it is greatest; 2 is that of bare cosines (this
            project's choice).
        least_accuracy: on the first batch; logits of an untrained classifier are expected to be flat (this project's
            choice).
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
        f"The logits of no image spread over more than {widest:.2g}, as cosines without a scale do: attacks on cross "
        "entropy are weak there. Multiply them by a scale (class and order stay the same), or believe only attacks on "
        "the margin and on DLR, which know no scale."
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
            f"cross entropy for {probes.zero_ce}): attacks stand still there. Look for what is flat (rounding, "
            "sign, argmax, stop_gradient, a saturated softmax), attack the classifier without it or with an identity "
            "in its backward pass, and add attacks without gradients (the suite 'black_box')."
        )
    return (
        f"The gradient of cross entropy is exactly zero for {probes.zero_ce} of the first {probes.images} images: "
        "softmax is saturated (logits of a large scale, or cut off), and attacks on cross entropy stand still. Divide "
        "the logits by a constant, and believe only attacks on the margin and on DLR (apgd(loss='dlr'))."
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
        "images its logits do not change at all, and at the decision boundary they jump. Attacks by gradients and by "
        "scores have nothing to follow. Give it the logits that are in front of the argmax or the rounding; without "
        "them believe only attacks on decisions, hop_skip_jump (the suites 'black_box' and 'standard' have it)."
    )


def black_box(findings: Findings, threshold: float = 0.002) -> str | None:
    """Finds an attack by queries that succeeds on images on which all attacks by gradients before it failed.

    Args:
        findings: results in order.
        threshold: of the fall in accuracy below all of them; AutoAttack's own check of Square, 0.2 points.
    """
    found = _below_white_box(findings, ("black box",), threshold)
    if found is None:
        return None
    name, accuracy, best = found
    return (
        f"{name}, which reads no gradient, leaves {accuracy:.2%} where all attacks by gradients leave {best:.2%}: "
        f"{HIDDEN}, or those were too weak. Run stronger ones (more steps and restarts, other losses), and more "
        "queries."
    )


def weaker_attackers(findings: Findings, threshold: float = 0.002, noise: float = 0.01) -> str | None:
    """Finds random noise or transferred adversaries that are more successful than white-box attacks.

    Args:
        findings: results in order, and the probes.
        threshold: of the fall in accuracy below all white-box attacks; as that of Square.
        noise: of accuracy under noise below that of PGD-20, on the probed images (this project's choice: 1 point).
    """
    found = _below_white_box(findings, ("noise", "transfer"), threshold)
    probes = findings.probes
    if found is None and probes is not None and probes.white_box - probes.noise > noise + ROUNDING:
        found = ("Random noise", probes.noise, probes.white_box)
    if found is None:
        return None
    name, accuracy, best = found
    return (
        f"{name} leaves {accuracy:.2%} where attacks that see everything leave {best:.2%}: {HIDDEN}, or those "
        "were too weak. Run stronger ones, and attacks of queries (the suite 'black_box')."
    )


def losses_apart(findings: Findings, threshold: float = 0.05, images: int = 3) -> str | None:
    """Finds searches on cross entropy and on the margin (or DLR) whose accuracies differ much: one loss misleads.

    Equal numbers of runs are compared, since nine targeted runs find more than one run on cross entropy on any
    classifier. The two short searches of the probes count only if the evaluation found no more than they did: if its
    attacks together find clearly more than either, its accuracy depends on neither.

    Args:
        findings: results (in a cascade the fall from one to the other counts), and the probes.
        threshold: of the difference, 5 points (the specification of this project) ...
        images: ... and at least so many images: fewer are the luck of a search.
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
        f"{first} leaves {a:.2%}, {second} {b:.2%}: the gradients of one of them mislead, and the figure of {blind} "
        "is no robustness. Believe only suites that hold both ('standard'), and look at the scale of the logits and at "
        "what the training loss did to them."
    )


def more_effort(findings: Findings, threshold: float = 0.01, images: int = 3) -> str | None:
    """Finds that twice the steps and restarts lower the accuracy clearly: the search had not converged.

    Args:
        findings: the probes.
        threshold: of the fall in accuracy, 1 point (the specification of this project) ...
        images: ... and at least so many images: fewer are the luck of a search.
    """
    if findings.probes is None or findings.probes.doubled is None:
        return None
    before, after = findings.probes.doubled
    if not before - after > _room(threshold, images, findings.images) + ROUNDING:
        return None
    return (
        f"With twice the steps and restarts the strongest attack by gradients brings accuracy from {before:.2%} to "
        f"about {after:.2%}: the search has not ended, and the robust accuracy is an overestimate. Give it more of "
        "both until that changes nothing, or run the suite 'standard'."
    )


def huge_eps(findings: Findings, threshold: float = 0.01) -> str | None:
    """Finds images that stay right at a radius whose ball holds the grey image, so that the search must have failed.

    Args:
        findings: the probes.
        threshold: of the accuracy, 1 % (the specification of this project, after Athalye et al. 2018: an unbounded
            attack has to reach every image).
    """
    if findings.probes is None or findings.probes.huge is None:
        return None
    eps, accuracy = findings.probes.huge
    if not accuracy > threshold + ROUNDING:
        return None
    return (
        f"At eps={eps:.3g}, where every image can become plain grey, {accuracy:.2%} are still right under PGD-20: the "
        f"search fails, so that its failure at eps={findings.eps:.3g} shows little. Either {HIDDEN}, or nearly all "
        "images are of one class. Run attacks of queries (the suite 'black_box')."
    )


def not_monotone(findings: Findings, threshold: float = 0.03, images: int = 3) -> str | None:
    """Finds an accuracy that rises with the radius or the number of steps, though both can only help an attacker.

    The curves use the same images and the same random starts, so that only the chance of a search moves them, which the
    threshold allows for.

    Args:
        findings: the probes.
        threshold: of the rise above the least accuracy before it, 3 points (this project's choice) ...
        images: ... and at least so many images.
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
                    f"{what}={at:.3g}: more {what} can only help an attacker, so its gradients mislead it. Either "
                    f"{HIDDEN}, or PGD needs smaller steps. Run the suite 'standard' and attacks of queries."
                )
    return None


def l1(findings: Findings) -> str | None:
    """Notes that the strongest attacks of the L1 ball are not in this library yet."""
    if findings.norm != "l1":
        return None
    return (
        "The strongest attacks of the L1 ball (AutoAttack's APGD, FAB and Square for L1) are not in this library yet: "
        "steps along gradients alone stand for them, and the robust accuracy is an upper bound. Do not compare it with "
        "published figures, and add attacks of another library, such as "
        "from_foolbox(foolbox.attacks.L1FMNAttack(), eps, norm='l1')."
    )


def outside(findings: Findings) -> str | None:
    """Finds adversaries outside the ball, the pixel range or the mask, which were discarded."""
    if not findings.outside:
        return None
    where = ", ".join(f"{count} of {name}" for name, count in findings.outside.items())
    return (
        f"Perturbations left the ball, the pixel range or the mask, or were not finite ({where}): those images were "
        "discarded and count as not fooled, so the robust accuracy may be too high. Correct the attack's radius, norm "
        "or range, or project what it returns."
    )


Check = Callable[[Findings], str | None]
ALWAYS: tuple[Check, ...] = (
    nan,
    probabilities,
    random,
    flat_logits,
    outside,
    l1,
    black_box,
    weaker_attackers,
    losses_apart,
)
PROBED: tuple[Check, ...] = (zero_gradient, labels_only, broken_gradient, more_effort, huge_eps, not_monotone)
CHECKS: dict[str, Check] = {check.__name__: check for check in (*ALWAYS, *PROBED)}


def names_of_checks(findings: Findings) -> tuple[str, ...]:
    """Returns the names of the checks that these findings allow: without probes some are left out."""
    return tuple(name for name, check in CHECKS.items() if findings.probes is not None or check not in PROBED)


def alarms(findings: Findings) -> tuple[str, ...]:
    """Returns the sentences of all checks that found something."""
    return tuple(sentence for check in CHECKS.values() if (sentence := check(findings)))


def _room(threshold: float, images: int, of: int) -> float:
    """Returns the difference that raises an alarm: a threshold, at least the share of one image less than required."""
    return max(threshold, (images - 1) / of) if of else threshold


def _below_white_box(findings: Findings, kinds: Iterable[str], threshold: float) -> tuple[str, float, float] | None:
    """Returns (name, accuracy, that of all before it) of the first attack of some kinds that beats the white-box ones.

    In columns, where order means nothing, those after it count as well.
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
    """Returns (name, accuracy, name, accuracy) of APGD on cross entropy and of APGD on DLR.

    In a cascade the second accuracy is that of both; the first then that of all that ran before the second. Both are
    after as many runs as the one with fewer has.
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
